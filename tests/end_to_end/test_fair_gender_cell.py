"""A cell of the study fair_gender on a small random model: killed inside the incorporation, and started again."""

import hashlib
import json
import signal
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path += [str(TESTS), str(TESTS / "studies"), str(TESTS / "tracking")]

CHOSEN = (
    "tracking.mode=offline", "study.benchmarks=[lpbs]", "debias.screen.fluency=none",
    "debias.steps=6", "debias.early_stopping.every=2", "trainer.checkpoint_every_steps=1",
)  # fmt: skip
KILL = """
import os, signal, sys
sys.path[:0] = {paths!r}
from test_studies_fair_gender import run
from fairloop.debias.fair_gender.loss import FairGenderModule
original, calls = FairGenderModule.loss_parts, []
def killing(self, batch):
    calls.append(self.global_step)
    if len(calls) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(self, batch)
FairGenderModule.loss_parts = killing
run({plm!r}, {runs!r}, *{chosen!r})
"""


def outputs(cell):
    """Checksums of the results, and of what the incorporation left."""
    (model,) = cell.glob("stages/*-incorporation/model")
    paths = [cell / "result.json", cell / "metrics.csv", *sorted(model.iterdir())]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def test_killed_in_the_incorporation_it_ends_with_the_same_weights_and_one_tracked_run(tmp_path, monkeypatch):
    from command import environment
    from test_studies_fair_gender import run, template_plm
    from wandb_reader import ended_run, offline_runs

    from fairloop.debias.fair_gender.loss import FairGenderModule

    plm, runs = template_plm(tmp_path / "plm"), tmp_path / "runs"
    folders = {name: str(tmp_path / name) for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR")}
    code = KILL.format(paths=[str(TESTS), str(TESTS / "studies")], plm=str(plm), runs=str(runs), chosen=CHOSEN)
    killed = subprocess.run(
        [sys.executable, "-c", code], env=environment(**folders), capture_output=True, text=True, timeout=240
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    (cell,) = (runs / "fair_gender").iterdir()
    assert json.loads((cell / "status.json").read_text())["status"] == "running"
    assert not list(cell.glob("stages/*-incorporation"))

    for name, folder in folders.items():
        monkeypatch.setenv(name, folder)
    steps, original = [], FairGenderModule.loss_parts

    def counting(self, batch):
        steps.append(self.global_step)
        return original(self, batch)

    monkeypatch.setattr(FairGenderModule, "loss_parts", counting)
    assert run(plm, runs, *CHOSEN) == cell
    assert steps == [3, 4, 5], "the training goes on from its last checkpoint"
    assert len(offline_runs(cell)) == 1
    tracked = ended_run(cell)
    assert (tracked.run_id, tracked.exit_code, tracked.summary["status"]) == (cell.name, 0, "complete")
    assert tracked.summary["lpbs/gap"] == json.loads((cell / "result.json").read_text())["lpbs/gap"]

    whole = run(plm, tmp_path / "whole", *CHOSEN, "tracking.mode=none")
    assert steps[3:] == [0, 1, 2, 3, 4, 5]
    assert whole.name == cell.name
    assert outputs(whole) == outputs(cell)
    assert "model.safetensors" in outputs(cell)
