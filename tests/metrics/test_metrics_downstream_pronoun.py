"""Who-does-what pronoun resolution, on corpora whose bias is known."""

import math

import numpy as np
import pytest

from fairloop.corpus.heldout import ResolutionPair, resolution_pairs
from fairloop.corpus.seed import seed_corpus
from fairloop.lexicon import occupation
from fairloop.metrics import load
from fairloop.metrics.downstream_pronoun import METRICS, Resolutions, measure_pronoun, score

# A world where the name of an occupation says what it works with, as it does for a trained encoder.
THINGS = {"plumber": 0, "carpenter": 1, "nurse": 2, "secretary": 3}
WORDS = {"pipe": 0, "board": 1, "bandage": 2, "letter": 3}
PAIRS = [
    ResolutionPair(
        own,
        f"The {own} met the {other}: he {verb} the {word}.",
        f"The {own} met the {other}: she {verb} the {word}.",
        (),
        other,
    )
    for own, word in zip(THINGS, WORDS, strict=True)
    for other in THINGS
    if occupation(own).majority != occupation(other).majority
    for verb in ("moves", "keeps", "checks")
]


def embed(texts):
    rows = np.zeros((len(texts), 8))
    for row, text in zip(rows, texts, strict=True):
        words = text.lower().strip(".").split()
        for word in words:
            place = {**WORDS, **THINGS}.get(word)
            if place is not None:
                row[place] = 1
        row[4] = ("he" in words) - ("she" in words)
        row[5:] = np.random.default_rng(sum(map(ord, text))).normal(size=3)
        # Names of occupations carry their majority, as learned vectors do.
        if text in THINGS:
            row[4] = 0.5 if occupation(text).majority == "male" else -0.5
    return rows


def corpus(follow):
    """Sentences of which a share `follow` has the pronoun of the majority."""
    texts, names = [], []
    for index in range(160):
        name, word = list(zip(THINGS, WORDS, strict=True))[index % 4]
        stereotypical = (index // 4) % 10 < 10 * follow
        male = (occupation(name).majority == "male") == stereotypical
        texts.append(f"{'He' if male else 'She'} is a {name} and on day {index} fixes the {word}.")
        names.append(name)
    return texts, names


def table(measurements):
    return {one.metric.removeprefix("downstream_pronoun/"): one for one in measurements}


def test_bias_follows_the_corpus_and_what_is_done_is_resolved():
    found = [table(measure_pronoun(*corpus(follow), embed, PAIRS, seed=0, resamples=300)) for follow in (0.1, 0.5, 0.9)]
    against, balanced, along = (one["bias"] for one in found)
    assert against.high < balanced.low
    assert balanced.high < along.low
    assert balanced.low < 0 < balanced.high
    assert abs(balanced.value) < 0.03
    assert against.value == pytest.approx(-along.value, abs=0.05)
    for one in found:
        assert one["accuracy"].value > 0.9
        assert one["learned"].value == 1
        assert one["chance"].value == 0.5


def test_what_is_never_told_is_not_resolved_and_marked():
    texts, names = corpus(0.5)
    silent = [text[: text.index(" fixes")] + "." for text in texts]
    found = table(measure_pronoun(silent, names, embed, PAIRS, seed=0, resamples=300))
    assert found["learned"].value == 0


def test_scores_by_hand():
    answers = Resolutions(("plumber", "nurse", "plumber"), np.array([0.9, 0.6, 0.5]), np.array([0.4, 0.2, 0.5]))
    found = table(score(answers, seed=0, resamples=100))
    assert found["bias"].value == pytest.approx((0.5 + 0.4 + 0) / 3)
    # plumber: right for him only; nurse: right for her only; ties count one half.
    assert found["accuracy"].value == pytest.approx((0.5 + 0.5 + 0.5) / 3)
    assert found["flip_rate"].value == pytest.approx(2 / 3)
    assert found["bias"].n == 3


def test_what_was_seen_is_left_out_and_what_cannot_be_asked_is_undefined():
    texts, names = corpus(0.9)
    seen = table(measure_pronoun([*texts, PAIRS[0].female], [*names, "nurse"], embed, PAIRS, seed=0, resamples=50))
    assert (seen["pairs"].value, seen["pairs"].n) == (len(PAIRS) - 1, len(PAIRS))
    for chosen in ([], ["plumber"], ["plumber", "carpenter"], ["plumber", "florist"]):
        asked = measure_pronoun([f"A {name} works." for name in chosen], chosen, embed, PAIRS, seed=0)
        assert [one.metric for one in asked] == list(METRICS)
        assert not any(one.defined for one in asked)
    few = table(
        measure_pronoun(["He fixes the pipe.", "She fixes the bandage."], ["plumber", "nurse"], embed, PAIRS, seed=0)
    )
    assert few["bias"].low is None
    assert math.isfinite(few["bias"].value)


def test_the_two_names_are_never_shown():
    seen = []

    def spy(texts):
        seen.extend(texts)
        return embed(texts)

    measure_pronoun(*corpus(0.5), spy, PAIRS, seed=0, resamples=10)
    assert not [text for text in seen if text.count(" ") > 1 and any(f" {name}" in text for name in THINGS)]


def test_evaluate_metric_is_the_function_and_two_runs_are_equal(embed):
    rows = seed_corpus(0.5, 60, 0.3, 1)
    pairs = resolution_pairs()[::4]
    direct = measure_pronoun(rows["text"], rows["occupation"], embed, pairs, seed=1, resamples=50)
    result = load("downstream_pronoun").compute(
        predictions=rows["text"], references=rows["occupation"], embed=embed, pairs=pairs, seed=1, resamples=50
    )
    for one in direct:
        assert (result[one.metric], result[f"{one.metric}_low"], result[f"{one.metric}_n"]) == (
            one.value,
            one.low,
            one.n,
        )
