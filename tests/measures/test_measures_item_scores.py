"""A score that the catalogue takes from a per-item table is the score that the benchmark reports."""

import numpy as np
import pytest

from fairloop.benchmarks import crows_pairs, heldout_templates, perplexity, winobias
from fairloop.catalogue import catalogue


def from_items(metric, items):
    """The declared score of items as their table keeps them: as text."""
    score = catalogue().of(metric).item_score
    rows = [{name: str(value) for name, value in vars(item).items()} for item in items]
    terms = [one for row in rows if (one := score.terms(row, metric)) is not None]
    return float(score.of_ratio(np.sum([one for one, _ in terms]) / np.sum([two for _, two in terms])))


def rows_of(benchmark):
    draw = np.random.default_rng(1)
    if benchmark == "crows_pairs":
        kinds = ["gender", "religion"] * 15
        return [
            crows_pairs.CrowsItem(str(n), kind, "stereo", "a", "b", 0.0, 0.0, int(draw.random() < 0.6), 0, f"a{n % 9}")
            for n, kind in enumerate(kinds)
        ]
    if benchmark == "winobias":
        kinds = ["type1", "type2"] * 15
        return [
            winobias.WinoItem(str(n), kind, "a", "b", "c", "d", *draw.normal(size=6).tolist())
            for n, kind in enumerate(kinds)
        ]
    words, kinds = ["he/she", "uncle/aunt"] * 20, ["occupation", "occupation", "trait", "activity"] * 10
    names = ["plumber", "nurse", "judge", "carpenter", "secretary"] * 8
    return [
        heldout_templates.HeldoutItem(name, kind, word if kind == "occupation" else "he/she", str(n), 0.0, 0.0, value)
        for n, (name, kind, word, value) in enumerate(zip(names, kinds, words, draw.normal(size=40), strict=True))
    ]


@pytest.mark.parametrize("module", [crows_pairs, winobias, heldout_templates])
def test_the_item_score_is_the_reported_score(module):
    items = rows_of(module.__name__.rpartition(".")[2])
    checked = 0
    drawn = () if module is winobias else (0, 20)  # the seed and number of resamples
    for measured in module._measurements(items, *drawn):
        row = catalogue().of(measured.metric)
        if row.item_score is not None:
            assert from_items(measured.metric, items) == pytest.approx(measured.value), measured.metric
            assert {*row.item_score.item, row.paired_by} <= set(vars(items[0]))
            checked += 1
    assert checked >= 3


def test_perplexity_is_of_the_sums_over_lines():
    lines = [perplexity.LineItem("0", "a", 3, -6.0), perplexity.LineItem("1", "b", 1, -4.0)]
    assert from_items("perplexity/pseudo_perplexity", lines) == pytest.approx(np.exp(10 / 4))
