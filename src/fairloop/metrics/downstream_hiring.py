"""Downstream bias in hiring: whom does a recommender that is trained on the corpus put on the shortlist?

For each occupation of the corpus a recommender learns to tell its sentences from all others (one against the rest,
penalised least squares; the occupation's own words removed). It then ranks a pool of held-out descriptions of
applicants, each in a male and in a female version, and recommends the best tenth. Where gender plays no role, the two
versions of an applicant are recommended alike.

The figures are those of the literature on fair decisions: demographic parity, the difference of recommendation rates,
and equal opportunity, the same among applicants who match the job (Hardt et al. 2016; the gap in true positive rates of
De-Arteaga et al. 2019). Decisions are made within one job, so that no threshold is shared between jobs.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fairloop.corpus.heldout import CounterfactualPair, applicants, unseen
from fairloop.lexicon import occupation
from fairloop.measures.catalogue import Declared
from fairloop.measures.measurement import Measurement
from fairloop.metrics.linear_models import fit_ridge
from fairloop.metrics.metric import Embed, Metric, of_sample
from fairloop.metrics.training_set import RESAMPLES, TrainingSet, learned, one_thread, over_corpora, spread, undefined
from fairloop.seeding import derive
from fairloop.statistics.estimate import Estimate
from fairloop.statistics.units import divide, quotient

Floats = NDArray[np.float64]

METRICS = (
    "downstream_hiring/bias",
    "downstream_hiring/accuracy",
    "downstream_hiring/chance",
    "downstream_hiring/opportunity_gap",
    "downstream_hiring/flip_rate",
    "downstream_hiring/learned",
    "downstream_hiring/pairs",
)

CHANCE = 0.5
SHORTLIST = 0.1
"""Share of the pool that each job recommends."""
PENALTY = 1.0
"""Of the least squares, for each sentence of the corpus: features are standardised."""


@dataclass(frozen=True)
class Rankings:
    """How well each applicant suits each job.

    Attributes:
        jobs: [jobs].
        occupations: [pairs], the occupation whose work each applicant has done.
        male: [pairs, jobs], the scores of the male versions; only their order within one job counts.
        female: [pairs, jobs], those of the female versions.
    """

    jobs: tuple[str, ...]
    occupations: tuple[str, ...]
    male: Floats
    female: Floats

    @property
    def scores(self) -> Floats:
        """Both versions' scores [2, pairs, jobs]."""
        return np.stack([self.male, self.female])

    def scored(self, scores: Floats) -> "Rankings":
        """Return the rankings by other scores."""
        return replace(self, male=scores[0], female=scores[1])


def measure_hiring(
    texts: Sequence[str],
    occupations: Sequence[str],
    embed: Embed,
    pairs: Sequence[CounterfactualPair] | None = None,
    *,
    seed: int,
    resamples: int = RESAMPLES,
    groups: Sequence[Hashable] | None = None,
) -> list[Measurement]:
    """Train on sentences about occupations and recommend applicants for them.

    The pool holds the applicants who have done the work of an occupation of the corpus, without those that the corpus
    has seen. What is undefined, and when there are no intervals, is as in
    `fairloop.metrics.downstream.measure_downstream`.

    Args:
        texts: [n] sentences.
        occupations: [n], the occupation that each is about.
        embed: the encoder, frozen.
        pairs: applicants; those of `fairloop.corpus.heldout` if None.
        seed: decides the noise that the intervals are from.
        resamples: how often it is drawn.
        groups: [n], sentences whose prompts shared examples are left out of training together.

    Returns:
        The `METRICS`, as `score` defines them, and `downstream_hiring/pairs`: the applicants in the pool; n is how many
        they were before those that the corpus has seen were left out.
    """
    training = TrainingSet.of(texts, occupations, groups)
    everything = applicants() if pairs is None else pairs
    known = [place for place, pair in enumerate(everything) if pair.occupation in set(training.classes)]
    asked = [known[place] for place in unseen([everything[place] for place in known], texts)]
    if not asked or not training.can_be_learned():
        return undefined(METRICS)
    answers, refits = _train_and_rank(training, everything, asked, embed)
    found = score(answers, refits, seed=seed, resamples=resamples)
    return [*found, Measurement("downstream_hiring/pairs", float(len(asked)), None, None, len(known))]


def _train_and_rank(
    training: TrainingSet, pairs: Sequence[CounterfactualPair], asked: Sequence[int], embed: Embed
) -> tuple[Rankings, list[Rankings]]:
    """Return the scores of the recommenders of the whole corpus, and of those without one fold each."""
    vectors = embed(training.texts)
    # All applicants, whatever part is asked about: the same call for every corpus (see `remembering`).
    versions = np.asarray(embed([*(pair.male for pair in pairs), *(pair.female for pair in pairs)]))
    mean, scale = spread(vectors)
    features, pool = ((np.asarray(one, np.float64) - mean) / scale for one in (vectors, versions))
    male, female = pool.reshape(2, len(pairs), -1)[:, list(asked)]
    targets = (training.truth[:, None] == np.arange(len(training.classes))).astype(np.float64)
    # Centred targets stand for the intercept, which moves no applicant's place within a job.
    targets -= targets.mean(axis=0)
    names = tuple(pairs[place].occupation for place in asked)

    def rank(gram: Floats, moments: Floats, sentences: int) -> Rankings:
        weights = fit_ridge(gram, moments, PENALTY * sentences)
        return Rankings(training.classes, names, male @ weights, female @ weights)

    with one_thread():
        gram, moments = features.T @ features, features.T @ targets
        refits = []
        for kept, out in training.folds():
            less = features[out]
            refits.append(rank(gram - less.T @ less, moments - less.T @ targets[out], len(kept)))
        return rank(gram, moments, len(features)), refits


def shortlists(rankings: Rankings) -> tuple[Floats, Floats]:
    """Return how far each job recommends the male and the female version of each applicant, [pairs, jobs] in [0, 1].

    Each job recommends the share `SHORTLIST` of the pool, at least one applicant: those with the highest scores, 1
    each. Those with equal scores at the cut share the places that are left.
    """
    pool = np.concatenate([rankings.male, rankings.female])
    places = max(1, round(SHORTLIST * len(pool)))
    cut = np.sort(pool, axis=0)[-places]
    above, level = pool > cut, pool == cut
    chances = above + level * ((places - above.sum(axis=0)) / level.sum(axis=0))
    return chances[: len(rankings.male)], chances[len(rankings.male) :]


def score(
    answers: Rankings, refits: Sequence[Rankings] = (), *, seed: int = 0, resamples: int = RESAMPLES
) -> list[Measurement]:
    """Score shortlists; jobs and pool are given, and the intervals are over corpora (`training_set.over_corpora`).

    - `downstream_hiring/bias`: half the difference between male-majority and female-majority jobs in the mean of
      d = (rate of male applicants - rate of female applicants) / (sum of both rates), from -1 to 1: the demographic
      parity difference, as a share of what the shortlist's length allows. Positive if shortlists follow the stereotype.
    - `downstream_hiring/accuracy`: mean over jobs of the balanced accuracy of the recommendations: half of (share of
      matching applicants recommended + share of others not recommended).
    - `downstream_hiring/chance`: 1/2, whatever the shortlist's length.
    - `downstream_hiring/opportunity_gap`: half the difference between male- and female-majority jobs in the mean of
      TPR(male) - TPR(female), the share of matching applicants recommended; jobs without any are left out.
    - `downstream_hiring/flip_rate`: share of applicants recommended in one version who are not in the other.
    - `downstream_hiring/learned`: 1 if the accuracy's interval lies above chance, else 0.

    Args:
        answers: of the recommenders that were trained on everything.
        refits: the answers of those trained without one fold each; without them no intervals.
        seed: decides the noise that the intervals are from.
        resamples: how often it is drawn.
    """

    derived = derive(seed, "downstream_hiring")
    found = over_corpora(_values, answers, refits, seed=derived, resamples=resamples, least=_LEAST)

    def estimate(what: str) -> Estimate:
        return found[what].counting(int(np.count_nonzero(_columns(answers, what)[:, 1::2].any(axis=1))))

    accuracy = estimate("right")
    return [
        Measurement.of("downstream_hiring/bias", estimate("parity")),
        Measurement.of("downstream_hiring/accuracy", accuracy),
        Measurement("downstream_hiring/chance", CHANCE, None, None, accuracy.n),
        Measurement.of("downstream_hiring/opportunity_gap", estimate("opportunity")),
        Measurement.of("downstream_hiring/flip_rate", estimate("flip")),
        learned("downstream_hiring/learned", accuracy, CHANCE),
    ]


_LEAST = {"parity": -1.0, "right": 0.0, "opportunity": -1.0, "flip": 0.0}


def _values(answers: Rankings) -> dict[str, float]:
    statistics = {"parity": _contrast, "right": quotient, "opportunity": _contrast, "flip": quotient}
    return {what: float(of(_columns(answers, what).sum(axis=0))) for what, of in statistics.items()}


def _contrast(sums: Floats) -> Floats:
    """Return half the difference of two ratios of sums, male-majority jobs first."""
    return (divide(sums[..., 0], sums[..., 1]) - divide(sums[..., 2], sums[..., 3])) / 2


def _columns(answers: Rankings, what: str) -> Floats:
    """Return, for each job, what the statistic is a function of the sums of: numerators and denominators in turn."""
    male, female = shortlists(answers)
    if what == "flip":
        return np.stack([np.abs(male - female).sum(axis=0), np.maximum(male, female).sum(axis=0)], axis=1)
    matching = np.array(answers.occupations)[:, None] == np.array(answers.jobs)[None, :]
    matches = matching.sum(axis=0)
    male_rate, female_rate = (
        divide((one * matching).sum(axis=0), matches.astype(np.float64)) for one in (male, female)
    )
    if what == "right":
        others = len(matching) - matches
        false_rate = divide(((male + female) * ~matching).sum(axis=0), 2.0 * others)
        balanced = ((male_rate + female_rate) / 2 + 1 - false_rate) / 2
        defined = np.isfinite(balanced)
        return np.stack([np.where(defined, balanced, 0), defined], axis=1).astype(np.float64)
    if what == "opportunity":
        values = male_rate - female_rate
    else:
        values = divide((male - female).sum(axis=0), (male + female).sum(axis=0))
    majority = np.array([occupation(name).majority for name in answers.jobs])
    columns = []
    for side in ("male", "female"):
        counted = (majority == side) & np.isfinite(values)
        columns += [np.where(counted, values, 0), counted]
    return np.stack(columns, axis=1).astype(np.float64)


METRIC = Metric(
    "downstream_hiring",
    (
        Declared("downstream_hiring/bias", "downstream bias: hiring", "hiring bias", ideal=0, headline=True, place=10),
        Declared(
            "downstream_hiring/accuracy",
            "downstream accuracy: hiring",
            "hiring accuracy",
            goal="maximize",
            headline=True,
            place=11,
        ),
        Declared("downstream_hiring/chance", "accuracy of guessing", "chance"),
        Declared("downstream_hiring/opportunity_gap", "gap in equal opportunity", ideal=0),
        Declared("downstream_hiring/flip_rate", "share of flipped decisions", "flips", goal="minimize"),
        Declared("downstream_hiring/learned", "whether the recommenders learned", "learned"),
        Declared("downstream_hiring/pairs", "applicants in the pool", "applicants", count=True),
    ),
    of_sample(measure_hiring),
    description="Bias of recommenders that are trained on the sentences to tell one occupation's from all others and "
    "put held-out applicants, each in a male and in a female version, on a shortlist for the job: demographic parity "
    "and equal opportunity between the versions, balanced accuracy, changed decisions.",
    citation="Hardt, Price and Srebro (2016): Equality of Opportunity in Supervised Learning. NIPS. De-Arteaga et al. "
    "(2019): Bias in Bios: A Case Study of Semantic Representation Bias in a High-Stakes Setting. FAT*.",
    urls=("https://arxiv.org/abs/1610.02413", "https://doi.org/10.1145/3287560.3287572"),
    needs=frozenset({"occupations", "embed"}),
)
