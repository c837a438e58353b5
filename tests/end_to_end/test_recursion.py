"""The recursion study as a user runs it, with the packaged generator: results, resume, two processes, damage."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
from command import SMALL, cells, environment, fairloop, results, start
from datasets import Dataset

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One cell, run without any disturbance."""
    folder = tmp_path_factory.mktemp("finished")
    began = time.monotonic()
    done = fairloop(*SMALL, "tracking=none", cwd=folder)
    assert done.returncode == 0, done.stderr
    (cell,) = cells(folder / "runs")
    return cell, done, time.monotonic() - began


def test_the_cell_holds_what_the_run_store_promises(finished):
    cell, _, _ = finished
    names = {path.name for path in cell.iterdir()}
    assert names >= {"config.yaml", "environment.json", "stages", "metrics.csv", "result.json", "status.json"}
    assert json.loads((cell / "status.json").read_text())["status"] == "complete"
    metrics = pd.read_csv(cell / "metrics.csv")
    assert list(metrics.columns) == ["generation", "metric", "value", "low", "high", "n", "units"]
    assert set(metrics.generation) == {0, 1, 2}
    result = json.loads((cell / "result.json").read_text())
    family = {name.split("/")[0] for name in result}
    downstream = {"downstream", "downstream_pronoun", "downstream_hiring"}
    assert family == {"rule", "embedding", *downstream, "diversity", "generation"}
    # 30% of 12 sentences, rounded: 4 net stereotypical ones.
    assert result["rule/net_stereotype_rate@0"] == pytest.approx(4 / 12)


def test_the_numbers_follow_from_the_sentences(finished):
    cell, _, _ = finished
    result = json.loads((cell / "result.json").read_text())
    for generation, stage in enumerate(("01-seed-corpus", "03-generation-1", "05-generation-2")):
        corpus = Dataset.from_parquet(str(cell / "stages" / stage / "corpus.parquet"), keep_in_memory=True)
        assert len(corpus) == 12
        gendered = [label for label in corpus["gender"] if label in ("male", "female")]
        assert result[f"rule/net_stereotype_rate@{generation}"] == pytest.approx(sum(corpus["stereotype"]) / 12)
        assert result[f"rule/gendered_share@{generation}"] == pytest.approx(len(gendered) / 12)
        if gendered:
            product = result[f"rule/gendered_share@{generation}"] * result[f"rule/net_rate_among_gendered@{generation}"]
            assert product == pytest.approx(result[f"rule/net_stereotype_rate@{generation}"])
    writing = json.loads((cell / "stages" / "03-generation-1" / "writing.json").read_text())
    assert result["generation/yield@1"] == pytest.approx(12 / writing["asked"])
    assert writing["asked"] == 12 + sum(writing["rejected"].values())


def test_the_end_of_the_command_shows_table_equilibrium_and_paths(finished):
    cell, done, _ = finished
    assert "Equilibrium" in done.stdout
    assert "net rate B" in done.stdout
    report = cell.parents[1] / "report"
    for name in ("bias_by_generation.png", "report.html"):
        assert (report / name).stat().st_size > 1000
        assert name in done.stdout


def test_a_finished_cell_is_recognised_without_torch(finished):
    cell, _, _ = finished
    code = (
        "import sys; from fairloop.app import command; status = command(sys.argv[1:]); "
        "print('torch' in sys.modules, 'transformers' in sys.modules); sys.exit(status)"
    )
    before = results(cell)
    done = subprocess.run(
        [sys.executable, "-c", code, *SMALL, "tracking=none"],
        cwd=cell.parents[2],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[0] == "1 cell in runs: 1 complete, 0 to do"
    assert done.stdout.splitlines()[-1] == "False False"
    assert results(cell) == before


@pytest.mark.parametrize("kills", [2, pytest.param(12, marks=pytest.mark.slow)])
def test_killed_at_random_moments_the_result_is_the_same_bytes(finished, tmp_path, kills):
    reference, _, seconds = finished
    moments = random.Random(kills)
    killed = 0
    while killed < kills:
        process = start(*SMALL, "tracking=none", cwd=tmp_path, start_new_session=True)
        began = time.monotonic()
        try:
            process.wait(moments.uniform(0.05, 0.5) * seconds)  # the first run also converted the model
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            killed += 1
            continue
        if killed:
            break  # it came to its end before the moment did
        seconds = time.monotonic() - began  # the first run had less of the machine
        shutil.rmtree(tmp_path / "runs")
    done = fairloop(*SMALL, "tracking=none", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert killed > 0
    (cell,) = cells(tmp_path / "runs")
    assert results(cell) == results(reference)
    assert not [path for path in cell.rglob("*") if path.name.startswith(".") and path.name != ".lock"]


def test_killed_in_a_generation_and_between_stages(finished, tmp_path):
    reference, _, _ = finished
    stages = tmp_path / "runs" / "recursion" / reference.name / "stages"
    for folder in ("03-generation-1", "04-measures-1"):
        process = start(*SMALL, "tracking=none", cwd=tmp_path, start_new_session=True)
        before = "01-seed-corpus" if folder == "03-generation-1" else "03-generation-1"
        while process.poll() is None and not (stages / before).exists():
            time.sleep(0.01)
        time.sleep(1.0 if folder == "03-generation-1" else 0.0)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert not (stages / folder).exists()
    assert json.loads((stages.parent / "status.json").read_text())["status"] == "running"
    done = fairloop(*SMALL, "tracking=none", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert results(stages.parent) == results(reference)


def test_two_processes_on_one_cell_give_one_correct_result(finished, tmp_path):
    reference, _, _ = finished
    both = [start(*SMALL, "tracking=none", cwd=tmp_path) for _ in range(2)]
    ends = [(process.communicate(timeout=300), process.returncode) for process in both]
    assert [code for _, code in ends] == [0, 0], ends
    (cell,) = cells(tmp_path / "runs")
    assert results(cell) == results(reference)
    waiting = [err for (_, err), _ in ends if "another process is working on cell" in err]
    assert len(waiting) == 1


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-40], lambda data: data[:60] + b"x" + data[61:]], ids=["short", "altered"]
)
def test_a_damaged_stage_file_is_named_and_recomputed(finished, tmp_path, damage):
    reference, _, _ = finished
    subprocess.run(["cp", "-a", str(reference.parents[1]), str(tmp_path)], check=True)
    (cell,) = cells(tmp_path / "runs")
    corpus = cell / "stages" / "05-generation-2" / "corpus.parquet"
    corpus.write_bytes(damage(corpus.read_bytes()))
    done = fairloop(*SMALL, "tracking=none", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "05-generation-2/corpus.parquet" in done.stderr
    assert results(cell) == results(reference)


def test_another_seed_or_level_is_another_cell_and_another_corpus(finished, tmp_path):
    reference, _, _ = finished
    small = ["study.sentences=8", "study.generations=1", "study.prompt_group=4", "study.resamples=100"]
    done = fairloop("-m", "seed=1,2", "initial_bias=high", *small, "tracking=none", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    first, second = cells(tmp_path / "runs")
    assert reference.name not in (first.name, second.name)
    assert (
        results(first)["stages/01-seed-corpus/corpus.parquet"]
        != results(second)["stages/01-seed-corpus/corpus.parquet"]
    )


def test_mitigations_share_what_is_before_them_and_a_longer_run_what_is_written(tmp_path):
    small = ["study.sentences=8", "study.prompt_group=4", "study.resamples=100", "tracking=none"]
    done = fairloop("-m", "mitigation=none,prompt", "study.generations=1", *small, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    longer = fairloop("study.generations=2", *small, cwd=tmp_path)
    assert longer.returncode == 0, longer.stderr
    found = [path.parent.name.split("-")[:-1] for path in (tmp_path / "runs" / ".stages").glob("*/stage")]
    counts = {
        name: found.count(name.split("-")) for name in ("seed-corpus", "measures-0", "generation-1", "generation-2")
    }
    assert counts == {"seed-corpus": 1, "measures-0": 1, "generation-1": 2, "generation-2": 1}
