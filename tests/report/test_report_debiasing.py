"""Fair-Gender's method table and ablations, on cells of known truth."""

import csv
import io
from dataclasses import astuple, replace
from types import SimpleNamespace

import fair_gender_store
import numpy as np
import pytest
from fair_gender_store import ABLATIONS, FULL, HEADLINE, PERPLEXITY, RISE, make_grid, make_method, untouched
from matplotlib.figure import Figure
from rich.console import Console
from scipy.stats import ttest_1samp

from fairloop.report.cli import show_report
from fairloop.report.fair_gender import figures as debiasing_figures
from fairloop.report.fair_gender.effects import change_in_words, debiasings
from fairloop.report.fair_gender.tables import ablation_table, debiasing_tables, method_table
from fairloop.report.read import read_runs
from fairloop.statistics.corrections import holm
from fairloop.statistics.estimate import Estimate

MEAN = np.mean([untouched(seed)[0] for seed in range(3)])


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    runs_dir = tmp_path_factory.mktemp("grid")
    make_grid(runs_dir)
    return runs_dir


@pytest.fixture(scope="module")
def found(grid):
    (one,) = debiasings(read_runs(grid).cells)
    return one


def effect(found, label, metric=HEADLINE):
    return next(one for one in found.effects if one.variant.label == label and one.score.pattern == metric)


def test_variants_are_named_by_what_differs_from_the_default(found):
    assert [one.label for one in found.variants] == [
        "none",
        "fair_gender",
        "fair_gender, no alignment",
        "fair_gender, no filter by effect",
        "fair_gender, no regulariser",
        "fair_gender, pairs from templates",
        "cda",
    ]


def test_names_of_settings_that_have_no_words():
    assert change_in_words("debias.pairs", "10000") == "10000 pairs"
    assert change_in_words("debias.neighbours", "3") == "neighbours=3"
    assert change_in_words("model.name", "gemma_2_2b_it") == "model.name=gemma_2_2b_it"


def test_a_method_is_compared_with_the_plm_before_in_pairs_of_seeds(found):
    full = effect(found, "fair_gender")
    changes = [(FULL - 1) * untouched(seed)[0] for seed in range(3)]
    half = 4.302653 * np.std(changes, ddof=1) / np.sqrt(3)  # Student's t with two degrees of freedom
    assert full.change.value == pytest.approx(np.mean(changes))
    assert (full.change.low, full.change.high) == pytest.approx((np.mean(changes) - half, np.mean(changes) + half))
    assert full.relative.value == pytest.approx(FULL - 1)
    assert (full.pairs, full.over) == (3, "seeds")
    assert full.p_value == pytest.approx(ttest_1samp(changes, 0).pvalue)
    assert effect(found, "fair_gender", PERPLEXITY).relative.value == pytest.approx(RISE - 1)
    assert effect(found, "none").pairs == 0


def test_p_values_are_corrected_over_all_variants_and_all_scores_of_bias(found):
    family = [one for one in found.effects if one.score.pattern == HEADLINE]
    assert sum(np.isfinite(one.p_value) for one in family) == 6
    bias = [one for one in found.effects if one.score.is_bias]
    assert [one.adjusted for one in bias] == pytest.approx(holm([one.p_value for one in bias]), nan_ok=True)


def test_the_ablation_is_paired_with_the_full_method(found):
    (ablation,) = found.ablations
    assert ablation.full.label == "fair_gender"
    assert (ablation.without, ablation.level) == pytest.approx((MEAN, FULL * MEAN))
    changes = {one.variant.label: one for one in ablation.of(ablation.headline)}
    assert len(changes) == len(ABLATIONS)
    lost = changes["fair_gender, pairs from templates"]
    assert lost.change.value == pytest.approx((0.42 - FULL) * MEAN)
    assert lost.change.low < lost.change.value < lost.change.high
    assert changes["fair_gender, no regulariser"].change.value == pytest.approx((0.25 - FULL) * MEAN)


def test_tables_show_values_changes_and_percentages(found):
    methods = {row[0]: row for row in method_table(found).rows}
    assert methods["fair_gender"][1] == "3"
    assert methods["fair_gender"][2].startswith(f"{FULL * MEAN:.3f} [")
    changes = {row[:2]: row for row in debiasing_tables(found)[0].rows}
    assert (
        changes["fair_gender", "held-out templates: |log odds| ↓"][4] == "-70.0% (no spread)"
    )  # one ratio in all seeds
    # An arrow beside a signed change would read as "fell": it stands with the measure, and the note explains it.
    assert not any("↓" in text or "↑" in text for row in changes.values() for text in row[2:])
    ablation = ablation_table(found, found.ablations[0])
    assert all("↓ less is better" in table.note for table in (*debiasing_tables(found), ablation))
    assert f"{FULL * MEAN:.3f}" in ablation.note
    assert {row[0] for row in ablation.rows} == {one.label for one in found.variants if one.changes}


def test_a_percentage_has_its_interval_where_the_seeds_differ_in_it(tmp_path):
    for seed, left in enumerate((0.28, 0.3, 0.32)):
        make_method(tmp_path, "none", seed)
        make_method(tmp_path, "cda", seed, left, 1.01)
    (found,) = debiasings(read_runs(tmp_path).cells)
    one = effect(found, "cda").relative
    assert one.low < one.value < one.high < 0
    shown = {row[:2]: row for row in debiasing_tables(found)[0].rows}["cda", "held-out templates: |log odds| ↓"][4]
    assert shown == f"{100 * one.value:+.1f}% [{100 * one.low:+.1f}, {100 * one.high:+.1f}]"
    assert one.value == pytest.approx(np.dot([0.28, 0.3, 0.32], [1.2, 1.3, 1.4]) / 3.9 - 1)


def test_page_terminal_files_and_figures_show_it(grid, tmp_path):
    stream = io.StringIO()
    show_report(grid, tmp_path / "out", console=Console(file=stream, width=140, highlight=False))
    text = stream.getvalue()
    assert "Change against the untouched PLM: minilm" in text
    assert "Ablation of fair_gender: minilm" in text
    assert "Cells of other studies" not in text
    page = (tmp_path / "out" / "report.html").read_text()
    assert 'id="debiasing"' in page
    assert page.count('src="data:image/svg+xml') == 2
    with (tmp_path / "out" / "ablation.csv").open(newline="") as stream:
        rows = {(row["variant"], row["metric"]): row for row in csv.DictReader(stream)}
    row = rows["fair_gender, no filter by effect", HEADLINE]
    assert float(row["change"]) == pytest.approx((0.33 - FULL) * MEAN)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"debias_methods.csv", "debias_methods.svg", "ablation.png", "ablation_of_fair_gender_minilm.tex"} <= names


def test_seeds_that_are_all_alike_are_one_measurement(tmp_path, monkeypatch):
    monkeypatch.setattr(fair_gender_store, "untouched", lambda seed: (1.2, 20.0))
    make_grid(tmp_path, items=True, ablations=("causal=none",))
    (found,) = debiasings(read_runs(tmp_path).cells)
    again = tmp_path / "one"
    make_grid(again, seeds=(0,), items=True, ablations=("causal=none",))
    (single,) = debiasings(read_runs(again).cells)
    for method in ("none", "fair_gender", "cda"):
        several, one = effect(found, method), effect(single, method)
        assert several.value == one.value
        assert (several.over, several.p_value) == pytest.approx((one.over, one.p_value), nan_ok=True)
        for several_, one_ in ((several.change, one.change), (several.relative, one.relative)):
            assert astuple(several_) == pytest.approx(astuple(one_), nan_ok=True)
    assert effect(found, "cda").pairs == 3
    assert effect(found, "cda").over == "items"


def test_a_file_of_sentences_for_each_seed_is_one_variant_and_two_for_a_seed_are_two(tmp_path):
    def labels():
        (found,) = debiasings(read_runs(tmp_path).cells)
        return {one.label: len(one.cells) for one in found.variants if one.method == "fair_gender"}

    make_grid(tmp_path, ablations=(), baselines=())
    for seed in range(3):
        settings = {"source": "swap", "swap_file": f"corpus{seed}.parquet"}
        make_method(tmp_path, "fair_gender", seed, 0.5, settings=settings)
    assert labels() == {"fair_gender": 3, "fair_gender, swapped pairs": 3}
    make_method(tmp_path, "fair_gender", 0, 0.4, settings={"source": "swap", "swap_file": "other.parquet"})
    assert sorted(labels().values()) == [1, 1, 1, 1, 3]
    assert "fair_gender, swap_file=other.parquet" in labels()


def test_a_method_that_breaks_the_plm_does_not_hide_the_others():
    def axis(values):
        axes = Figure().subplots()
        axes.set_xlabel("change")
        debiasing_figures._scale(axes, [SimpleNamespace(change=Estimate(one, one - 1, one + 1, 3)) for one in values])
        return axes

    assert axis([0.4, -2.0, 3.0, 20.0]).get_xscale() == "linear"
    broken = axis([0.4, -2.0, 3.0, float("nan"), 7000.0])
    assert broken.get_xscale() == "symlog"
    assert broken.get_xlim() == pytest.approx((-6, 14002))
    assert [text.get_text() for text in broken.get_xticklabels()] == ["\N{MINUS SIGN}1", "0", "1", "100"]
    assert broken.get_xlabel() == "change (logarithmic beyond ±1)"


def test_a_single_seed_has_its_interval_over_items(tmp_path):
    make_grid(tmp_path, seeds=(0,), items=True, ablations=("causal=none",))
    (found,) = debiasings(read_runs(tmp_path).cells)
    full = effect(found, "fair_gender")
    assert (full.pairs, full.over) == (1, "items")
    assert full.change.value == pytest.approx((FULL - 1) * 1.2)
    assert full.change.low < full.change.value < full.change.high < 0
    assert full.p_value == 2 / 2**12  # all twelve subjects fall: 2 of 2^12 patterns
    skill = effect(found, "fair_gender", PERPLEXITY)
    assert skill.change.value == pytest.approx(20 * (RISE - 1), rel=1e-3)
    assert skill.over == "items"


def test_items_of_several_seeds_are_tested_together(tmp_path):
    make_grid(tmp_path, seeds=(0, 1), items=True, ablations=("causal=none",), baselines=())
    (found,) = debiasings(read_runs(tmp_path).cells)
    full = effect(found, "fair_gender")
    assert (full.pairs, full.over) == (2, "seeds and items")
    assert full.change.value == pytest.approx(np.mean([(FULL - 1) * untouched(seed)[0] for seed in (0, 1)]))
    assert full.change.low < full.change.value < full.change.high
    # One analysis: p is below .05 exactly where the interval leaves out zero.
    assert (full.p_value < 0.05) == (full.change.high < 0)
    assert full.adjusted >= full.p_value


def test_without_items_a_single_seed_has_no_interval(tmp_path):
    make_grid(tmp_path, seeds=(0,), ablations=())
    (found,) = debiasings(read_runs(tmp_path).cells)
    assert np.isnan(effect(found, "fair_gender").change.low)
    assert not found.ablations
    assert "paired by seed, without intervals" in debiasing_figures.debiasing_figures(found)[0].caption


def test_a_seed_that_was_run_twice_for_other_benchmarks_counts_once(tmp_path):
    make_grid(tmp_path, ablations=(), baselines=())
    make_method(tmp_path, "fair_gender", 0, FULL, RISE, benchmarks=("heldout_templates", "seat"))
    (found,) = debiasings(read_runs(tmp_path).cells)
    full = effect(found, "fair_gender")
    assert len(full.variant.cells) == 4
    assert (full.pairs, full.value.n) == (3, 3)


def test_halves_of_the_items_are_compared_apart(tmp_path):
    """A tuning's store has both: one is no variant of the other, and no change is between them."""
    for seed in (0, 1, 2):
        for part, left in (("development", 0.2), ("test", 0.5)):
            make_method(tmp_path, "fair_gender", seed, left, RISE, part=part)
            make_method(tmp_path, "fair_gender", seed, left + 0.1, RISE, {"causal": "none"}, part=part)
    make_method(tmp_path, "cda", 0, 0.6, 1.01)  # of all items
    found = {one.plm: one for one in debiasings(read_runs(tmp_path).cells)}
    assert sorted(found) == ["minilm", "minilm, part=development", "minilm, part=test"]
    for part, left in (("development", 0.2), ("test", 0.5)):
        one = found[f"minilm, part={part}"]
        assert [variant.label for variant in one.variants] == ["fair_gender", "fair_gender, no filter by effect"]
        assert effect(one, "fair_gender").value.value == pytest.approx(left * 1.3)
        (ablation,) = one.ablations
        assert ablation.of(ablation.headline)[0].change.value == pytest.approx(0.13)


def test_an_ablation_is_led_by_a_bias_that_the_full_method_has(tmp_path):
    """SEAT, which comes first, was measured on one variant alone: that is no headline, and no figure fails over it."""
    make_grid(tmp_path, seeds=(0,), baselines=())
    beside = make_method(tmp_path, "fair_gender", 0, 0.42, 1.004, {"lambda_r": 0.5})
    cells = [
        replace(cell, measures=cell.measures | {("seat/mean_abs_effect_size", None): Estimate(0.5, 0.4, 0.6, 10)})
        if cell.folder == beside
        else cell
        for cell in read_runs(tmp_path).cells
    ]
    (found,) = debiasings(cells)
    assert found.scores[0].pattern == "seat/mean_abs_effect_size"
    (ablation,) = found.ablations
    assert ablation.headline.pattern == HEADLINE
    assert debiasing_figures.debiasing_figures(found)
