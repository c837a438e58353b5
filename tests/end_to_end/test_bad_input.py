"""Wrong commands: one line that names key, value and what is allowed; status 2; nothing is written."""

import os
import subprocess
import sys

import pytest

MISTAKES = {
    "unknown model": (["model=gema_3_270m"], ["model=gema_3_270m", "gemma_3_270m", "gemma_2_2b_it"]),
    "unknown study": (["study=recursions"], ["study=recursions", "recursion"]),
    "unknown level name": (["initial_bias=huge"], ["initial_bias=huge", "low, medium"]),
    "unknown mitigation": (["mitigation=magic"], ["mitigation=magic", "none"]),
    "unknown trainer": (["trainer=tpu"], ["trainer=tpu", "cpu"]),
    "unknown tracking": (["tracking=cloud"], ["tracking=cloud", "offline"]),
    "unknown experiment": (["experiment=demoo"], ["experiment=demoo", "demo"]),
    "level above 1": (["initial_bias.level=1.5"], ["initial_bias.level=1.5", "at least 0 and at most 1"]),
    "level below 0": (["initial_bias.level=-0.1"], ["initial_bias.level=-0.1", "at least 0"]),
    "level no number": (["initial_bias.level=high"], ["initial_bias.level=high", "a number"]),
    "not parseable": (["initial_bias.level=high!"], ["initial_bias.level=high!", "key=value"]),
    "neutral share": (["initial_bias.neutral_share=2"], ["initial_bias.neutral_share=2", "at most 1"]),
    "zero sentences": (["study.sentences=0"], ["study.sentences=0", "at least 1"]),
    "half a sentence": (["study.sentences=2.5"], ["study.sentences=2.5", "whole number"]),
    "no sentences": (["study.sentences=null"], ["study.sentences=null", "whole number"]),
    "zero generations": (["study.generations=0"], ["study.generations=0", "at least 1"]),
    "more examples than sentences": (
        ["study.examples=30", "study.sentences=20"],
        ["study.examples=30", "study.sentences (20)"],
    ),
    "yield above 1": (["study.min_yield=2"], ["study.min_yield=2", "at most 1"]),
    "negative seed": (["seed=-1"], ["seed=-1", "at least 0"]),
    "text for a seed": (["seed=first"], ["seed=first", "whole number"]),
    "negative temperature": (["model.temperature=-1"], ["model.temperature=-1", "at least 0"]),
    "top_p 0": (["model.top_p=0"], ["model.top_p=0", "above 0"]),
    "top_p above 1": (["model.top_p=1.5"], ["model.top_p=1.5", "at most 1"]),
    "negative top_k": (["model.top_k=-3"], ["model.top_k=-3", "at least 0"]),
    "empty batch": (["model.batch_size=0"], ["model.batch_size=0", "at least 1"]),
    "unknown dtype": (["model.dtype=float8"], ["model.dtype=float8", "bfloat16"]),
    "tracking mode": (["tracking.mode=sometimes"], ["tracking.mode=sometimes", "offline"]),
    "misspelled key": (["study.sentenses=5"], ["study.sentenses=5", "study.sentences"]),
    "added key": (["+model.extra=1"], ["model.extra=1", "unknown key"]),
    "unknown group": (["modle=gemma_3_270m"], ["modle=gemma_3_270m", "unknown key", "model"]),
    "no equals sign": (["gemma"], ["gemma", "key=value"]),
    "group without choice": (["model=null"], ["model=null"]),
    "group removed": (["~model"], ["model", "missing"]),
    "sweep without -m": (["initial_bias=low,high"], ["initial_bias=low,high", "-m"]),
    "one bad cell in a sweep": (["-m", "seed=0,1,-2"], ["seed=-2", "at least 0"]),
    "unwritable runs_dir": (["runs_dir=/dev/null/runs"], ["runs_dir=/dev/null/runs"]),
    "empty runs_dir": (["runs_dir=''"], ["runs_dir="]),
    "no such model folder": (["model.path=./no/such/folder"], ["model.path=./no/such/folder"]),
    "no such packaged model": (["model.path=embedded:gemma-9"], ["model.path=embedded:gemma-9", "gemma-3-270m"]),
    "no such encoder": (["study.encoder=embedded:nope"], ["study.encoder=embedded:nope", "all-minilm-l6-v2"]),
    "revision of a packaged model": (["model.revision=abc"], ["model.revision=abc"]),
    "no such config folder": (["--config-dir", "nowhere"], ["nowhere"]),
    "interpolation": (["runs_dir=${nowhere}"], ["nowhere"]),
}


def fairloop(*arguments, cwd, env=None):
    """Run the command in an empty folder as a user does."""
    command = [sys.executable, "-m", "fairloop", *arguments]
    environment = {**os.environ, "FAIRLOOP_CACHE": str(cwd / "cache"), **(env or {})}
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL
    )


@pytest.mark.parametrize(("arguments", "named"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_gets_one_line_and_status_2_and_writes_nothing(arguments, named, tmp_path):
    done = fairloop(*arguments, cwd=tmp_path)
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 2, done.stderr
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("fairloop: ")
    for part in named:
        assert part in lines[0]
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []
