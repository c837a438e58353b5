"""Hiring recommendations, on corpora and rankings whose bias is known."""

import numpy as np
import pytest

from fairloop.corpus.heldout import CounterfactualPair, applicants
from fairloop.corpus.seed import seed_corpus
from fairloop.lexicon import occupation
from fairloop.metrics import load
from fairloop.metrics.downstream_hiring import METRICS, Rankings, measure_hiring, score, shortlists

THINGS = {
    "plumber": "pipe",
    "carpenter": "board",
    "welder": "steel",
    "nurse": "bandage",
    "secretary": "letter",
    "florist": "tulip",
}
PAIRS = [
    CounterfactualPair(name, f"He {verb} the {thing}.", f"She {verb} the {thing}.")
    for name, thing in THINGS.items()
    for verb in ("carries", "finds", "keeps", "checks")
]


def corpus(genders_of):
    texts, names = [], []
    for name, thing in THINGS.items():
        for pronoun in genders_of(occupation(name).majority):
            for verb in ("fixes", "needs", "buys", "moves", "likes", "drops"):
                texts.append(f"{pronoun} is a {name} and {verb} the {thing}.")
                names.append(name)
    return texts, names


def stereotyped(majority):
    return ["He", "He"] if majority == "male" else ["She", "She"]


def reversed_roles(majority):
    return stereotyped("female" if majority == "male" else "male")


def table(measurements):
    return {one.metric.removeprefix("downstream_hiring/"): one for one in measurements}


def ranking(male, female):
    names = tuple(pair.occupation for pair in PAIRS)
    return Rankings(tuple(THINGS), names, np.array(male, dtype=float), np.array(female, dtype=float))


def test_bias_follows_the_corpus(embed):
    along, against, balanced = (
        table(measure_hiring(*corpus(genders), embed, PAIRS, seed=0, resamples=300))
        for genders in (stereotyped, reversed_roles, lambda majority: ["He", "She"])
    )
    assert along["bias"].value > 0.2
    assert against["bias"].value < -0.2
    # Shortlists have five places: a single place of one of the six jobs moves the bias by a fifteenth.
    assert abs(balanced["bias"].value) < 1.01 / 15
    assert balanced["bias"].low < 0 < balanced["bias"].high
    assert balanced["accuracy"].value > 0.75
    assert balanced["learned"].value == 1
    assert along["opportunity_gap"].value >= 0 >= against["opportunity_gap"].value


def test_a_recommender_that_sees_gender_only_has_the_whole_bias():
    sign = np.array([1.0 if occupation(name).majority == "male" else -1.0 for name in THINGS])
    tilt = np.linspace(0, 0.1, len(PAIRS))[:, None]
    found = table(score(ranking(sign + tilt, -sign + tilt), seed=0, resamples=100))
    assert found["bias"].value == 1
    assert found["flip_rate"].value == 1


def test_a_recommender_that_sees_the_work_only_has_none():
    names = [pair.occupation for pair in PAIRS]
    scores = np.array([[float(name == job) for job in THINGS] for name in names])
    found = table(score(ranking(scores, scores), seed=0, resamples=100))
    for name in ("bias", "flip_rate", "opportunity_gap"):
        assert found[name].value == 0
    # 5 of the 8 matching versions fit on a shortlist of a tenth of 48, and no other is on it.
    assert found["accuracy"].value == pytest.approx((5 / 8 + 1) / 2)


def test_a_recommender_that_knows_nothing_is_at_chance_and_marked():
    found = table(score(ranking(np.zeros((24, 6)), np.zeros((24, 6))), seed=0, resamples=100))
    assert found["accuracy"].value == pytest.approx(0.5)
    assert found["learned"].value == 0
    assert found["bias"].value == 0


def test_shortlists_are_a_tenth_of_the_pool_and_ties_share_the_last_places():
    draw = np.random.default_rng(0)
    for scores in (draw.normal(size=(2, 24, 6)), draw.integers(0, 3, size=(2, 24, 6)), np.zeros((2, 24, 6))):
        answers = ranking(*scores)
        male, female = shortlists(answers)
        assert (male + female).sum(axis=0) == pytest.approx(np.full(6, 5))
        assert min(male.min(), female.min()) >= 0
        assert max(male.max(), female.max()) <= 1
        for job in range(6):
            pool = np.concatenate([scores[0][:, job], scores[1][:, job]])
            chances = np.concatenate([male[:, job], female[:, job]])
            for one, other in zip(pool, chances, strict=True):
                assert (chances[pool > one] >= other).all()


@pytest.mark.parametrize("seed", range(3))
def test_scores_equal_their_definition_written_out(seed):
    draw = np.random.default_rng(seed)
    answers = ranking(*draw.normal(size=(2, 24, 6)))
    found = table(score(answers, seed=0, resamples=100))
    parity, gaps, right, flips = {"male": [], "female": []}, {"male": [], "female": []}, [], []
    for column, job in enumerate(THINGS):
        versions = [(answers.male[row, column], row, "m") for row in range(24)]
        versions += [(answers.female[row, column], row, "f") for row in range(24)]
        chosen = {(row, side) for _, row, side in sorted(versions, reverse=True)[:5]}
        men, women = ({row for row, said in chosen if said == side} for side in "mf")
        own = {row for row in range(24) if PAIRS[row].occupation == job}
        majority = occupation(job).majority
        parity[majority].append((len(men) - len(women)) / 5)
        gaps[majority].append((len(men & own) - len(women & own)) / 4)
        hits = len(men & own) + len(women & own)
        right.append((hits / 8 + 1 - (5 - hits) / 40) / 2)
        flips.append((len(men ^ women), len(men | women)))
    assert found["bias"].value == pytest.approx((np.mean(parity["male"]) - np.mean(parity["female"])) / 2)
    assert found["opportunity_gap"].value == pytest.approx((np.mean(gaps["male"]) - np.mean(gaps["female"])) / 2)
    assert found["accuracy"].value == pytest.approx(np.mean(right))
    assert found["flip_rate"].value == pytest.approx(sum(one for one, _ in flips) / sum(all_ for _, all_ in flips))
    assert found["bias"].n == 6


def test_what_was_seen_is_left_out_and_what_cannot_be_asked_is_undefined(embed):
    texts, names = corpus(stereotyped)
    seen = table(measure_hiring([*texts, PAIRS[0].female], [*names, "nurse"], embed, PAIRS, seed=0, resamples=50))
    assert (seen["pairs"].value, seen["pairs"].n) == (23, 24)
    for chosen in ([], ["plumber"], ["plumber", "carpenter"], ["bricklayer", "librarian"]):
        asked = measure_hiring([f"A {name} works." for name in chosen], chosen, embed, PAIRS, seed=0)
        assert [one.metric for one in asked] == list(METRICS)
        assert not any(one.defined for one in asked)
    few = table(measure_hiring(["He works.", "She helps."], ["plumber", "nurse"], embed, PAIRS, seed=0))
    assert few["bias"].value == 1
    assert few["bias"].low is None
    assert few["learned"].value == 0


def test_evaluate_metric_is_the_function_and_two_runs_are_equal(embed):
    rows = seed_corpus(0.5, 60, 0.3, 1)
    pairs = applicants()[::2]
    direct = measure_hiring(rows["text"], rows["occupation"], embed, pairs, seed=1, resamples=50)
    result = load("downstream_hiring").compute(
        predictions=rows["text"], references=rows["occupation"], embed=embed, pairs=pairs, seed=1, resamples=50
    )
    for one in direct:
        assert (result[one.metric], result[f"{one.metric}_low"], result[f"{one.metric}_n"]) == (
            one.value,
            one.low,
            one.n,
        )
