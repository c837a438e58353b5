"""Every benchmark's and every corpus metric's headline is in each table, figure, page and layout that sums cells up."""

import pytest
from report_store import write_cell

from fairloop.catalogue import catalogue
from fairloop.measures.measurement import Measurement
from fairloop.metrics.calibration import Place
from fairloop.report.calibration.tables import Calibration, summary_table
from fairloop.report.difference.changes import compare, select
from fairloop.report.evaluate import benchmark_table
from fairloop.report.fair_gender.effects import debiasings
from fairloop.report.fair_gender.tables import method_table
from fairloop.report.payload import cell_data, configurations
from fairloop.report.read import read_runs
from fairloop.report.recursion.conditions import conditions
from fairloop.report.recursion.strategies import comparisons
from fairloop.report.recursion.tables import metric_tables, reduction_table
from fairloop.report.wandb.report import LAYOUTS
from fairloop.sweep.table import headline

BENCHMARKS = catalogue().families("plm")
CORPUS = catalogue().families("corpus")


def of(family):
    """The headline measures of a family, by their names."""
    return [row.pattern for row in catalogue().headlines() if row.family == family]


def evaluated(folder, family, shift=0.0):
    """Write a cell of the study evaluate that measured every headline of a family, and what it skipped."""
    config = {"study": {"name": "evaluate"}, "plm": {"name": "mine"}, "benchmark": {"name": family}, "seed": 0}
    rows = [(None, metric, 15.6 + shift, 14.0 + shift, 17.0 + shift, 90) for metric in of(family)]
    rows += [(None, f"{family}/skipped", 3.0, None, None, 90), (None, f"{family}/tokens", 7.0, None, None, 90)]
    write_cell(folder, config, rows)
    return folder


def test_every_family_has_a_headline():
    assert {"winobias", "stereoset", "crows_pairs", "seat", "glue", "perplexity"} <= set(BENCHMARKS)
    assert {"rule", "embedding", "downstream", "diversity", "generation"} <= set(CORPUS)
    assert all(of(family) for family in (*BENCHMARKS, *CORPUS))


@pytest.mark.parametrize("family", BENCHMARKS)
def test_a_benchmark_is_summed_up_wherever_cells_are(tmp_path, family):
    folder = evaluated(tmp_path / "evaluate" / "a", family)
    cells = read_runs(tmp_path).cells
    table = benchmark_table(cells)
    assert {row[1] for row in table.rows} == set(of(family))
    assert table.rows[0][2] == "15.60 [14.0, 17.0]"
    data, _ = cell_data(cells, configurations(cells)[1])
    for metric in of(family):
        assert f'["{metric}",' in data.partition('"metrics"')[0].replace("\\u003c", "<")
    for study in ("evaluate", "fair_gender"):
        assert set(of(family)) <= {row.pattern for row in LAYOUTS[study].metrics}
    assert {name.partition("@")[0] for name in headline(folder)} <= set(of(family))
    assert headline(folder)


@pytest.mark.parametrize("family", BENCHMARKS)
def test_counts_are_no_results_where_two_cells_are_compared(tmp_path, family):
    first, second = (evaluated(tmp_path / "evaluate" / name, family, shift) for name, shift in (("a", 0), ("b", 9.0)))
    found = compare(select(str(first)), select(str(second)))
    assert {one.metric for one in found.headline} == set(of(family))
    assert len({one.adjusted for one in found.headline}) == 1  # tested together, and nothing beside them
    counts = [one for one in found.further if not catalogue().is_result(one.metric)]
    assert f"{family}/skipped" in {one.metric for one in counts}
    assert all(one.p_value != one.p_value for one in counts)  # NaN


@pytest.mark.parametrize("family", BENCHMARKS)
def test_methods_of_debiasing_are_compared_by_every_benchmark(tmp_path, family):
    compared = [row for row in catalogue().rows if row.family == family and row.compares_methods and row.is_name]
    rows = [row.pattern for row in sorted(compared, key=lambda row: row.place)]
    assert rows
    for seed in (0, 1):
        config = {"study": {"name": "fair_gender"}, "plm": {"name": "mine"}, "debias": {"name": "cda"}, "seed": seed}
        measures = [(None, f"{when}{metric}", 3.0, 2.0, 4.0, 9) for metric in rows for when in ("", "before/")]
        write_cell(tmp_path / "fair_gender" / str(seed), config, measures)
    (found,) = debiasings(read_runs(tmp_path).cells)
    assert [score.pattern for score in found.scores] == rows
    for row, title in zip(rows, method_table(found).columns[2:], strict=True):
        assert title.startswith(catalogue().title(row))


@pytest.fixture(scope="module")
def recursion(tmp_path_factory):
    """Cells with and without a mitigation that have every headline measure of a corpus."""
    runs_dir = tmp_path_factory.mktemp("runs")
    metrics = [row.pattern for row in catalogue().headlines("corpus")]
    for number, mitigation in enumerate(({}, {"augment": {}})):
        for seed in (0, 1):
            config = {
                "study": {"name": "recursion", "generations": 1, "sentences": 90},
                "model": {"name": "gemma"},
                "initial_bias": {"level": 0.3},
                "mitigation": mitigation,
                "seed": seed,
            }
            rows = [(place, metric, 0.4, 0.3, 0.5, 90) for place in (0, 1) for metric in metrics]
            write_cell(runs_dir / "recursion" / f"{number}{seed}", config, rows)
    return read_runs(runs_dir).cells


@pytest.mark.parametrize("family", CORPUS)
def test_a_metric_of_a_corpus_is_in_the_tables_the_page_and_the_layout(recursion, family):
    found = conditions(recursion)
    columns = {column for table in metric_tables(found[0], single=True, in_full=True) for column in table.columns}
    (compared,) = comparisons(found)
    reduced = {row[1] for row in reduction_table(compared).rows}
    data, _ = cell_data(recursion, configurations(recursion)[1])
    for metric in of(family):
        assert catalogue().label(metric) in columns
        assert f'["{metric}",' in data
        assert metric in {row.pattern for row in LAYOUTS["recursion"].metrics}
        assert (catalogue().title(metric) in reduced) == catalogue().of(metric).is_bias


@pytest.mark.parametrize("family", [family for family in CORPUS if family != "generation"])
def test_a_metric_of_a_corpus_is_in_its_calibration(family):
    rows = [Measurement(Place(metric, 50, "slope").name, 1.0, 0.9, 1.1, 6) for metric in of(family)]
    calibration = Calibration.of(rows, "a", "0", 0.0)
    assert calibration.headline == of(family)
    assert [row[0] for row in summary_table(calibration).rows] == [catalogue().label(metric) for metric in of(family)]
