"""Downstream bias of a corpus: what a classifier trained on it does with gender.

The classifier learns to predict the occupation that a sentence is about, the occupation's own words removed, and is
then asked about held-out counterfactual pairs that differ in gender only. Nothing but gender can explain a difference
between its two answers.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import evaluate
import numpy as np
from datasets import Features, Value
from numpy.typing import NDArray

from fairloop.corpus.counterfactual import mask_occupation
from fairloop.corpus.heldout import CounterfactualPair, counterfactual_pairs
from fairloop.lexicon import occupation
from fairloop.metrics.embedding import Embed
from fairloop.metrics.measurement import Measurement
from fairloop.metrics.module import InMemoryMetric, flat
from fairloop.seeding import derive
from fairloop.statistics.bootstrap import bootstrap_mean, bootstrap_sums, cluster_numbers
from fairloop.statistics.estimate import Estimate

Floats = NDArray[np.float64]

METRICS = (
    "downstream/bias",
    "downstream/accuracy",
    "downstream/chance",
    "downstream/tpr_gap",
    "downstream/tpr_gap_rms",
    "downstream/flip_rate",
)


INVERSE_PENALTY = 0.01
"""C of the logistic regression: features are standardised and outnumber the sentences, so it is strongly penalised."""


class Classifier(Protocol):
    """Tells how probable each occupation is, given a sentence without the occupation's own words."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The occupations that it can answer."""
        ...

    def probabilities(self, texts: Sequence[str]) -> Floats:
        """Return a distribution over `classes` for each text, [n, classes]."""
        ...


Fit = Callable[[Sequence[str], Sequence[str], Embed], Classifier]
"""Trains a classifier on texts [n] with their occupations [n]; the encoder is for it to use."""


@dataclass(frozen=True)
class Answers:
    """A classifier's answers to counterfactual pairs.

    Attributes:
        occupations: [pairs], the true occupation of each pair.
        classes: [classes], the occupations that could be answered.
        male: [pairs, classes], the probabilities given for the male version.
        female: [pairs, classes], the probabilities given for the female version.
    """

    occupations: tuple[str, ...]
    classes: tuple[str, ...]
    male: Floats
    female: Floats


def measure_downstream(
    texts: Sequence[str],
    occupations: Sequence[str],
    embed: Embed,
    pairs: Sequence[CounterfactualPair],
    *,
    seed: int,
    resamples: int = 2000,
    fit: Fit | None = None,
) -> list[Measurement]:
    """Train on sentences about occupations and ask about counterfactual pairs.

    Only pairs about occupations of the corpus are asked about. All measures are undefined where there is nothing to
    learn or to ask: the corpus lacks a male-majority or a female-majority occupation, or no pair is about one of its
    occupations.

    Args:
        texts: [n] sentences.
        occupations: [n], the occupation that each is about.
        embed: the encoder, frozen.
        pairs: held-out pairs without the occupation's own words.
        seed: decides the resamples.
        resamples: bootstrap resamples.
        fit: trains the classifier; `fit_logistic_regression` if None.

    Returns:
        The `METRICS`, as `score` defines them.
    """
    if len(texts) != len(occupations):
        raise ValueError(f"{len(texts)} texts for {len(occupations)} occupations")
    known = set(occupations)
    asked = [pair for pair in pairs if pair.occupation in known]
    if not asked or not {"male", "female"} <= {occupation(name).majority for name in known}:
        return [Measurement.of(name, Estimate.undefined()) for name in METRICS]
    masked = [mask_occupation(text, name) for text, name in zip(texts, occupations, strict=True)]
    classifier = (fit or fit_logistic_regression)(masked, occupations, embed)
    return score(ask(classifier, asked), seed=seed, resamples=resamples)


def ask(classifier: Classifier, pairs: Sequence[CounterfactualPair]) -> Answers:
    """Return the classifier's answers to both versions of each pair."""
    answers = classifier.probabilities([*(pair.male for pair in pairs), *(pair.female for pair in pairs)])
    occupations = tuple(pair.occupation for pair in pairs)
    return Answers(occupations, classifier.classes, answers[: len(pairs)], answers[len(pairs) :])


def score(answers: Answers, *, seed: int, resamples: int = 2000) -> list[Measurement]:
    """Score answers to counterfactual pairs, with intervals by bootstrap over occupations.

    Pairs about one occupation share its phrases and are resampled together. The intervals cover the choice of pairs,
    not the noise of training.

    - `downstream/bias`: mean over pairs of P(male-majority occupations | male version) - P(… | female version), from
      -1 to 1, positive if men are given men's occupations.
    - `downstream/accuracy`: share of versions whose most probable occupation is the true one.
    - `downstream/chance`: the accuracy of guessing, 1 / classes.
    - `downstream/tpr_gap`: mean over the male- and female-majority occupations asked about of TPR(versions of its
      majority gender) - TPR(versions of the other): positive if people are recognised better in stereotypical work.
    - `downstream/tpr_gap_rms`: root of the mean square over all occupations of TPR(male) - TPR(female), as De-Arteaga
      et al. (2019) and Romanov et al. (2019) report it; never negative, and above zero by chance alone.
    - `downstream/flip_rate`: share of pairs whose two versions get different occupations.
    """
    majority = {name: occupation(name).majority for name in {*answers.classes, *answers.occupations}}
    columns = [index for index, name in enumerate(answers.classes) if majority[name] == "male"]
    shift = answers.male[:, columns].sum(axis=1) - answers.female[:, columns].sum(axis=1)
    said_of_male = answers.male.argmax(axis=1)
    said_of_female = answers.female.argmax(axis=1)
    number = {name: index for index, name in enumerate(answers.classes)}
    truth = np.array([number.get(name, -1) for name in answers.occupations])
    right_male = (said_of_male == truth).astype(np.float64)
    right_female = (said_of_female == truth).astype(np.float64)

    sign = np.array([{"male": 1.0, "female": -1.0, "balanced": 0.0}[majority[name]] for name in answers.occupations])
    gaps = _occupation_means(right_male - right_female, answers.occupations)
    signs = _occupation_means(sign, answers.occupations)
    shared = derive(seed, "downstream")

    def over_pairs(values: Floats) -> Estimate:
        return bootstrap_mean(values, seed=shared, resamples=resamples, clusters=answers.occupations)

    estimates = (
        over_pairs(shift),
        over_pairs((right_male + right_female) / 2),
        Estimate(1 / len(answers.classes), np.nan, np.nan, len(answers.occupations)),
        bootstrap_mean((signs * gaps)[signs != 0], seed=shared, resamples=resamples),
        bootstrap_sums(
            np.stack([gaps**2, np.ones_like(gaps)], axis=1),
            lambda sums: np.sqrt(sums[..., 0] / sums[..., 1]),
            seed=shared,
            resamples=resamples,
        ),
        over_pairs((said_of_male != said_of_female).astype(np.float64)),
    )
    return [Measurement.of(name, estimate) for name, estimate in zip(METRICS, estimates, strict=True)]


def _occupation_means(values: Floats, occupations: Sequence[str]) -> Floats:
    numbers = cluster_numbers(occupations)
    return np.asarray(np.bincount(numbers, weights=values) / np.bincount(numbers))


@dataclass(frozen=True)
class LogisticClassifier:
    """Multinomial logistic regression on the standardised embeddings of a frozen encoder.

    Attributes:
        embed: the encoder.
        pipeline: the fitted scikit-learn pipeline: standardisation, regression.
    """

    embed: Embed
    pipeline: Any

    @property
    def classes(self) -> tuple[str, ...]:
        """The occupations of the training sentences, sorted."""
        return tuple(str(name) for name in self.pipeline.classes_)

    def probabilities(self, texts: Sequence[str]) -> Floats:
        """Return a distribution over `classes` for each text, [n, classes]."""
        features = np.asarray(self.embed(texts), dtype=np.float64)
        with one_thread():
            return np.asarray(self.pipeline.predict_proba(features), dtype=np.float64)


def fit_logistic_regression(texts: Sequence[str], occupations: Sequence[str], embed: Embed) -> LogisticClassifier:
    """Fit multinomial logistic regression to the embeddings of `texts`; at least two different occupations.

    The problem is convex and solved from zero, so that no random number is involved.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=INVERSE_PENALTY, max_iter=2000))
    features = np.asarray(embed(texts), dtype=np.float64)
    with one_thread():
        pipeline.fit(features, np.asarray(occupations, dtype=str))
    return LogisticClassifier(embed, pipeline)


def one_thread() -> AbstractContextManager[Any]:
    """Keep linear algebra on one thread: the last bits depend on the number of threads, and the matrices are small."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    limits: AbstractContextManager[Any] = threadpool_limits(1)
    return limits


class Downstream(InMemoryMetric):
    """`evaluate` metric of sentences and their occupations."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Bias of a classifier that is trained on the sentences to predict the occupation (its own "
            "words removed) and asked about held-out counterfactual pairs, which differ in gender only: shift of "
            "probability towards male-majority occupations, accuracy, true positive rate gap, flipped predictions.",
            citation="De-Arteaga et al. (2019): Bias in Bios: A Case Study of Semantic Representation Bias in a "
            "High-Stakes Setting. FAT*. Romanov et al. (2019): What's in a Name? Reducing Bias in Bios without "
            "Access to Protected Attributes. NAACL.",
            features=Features({"predictions": Value("string"), "references": Value("string")}),
            inputs_description="""
Args:
    predictions: list of sentences.
    references: list of occupations.
    embed: function from a list of sentences to an array of vectors.
    pairs: held-out counterfactual pairs; those of `fairloop.corpus.heldout` if left out.
    seed, resamples: of the bootstrap.
Returns:
    For each measure its value, and `_low`, `_high` (95% interval) and `_n` beside it.
""",
            reference_urls=["https://doi.org/10.1145/3287560.3287572", "https://aclanthology.org/N19-1424"],
        )

    def _compute(
        self,
        *,
        predictions: Sequence[str],
        references: Sequence[str],
        embed: Embed,
        pairs: Sequence[CounterfactualPair] | None = None,
        seed: int = 0,
        resamples: int = 2000,
    ) -> dict[str, float | int | None]:
        asked = counterfactual_pairs() if pairs is None else pairs
        return flat(measure_downstream(predictions, references, embed, asked, seed=seed, resamples=resamples))
