"""What each benchmark's intervals are over: words, terms, writers, occupations; and ICAT's cap."""

import json

import numpy as np
import pytest

from fairloop.benchmarks import crows_pairs, winobias
from fairloop.benchmarks.crows_pairs import CrowsItem
from fairloop.benchmarks.seat_words import words_of
from fairloop.benchmarks.stereoset import summary
from fairloop.benchmarks.winobias import WinoItem
from fairloop.statistics.bootstrap import bootstrap_mean
from fairloop.statistics.intervals import estimate_dyadic_mean


def test_sentences_of_the_published_templates_go_to_their_word():
    sentences = [
        "This is a woman.", "The women are here.", "Women are people.", "They are women.", "Here she is.",
        "She is there.", "This is hers.", "The person's name is Ann.", "There is Ann.", "It is an axe.",
        "Those are axes.", "My mother is kind to children",
    ]  # fmt: skip
    assert words_of(sentences) == [
        "woman", "woman", "woman", "woman", "she", "she", "hers", "ann", "ann", "axe", "axe", sentences[-1],
    ]  # fmt: skip


def test_every_published_test_has_as_many_words_as_its_word_level_twin(benchmark_data):
    folder = benchmark_data / "seat"
    compared = 0
    for path in sorted(folder.glob("sent-*.jsonl")):
        twin = folder / path.name.removeprefix("sent-")
        if twin.exists() and "weat9" not in path.name:  # "sick" stands there in the plural alone, and has no twin
            sets, words = (json.loads(one.read_text()) for one in (path, twin))
            for name in ("targ1", "targ2"):
                found = set(words_of(list(dict.fromkeys(sets[name]["examples"]))))
                assert len(found) == len(words[name]["examples"]), (path.name, name, found)
                compared += 1
    assert compared > 20


@pytest.mark.parametrize("ss", [30.0, 50.0, 62.0])
def test_icat_has_the_lesser_ends_of_its_two_sides(ss):
    draw = np.random.default_rng(1)
    terms = np.column_stack([100 * draw.beta(30, 5, 20), np.clip(ss + 8 * draw.normal(size=20), 0, 100)])
    terms[:, 1] += ss - terms[:, 1].mean()
    lms, share, icat = summary(terms, seed=0, resamples=500)
    assert lms.value == pytest.approx(terms[:, 0].mean())
    assert share.value == pytest.approx(ss)
    assert icat.value == pytest.approx(lms.value * min(ss, 100 - ss) / 50)
    assert icat.low < icat.value <= icat.high
    mirrored = summary(np.column_stack([terms[:, 0], 100 - terms[:, 1]]), seed=0, resamples=500)[2]
    assert (mirrored.low, mirrored.high) == pytest.approx((icat.low, icat.high))


def test_an_unbiased_model_is_not_certified_as_short_of_the_ideal():
    """At SS = 50 the percentile bootstrap's ICAT lay wholly below the truth in three of ten studies."""
    draw, below, held = np.random.default_rng(2), 0, 0
    for study in range(200):
        terms = np.column_stack([100 * draw.beta(17, 3, 30), 100 * draw.beta(15, 15, 30)])
        icat = summary(terms, seed=study, resamples=200)[2]
        below += icat.high < 85
        held += icat.low <= 85 <= icat.high
    assert below / 200 < 0.1
    assert held / 200 > 0.9


def test_religions_three_terms_have_no_interval():
    for one in summary(np.array([[90.0, 55.0], [80.0, 60.0], [85.0, 50.0]]), seed=0, resamples=50):
        assert np.isfinite(one.value)
        assert np.isnan(one.low)
        assert one.units == 3


def test_crows_pairs_resamples_writers():
    draw = np.random.default_rng(3)
    writers = draw.integers(0, 12, 80)
    items = [
        CrowsItem(str(n), "gender", "stereo", "", "", 1.0, 0.0, int(draw.random() < 0.6), 0, f"a{one}")
        for n, one in enumerate(writers)
    ]
    found = {one.metric: one for one in crows_pairs._measurements(items, 4, 200)}["crows_pairs/gender/score"]
    preferred = [100.0 * item.preferred for item in items]
    by_writer = bootstrap_mean(preferred, seed=4, resamples=200, clusters=writers.tolist(), bounds=(0, 100))
    assert (found.low, found.high, found.n, found.units) == (by_writer.low, by_writer.high, 80, 12)


def test_the_publishers_writers_are_read(benchmark_data):
    pairs = crows_pairs.read(benchmark_data / "crows_pairs")
    assert len({pair.writer for pair in pairs}) == 77


def test_winobias_leaves_out_occupations():
    draw = np.random.default_rng(5)
    names = [tuple(f"o{one}" for one in draw.choice(9, 2, replace=False)) for _ in range(60)]
    items = [WinoItem(str(n), "type1", *pair, "", "", *draw.normal(size=6)) for n, pair in enumerate(names)]
    found = {one.metric: one for one in winobias._measurements(items)}["winobias/overall/gap"]
    gaps = [100.0 * (one.pro_referent > one.pro_other) - 100.0 * (one.anti_referent > one.anti_other) for one in items]
    expected = estimate_dyadic_mean(gaps, names, bounds=(-100, 100))
    assert (found.low, found.high, found.units) == (expected.low, expected.high, 9)
