"""Whole sweeps of quick cells: killed and restarted, failing, shared by two commands, by every launcher, searched."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
sys.path += [str(TESTS / folder) for folder in ("end_to_end", "plm", "benchmarks")]

from command import cells, fairloop, results, start  # noqa: E402

from fairloop.app import command  # noqa: E402

STUDY = "evaluate"
GRID = ("benchmark.resamples=50,60", "seed=0,1,2")
COMPUTED = "crows_pairs of bert_base: 60/60"  # said once by each cell that is computed

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Return the overrides of cells that take a moment: a random BERT on a few CrowS-Pairs rows."""
    from plm_models import tiny
    from test_benchmarks_crows_pairs import PAIRS, to_csv

    folder = tmp_path_factory.mktemp("inputs")
    model, tokenizer, _ = tiny("bert")
    for name in ("model", "broken"):
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    weights = folder / "broken" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:200])
    (folder / "crows_pairs_anonymized.csv").write_text(to_csv(PAIRS))
    chosen = ["study=evaluate", "plm=bert_base", f"plm.path={folder}/model", "plm.device=cpu", "benchmark=crows_pairs"]
    return [*chosen, f"benchmark.data={folder}", "benchmark.verify=false", "trainer.threads=1"]


@pytest.fixture(scope="module")
def finished(inputs, tmp_path_factory):
    """The results of an undisturbed sweep in one process, by cell."""
    folder = tmp_path_factory.mktemp("finished")
    assert command(["-m", *inputs, *GRID, "tracking=none", f"runs_dir={folder}/runs"]) == 0
    return found(folder / "runs")


def found(runs_dir):
    return {cell.name: results(cell) for cell in cells(runs_dir, STUDY)}


def broken(inputs):
    """Return the overrides with a second model whose weights are damaged."""
    paths = next(text for text in inputs if text.startswith("plm.path"))
    return [text if text != paths else f"{paths},{paths.split('=')[1][:-5]}broken" for text in inputs]


def stamps(runs_dir):
    """Return what would change if a finished cell were computed again: inode and time of its files."""
    done = {}
    for cell in cells(runs_dir, STUDY) if (runs_dir / STUDY).is_dir() else []:
        if json.loads((cell / "status.json").read_text())["status"] == "complete":
            files = [cell / "result.json", cell / "stages" / "01-scores" / "stage.json"]
            done[cell.name] = [(file.stat().st_ino, file.stat().st_mtime_ns) for file in files]
    return done


@pytest.mark.parametrize(
    "kills", [pytest.param(1, id="1 kill"), pytest.param(10, id="10 kills", marks=pytest.mark.slow)]
)
def test_killed_at_random_moments_the_sweep_ends_with_the_same_bytes(inputs, finished, tmp_path, kills):
    chosen = ["-m", *inputs, *GRID, "hydra/launcher=fairloop_joblib", "tracking=offline"]
    moments, runs_dir, before = random.Random(kills), tmp_path / "runs", {}
    for _ in range(kills):
        process = start(*chosen, cwd=tmp_path, start_new_session=True)
        done = len(before)
        while process.poll() is None and len(before) == done < len(finished) - 1:  # a kill after some progress
            time.sleep(0.05)
            before = stamps(runs_dir)
        time.sleep(moments.uniform(0, 3))
        before |= stamps(runs_dir)
        assert process.poll() in (None, 0), process.communicate()
        with suppress(ProcessLookupError):  # it came to its end before the moment did
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    last = fairloop(*chosen, cwd=tmp_path)
    assert last.returncode == 0, last.stderr
    assert found(runs_dir) == finished
    after = stamps(runs_dir)
    assert len(before) >= min(kills, len(finished) - 1)
    assert {name: after[name] for name in before} == before  # no finished cell was computed again
    for cell in cells(runs_dir, STUDY):
        (run,) = (cell / "wandb").glob("offline-run-*")
        assert run.name.endswith(cell.name)


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher", [["fairloop_joblib"], ["fairloop_submitit"], ["fairloop_ray", "hydra.launcher.ray.init.num_cpus=2"]]
)
def test_every_launcher_gives_the_same_bytes(inputs, finished, tmp_path, launcher):
    name, *more = launcher
    done = fairloop("-m", *inputs, *GRID, *more, f"hydra/launcher={name}", "tracking=none", cwd=tmp_path, timeout=800)
    assert done.returncode == 0, done.stderr
    assert found(tmp_path / "runs") == finished
    assert "1 processor thread each" in done.stdout or "cells at once" in done.stdout


def test_two_sweeps_at_once_share_their_cells(inputs, finished, tmp_path):
    both = [start("-m", *inputs, *GRID, "tracking=none", cwd=tmp_path) for _ in range(2)]
    ends = [(process.communicate(timeout=400), process.returncode) for process in both]
    assert [code for _, code in ends] == [0, 0], ends
    assert found(tmp_path / "runs") == finished
    assert sum(out.count(COMPUTED) for (out, _), _ in ends) == len(finished)


def test_a_failed_cell_keeps_no_other_from_running_and_is_tried_again_or_listed(inputs, tmp_path, capsys):
    chosen = ["-m", *broken(inputs), "benchmark.resamples=50", "seed=0,1", "tracking=none", f"runs_dir={tmp_path}/runs"]
    assert command(chosen) == 1
    said = capsys.readouterr()
    assert said.out.startswith(f"4 cells in {tmp_path}/runs: 0 complete, 4 to do\n")
    assert said.out.count(COMPUTED) == 2
    assert said.err.count("cannot load the model") == 2
    table = said.out[said.out.index("Cells") :]
    assert len(re.findall(r"\bcomplete\b", table)) == 2
    assert len(re.findall(r"\bfailed", table)) >= 2
    # Again: the finished ones are left, the failed ones tried once more, or listed and left.
    assert command(chosen) == 1
    said = capsys.readouterr()
    assert "2 complete, 0 to do, 2 failed (tried again)" in said.out
    assert COMPUTED not in said.out
    assert command([*chosen, "retry_failed=false"]) == 1
    said = capsys.readouterr()
    assert "2 complete, 0 to do, 2 failed (not tried again)" in said.out
    assert said.out.count("failed, not tried again (retry_failed=false): evaluate/") == 2


def test_a_sweep_that_stops_at_a_failure_starts_no_other_cell(inputs, tmp_path, capsys):
    paths = next(text for text in broken(inputs) if text.startswith("plm.path="))
    good, bad = paths.removeprefix("plm.path=").split(",")
    others = [text for text in inputs if not text.startswith("plm.path=")]
    chosen = [
        "-m",
        *others,
        f"plm.path={bad},{good}",
        "benchmark.resamples=50",
        "seed=0,1",
        "tracking=none",
        f"runs_dir={tmp_path}/runs",
        "on_failure=stop",
    ]
    assert command(chosen) == 1
    said = capsys.readouterr()
    assert COMPUTED not in said.out
    assert "3 cells not started after a failure (on_failure=stop)" in said.err
    # The other choice goes on with them, with the same cells.
    assert command([*chosen, "on_failure=continue"]) == 1
    said = capsys.readouterr()
    assert said.out.count(COMPUTED) == 2
    assert not (tmp_path / "runs" / ".sweeps").exists()


def test_the_time_left_is_estimated_from_cells_that_differ_in_seed(inputs, finished, tmp_path, capsys):
    small = ["-m", *inputs, "benchmark.resamples=50", "tracking=none", f"runs_dir={tmp_path}/runs"]
    assert command([*small, "seed=0,1"]) == 0
    assert "no estimate of the time" in capsys.readouterr().out
    assert command([*small, "seed=0,1,2"]) == 0
    out = capsys.readouterr().out
    assert "3 cells" in out.splitlines()[0]
    assert re.search(r"about \d+ s of computing left \(by finished cells that differ in seed or level alone\)", out)


def test_a_finished_sweep_of_100_cells_answers_in_seconds_without_torch(tmp_path):
    from bench.sweep import grid, plan, write_cell

    for job in plan([*grid(100), f"runs_dir={tmp_path}/runs"]):
        write_cell(job)
    code = """if True:
        import sys, time
        from fairloop import app
        from fairloop.report import cli
        def draw(runs_dir, cells, console):  # the report itself is not what is measured here
            (runs_dir / "report").mkdir(exist_ok=True)
            (runs_dir / "report" / "report.html").write_text(f"{len(cells)} cells")
            print("drawn")
        cli.show_report = draw
        status = app.command(sys.argv[1:])
        print(status, time.process_time(), sorted({"torch", "transformers", "wandb"} & set(sys.modules)))
        """
    for drawn in (True, False):  # the first time draws the report, the second finds it
        command = [sys.executable, "-c", code, "-m", *grid(100)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        lines = done.stdout.splitlines()
        assert lines[0] == "100 cells in runs: 100 complete, 0 to do"
        assert ("drawn" in lines) == drawn
        assert done.stdout.count(" complete ") >= 100
    status, seconds, loaded = lines[-1].split(" ", 2)
    assert (status, loaded) == ("0", "[]")
    assert float(seconds) < 5  # of this process: what else runs on the machine does not count


@pytest.mark.slow
def test_a_killed_search_goes_on_and_is_searched_once(inputs, tmp_path):
    pytest.importorskip("optuna")
    search = ["hydra/sweeper=fairloop_optuna", "hydra.sweeper.n_trials=5", "objective=crows_pairs/overall/score"]
    chosen = [
        "-m",
        *inputs,
        *search,
        "hydra.sweeper.sampler.seed=1",
        "benchmark.resamples=range(20,90)",
        "seed=range(0,99)",
    ]
    process = start(*chosen, cwd=tmp_path, start_new_session=True)
    while process.poll() is None and len(stamps(tmp_path / "runs")) < 2:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    before = stamps(tmp_path / "runs")
    last = fairloop(*chosen, cwd=tmp_path)
    assert last.returncode == 0, last.stderr
    after = stamps(tmp_path / "runs")
    assert {name: after[name] for name in before} == before
    assert len(re.findall(r"^ +\d+ .*complete", last.stdout, re.MULTILINE)) == 5
    assert "best:" in last.stdout
    again = fairloop(*chosen, cwd=tmp_path)
    assert again.returncode == 0
    assert "5 trials complete, 0 to do" in again.stdout
    assert stamps(tmp_path / "runs") == after


def workers_of(process):
    """Return the processes in which joblib runs the cells of a command."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            parent = int((place.parent / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == process.pid and b"popen_loky" in place.read_bytes():
                found.append(int(place.parent.name))
    return found


@pytest.mark.slow
def test_a_killed_worker_of_joblib_costs_its_cell_no_more_than_time(inputs, finished, tmp_path):
    chosen = [*inputs, *GRID, "tracking=none", "hydra/launcher=fairloop_joblib", "hydra.launcher.n_jobs=2"]
    process = start("-m", *chosen, cwd=tmp_path, start_new_session=True)
    folder = tmp_path / "runs" / STUDY
    while process.poll() is None and not list(folder.glob("*/status.json")):
        time.sleep(0.02)
    os.kill(workers_of(process)[0], signal.SIGKILL)
    _, err = process.communicate(timeout=400)
    assert process.returncode == 0, err
    assert "a process of the launcher ended" in err
    assert found(tmp_path / "runs") == finished


def submitit_process(folder):
    """Return the process of a submitit job that keeps its logs below the folder; None if there is none now."""
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            line = place.read_bytes().decode(errors="replace")
            if "submitit.core._submit" in line and str(folder) in line:
                return int(place.parent.name)
    return None


@pytest.mark.slow
def test_a_preempted_job_of_submitit_goes_on_with_its_cell(inputs, finished, tmp_path):
    """The signal that SLURM sends before it takes a node away: the job is queued again, by submitit or by us."""
    preempted = getattr(signal, f"SIG{os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')}")
    chosen = [*inputs, "benchmark.resamples=50", "seed=0,1", "tracking=none", "hydra/launcher=fairloop_submitit"]
    process = start("-m", *chosen, "hydra.launcher.cpus_per_task=64", cwd=tmp_path, start_new_session=True)
    folder = tmp_path / "runs" / STUDY
    while process.poll() is None and not list(folder.glob("*/status.json")):
        time.sleep(0.02)
    job = submitit_process("runs/.sweeps")
    assert job is not None
    os.kill(job, preempted)
    _, err = process.communicate(timeout=400)
    assert process.returncode == 0, err
    logs = "".join(path.read_text() for path in (tmp_path / "runs" / ".sweeps").rglob("*_log.*"))
    assert "this job is preempted" in logs
    assert "Requeued job" in logs or "a process of the launcher ended" in err
    done = found(tmp_path / "runs")
    assert len(done) == 2
    assert done == {name: finished[name] for name in done}
