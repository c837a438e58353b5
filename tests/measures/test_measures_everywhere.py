"""Every benchmark and every metric family is seen in every place that shows results: a fake cell of each is made."""

import json
from pathlib import Path

import pytest

from fairloop.benchmarks.registry import benchmarks
from fairloop.catalogue import catalogue
from fairloop.measures.measurement import Measurement
from fairloop.metrics.registry import metrics
from fairloop.sweep.table import headline
from fairloop.tracking.store import Cell
from fairloop.tracking.wandb_sweep import comparison
from fairloop.tracking.wandb_values import goal_of, numbers

GENERATION = 2


def measures_of(rows):
    """A value for each declared measure, counts first, as they may stand in a result; wildcards become a group."""
    ordered = sorted(rows, key=lambda row: not row.count)
    return [Measurement(row.pattern.replace("*", "some"), 12.5, 10.0, 15.0, 40) for row in ordered]


def headlines_of(rows):
    return {row.pattern for row in rows if row.headline and row.is_name}


def cell_of(folder: Path, study: str, results) -> Cell:
    cell = Cell.open(folder, study, {"seed": 1}, {"seed": 1, "study": {"name": study}})
    with cell.working():
        cell.write_results(results)
    return cell


BENCHMARKS = {name: benchmark.declared for name, benchmark in benchmarks().items()}
FAMILIES = {name: metric.measures for name, metric in metrics().items()}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmarks_headline_is_in_the_sweeps_table_and_in_weights_and_biases(name, tmp_path):
    rows = BENCHMARKS[name]
    cell = cell_of(tmp_path, "evaluate", {None: measures_of(rows)})
    table = headline(cell.folder)
    assert headlines_of(rows) & set(table)
    assert all(catalogue().is_headline(metric) for metric in table)
    assert f"{name}/skipped" not in table
    (row,) = comparison([cell], catalogue())
    assert headlines_of(rows) <= set(row)
    assert f"{name}/skipped" not in row


@pytest.mark.parametrize("name", BENCHMARKS)
def test_before_a_debiasing_the_same_measures_are_no_headline_of_the_sweeps_table(name, tmp_path):
    measured = measures_of(BENCHMARKS[name])
    before = [Measurement(f"before/{one.metric}", one.value, None, None, one.n) for one in measured]
    cell = cell_of(tmp_path, "fair_gender", {None: [*before, *measured]})
    assert headline(cell.folder) == headline(cell_of(tmp_path / "alone", "evaluate", {None: measured}).folder)
    (row,) = comparison([cell], catalogue())
    assert {f"before/{metric}" for metric in headlines_of(BENCHMARKS[name])} <= set(row)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_metrics_headline_of_the_last_generation_is_in_the_sweeps_table_and_in_weights_and_biases(name, tmp_path):
    rows = FAMILIES[name]
    results = {generation: measures_of(rows) for generation in range(GENERATION + 1)}
    cell = cell_of(tmp_path, "recursion", results)
    table = headline(cell.folder)
    assert {f"{metric}@{GENERATION}" for metric in headlines_of(rows)} & set(table)
    assert all(catalogue().is_headline(metric) for metric in table)
    (row,) = comparison([cell], catalogue())
    assert headlines_of(rows) <= set(row)


@pytest.mark.parametrize(("name", "rows"), {**BENCHMARKS, **FAMILIES}.items())
def test_what_weights_and_biases_is_told_of_a_headline_fits_its_goal(name, rows, tmp_path):
    for row in rows:
        if not row.headline or not row.is_name:
            continue
        logged = numbers([Measurement(row.pattern, 12.5, None, None, 40)], catalogue())
        goals = {goal_of(metric, catalogue()) for metric in logged} - {""}
        assert goals == ({"minimize"} if row.goal == "ideal" else {row.goal} - {""}), row.pattern


def test_a_cell_without_a_headline_shows_its_results_and_not_its_counts(tmp_path):
    measured = [
        Measurement("seat/skipped", 0.0, None, None, 3),
        Measurement("seat/sent-weat6/effect_size", 0.4, None, None, 30),
    ]
    cell = cell_of(tmp_path, "evaluate", {None: measured})
    assert list(headline(cell.folder)) == ["seat/sent-weat6/effect_size"]


def test_an_unreadable_result_has_no_headline(tmp_path):
    (tmp_path / "result.json").write_text(json.dumps({"a": 1})[:-1])
    assert headline(tmp_path) == {}
