"""Run the command as a user does: another process, its own folder, no terminal, no Weights & Biases account."""

import os
import subprocess
import sys
from pathlib import Path

# The packaged chat model: its head is a fifth of the other one's, and most of the time goes there.
SMALL = (
    "model=smollm2_135m_instruct",
    "study.sentences=12",
    "study.generations=2",
    "study.prompt_group=4",
    "study.resamples=100",
    "trainer.threads=1",
)


def environment(**extra):
    kept = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
    return {**kept, "HF_HUB_OFFLINE": "1", **extra}


def start(*arguments, cwd, **options):
    command = [sys.executable, "-m", "fairloop", *arguments]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=cwd, env=environment(**options.pop("env", {})), **pipes, **options)


def fairloop(*arguments, cwd, env=None, timeout=300):
    process = start(*arguments, cwd=cwd, env=env or {})
    out, err = process.communicate(timeout=timeout)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def cells(runs_dir, study="recursion"):
    return sorted(path for path in Path(runs_dir, study).iterdir() if (path / "status.json").exists())


def results(cell):
    """What has to be the same bytes in every run: results, corpora and measures."""
    paths = [cell / "result.json", cell / "metrics.csv", *sorted(cell.glob("stages/*/*"))]
    return {str(path.relative_to(cell)): path.read_bytes() for path in paths if path.name != "stage.json"}
