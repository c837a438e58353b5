"""Weights & Biases as a user meets it: offline runs that hold everything, and no service in the way of a study."""

import json
import time

import pytest
from command import SMALL, cells, fairloop
from wandb_reader import ended_run, offline_runs

from fairloop.files import cache_folder

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(900)]

TINY = (*SMALL, "study.sentences=8", "study.generations=1")


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """Three cells in one multirun, logged offline."""
    folder = tmp_path_factory.mktemp("sweep")
    done = fairloop("-m", "initial_bias=low,medium,high", *TINY, "tracking=offline", cwd=folder)
    assert done.returncode == 0, done.stderr
    return cells(folder / "runs"), done


def test_three_cells_are_three_runs_told_apart_by_their_level(sweep):
    folders, _ = sweep
    runs = [ended_run(cell) for cell in folders]
    assert [run.run_id for run in runs] == [cell.name for cell in folders]
    assert len(folders) == 3
    assert {run.job_type for run in runs} == {"recursion"}
    levels = ("low", "medium", "high")
    conditions = {" ".join(run.group.split()[:4]) for run in runs}
    assert conditions == {f"smollm2_135m_instruct none level {level}" for level in levels}
    assert {run.config["sweep"] for run in runs} == {"recursion"}
    assert all(run.name == f"{run.group} seed 0" for run in runs)
    assert {tuple(run.tags[3:]) for run in runs} == {(f"initial_bias:{level}", "seed:0") for level in levels}
    assert sorted(run.config["initial_bias"]["level"] for run in runs) == [0.1, 0.3, 0.6]
    assert all({"recursion", "smollm2_135m_instruct", "mitigation:none"} <= set(run.tags) for run in runs)


def test_every_metric_of_every_generation_is_logged_against_generation(sweep):
    for cell in sweep[0]:
        run = ended_run(cell)
        result = json.loads((cell / "result.json").read_text())
        for name, value in result.items():
            metric, generation = name.split("@")
            assert dict(run.series(metric))[int(generation)] == pytest.approx(value)
            assert run.step_metrics[metric] == "generation"
        assert run.exit_code == 0


def test_sentences_and_corpora_are_there(sweep):
    run = ended_run(sweep[0][0])
    rows = [row for row in run.history if "sentences" in row]
    assert [row["generation"] for row in rows] == [0, 1]
    table = run.table(rows[1])
    assert len(table["data"]) == 8
    assert "text" in table["columns"]
    datasets = [artifact for artifact in run.artifacts if artifact["type"] == "dataset"]
    assert len(datasets) == 2


@pytest.mark.parametrize(
    ("options", "env", "says"),
    [
        (["tracking=none"], {}, "not used"),
        ([], {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": "0" * 40}, "cannot be reached"),
        ([], {}, "no API key"),
    ],
    ids=["none", "closed port", "no key"],
)
def test_the_study_completes_without_the_service_and_says_so_once(options, env, says, tmp_path):
    began = time.monotonic()
    done = fairloop(
        *TINY,
        "study.metrics=[rule_based]",  # what is measured is not asked here
        *options,
        cwd=tmp_path,
        env={**env, "HOME": str(tmp_path), "FAIRLOOP_CACHE": str(cache_folder())},
    )
    assert done.returncode == 0, done.stderr
    lines = [line for line in (done.stdout + done.stderr).splitlines() if "Weights & Biases" in line]
    assert len(lines) == 1
    assert says in lines[0]
    assert time.monotonic() - began < 200
    (cell,) = cells(tmp_path / "runs")
    assert len(offline_runs(cell)) == (0 if options else 1)
