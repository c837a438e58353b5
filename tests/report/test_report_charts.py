"""What the page's figures and its first screen are given: the report's own numbers, and nothing that is too large."""

import json
import math
import re
from types import SimpleNamespace

import pytest
from fair_gender_store import make_grid as make_debiasing
from report_store import make_demo, make_grid
from scipy import stats

from fairloop.report import charts as module
from fairloop.report.charts import charts
from fairloop.report.fair_gender.effects import debiasings
from fairloop.report.outcome import MOST_LINES, counted_cells, outcomes
from fairloop.report.page import render_page
from fairloop.report.read import level_mean, read_runs
from fairloop.report.recursion.conditions import conditions, last_mean
from fairloop.report.recursion.strategies import DOWNSTREAM, comparisons
from fairloop.statistics.estimate import Estimate


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """The cells of a recursion grid and of Fair-Gender's, and what the report makes of them."""
    runs_dir = tmp_path_factory.mktemp("runs")
    make_grid(runs_dir, strategies=("none", "augment", "prompt"), noise=0.01)
    make_debiasing(runs_dir, ablations=("causal=none", "source=template"))
    runs = read_runs(runs_dir)
    found = conditions(runs.cells)
    return runs, found, comparisons(found), debiasings(runs.cells)


def drawn(parts):
    runs, *more = parts
    return {chart.id: chart for chart in charts(runs.cells, *more)}


def test_every_question_has_its_figure(parts):
    assert list(drawn(parts)) == [
        "chart-courses", "chart-decomposition", "chart-reductions-0", "chart-cloud", "chart-methods-0",
        "chart-ablation-0-0",
    ]  # fmt: skip


def test_the_numbers_are_those_of_the_tables(parts):
    _, _, (comparison,), (debiased,) = parts
    rows = drawn(parts)["chart-reductions-0"].panels[0]["rows"]
    (one,) = [row for row in rows if (row["label"], row["series"]) == ("augment", "as written")]
    (known,) = [
        found.reduction
        for found in comparison.reductions
        if (found.metric, found.condition.mitigation, found.after, found.last, found.level)
        == (DOWNSTREAM, "augment", False, True, None)
    ]
    assert [one["value"], one["low"], one["high"]] == [100 * known.value, 100 * known.low, 100 * known.high]
    effects = {(effect.variant.label, effect.score.title): effect.change for effect in debiased.effects}
    for panel in drawn(parts)["chart-methods-0"].panels:
        for row in panel["rows"]:
            change = effects[row["label"], panel["title"]]
            assert [row["value"], row["low"], row["high"]] == [change.value, change.low, change.high]
    labels = {row["label"] for panel in drawn(parts)["chart-ablation-0-0"].panels for row in panel["rows"]}
    assert labels == {"no filter by effect", "pairs from templates"}


def test_a_figure_of_too_many_rows_is_left_out_and_panels_are_bounded(parts, monkeypatch):
    monkeypatch.setattr(module, "MOST_ROWS", 3)
    monkeypatch.setattr(module, "MOST_PANELS", 2)
    found = drawn(parts)
    assert set(found) == {"chart-courses", "chart-cloud", "chart-ablation-0-0"} - {"chart-ablation-0-0"}
    assert len(found["chart-courses"].panels) == 2


def test_the_pages_data_holds_the_quantiles_titles_and_charts(parts):
    runs, found, compared, debiased = parts
    page = render_page(runs, found, None, compared, (), debiased)
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])
    assert data["t"][1] == pytest.approx(stats.t.ppf(0.975, 2), rel=1e-5)
    assert data["titles"]["rule/net_stereotype_rate"] == "net stereotype rate"
    assert len(data["charts"]) == 6
    assert "pairs/kept" not in data["metrics"] or "pairs/kept" in data["counts"]
    choices = {cell[3] for cell in data["cells"] if cell[1] == "fair_gender"}
    assert {"fair_gender", "fair_gender, no filter by effect", "cda", "none"} <= choices
    rows = re.findall(r'<tr data-about="([^"]*)"', page)
    assert any("no filter by effect" in row for row in rows)


def test_the_first_screen_says_what_came_out(parts):
    runs, found, compared, debiased = parts
    said = {one.about: one for one in outcomes(runs.cells, found, compared, debiased)}
    none = said["gemma_3_270m, mitigation none"]
    assert re.match(
        r"net stereotype rate B 0\.\d+ \[.*\] from 0\.1, .* from 0\.6 \(generation 3\); undecided: ", none.text
    )
    assert said["augment"].text.startswith("downstream bias ")
    assert "less than without (reduction " in said["augment"].text
    assert said["cda on minilm"].text.startswith("bias (held-out templates: |log odds|) -0.5")
    assert re.search(r"\(-0\.\d+ to -0\.\d+: better\); language skill \(.*: worse\)$", said["cda on minilm"].text)
    assert {one.section for one in said.values()} == {"trajectories", "mitigations", "debiasing"}
    assert counted_cells(runs.cells).startswith("42 finished cells: 2 models, ")


def test_what_is_not_told_from_none_is_said_so_and_many_lines_are_cut(tmp_path):
    make_demo(tmp_path, seeds=(0, 1), mitigations=((), *((name,) for name in "abcdefghij")))
    runs = read_runs(tmp_path)
    found = conditions(runs.cells)
    said = outcomes(runs.cells, found, comparisons(found), ())
    assert len(said) == 2 * MOST_LINES
    assert said[MOST_LINES - 1].text == "and 4 more"
    clear = [one.reduction.low > 0 or one.reduction.high < 0 for one in comparisons(found)[0].reductions]
    assert math.isfinite(sum(clear))
    assert any("not told from none" in one.text for one in said)


def test_the_mean_of_unlike_cells_has_an_interval_within_what_is_possible():
    def cell(share: float) -> SimpleNamespace:
        return SimpleNamespace(generations=(0, 1), get=lambda *_: Estimate(share, share, share, 100))

    cells = [cell(share) for share in (0.01, 0.02, 0.9)]
    mean = last_mean(cells, "rule/gendered_share")
    assert mean.value == pytest.approx(0.31)
    assert (mean.low, mean.high) == (0, 1)
    assert level_mean(cells, "mitigated/rule/gendered_share", 1) == mean  # what figures draw as a band
    assert math.isnan(last_mean(cells[:2], "rule/gendered_share").low)
