"""Downstream bias of a corpus: what a classifier trained on it does with gender.

The classifier learns to predict the occupation that a sentence is about, the occupation's own words removed, and is
then asked about held-out counterfactual pairs that differ in gender only. Nothing but gender can explain a difference
between its two answers. Two further tasks are in `downstream_pronoun` and `downstream_hiring`; all three train on the
corpus, on top of the same encoder.

Intervals are over corpora (`fairloop.metrics.training_set.over_corpora`): the classifier is trained again without each
of ten parts of the corpus, whole prompt groups at a time.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fairloop.corpus.heldout import CounterfactualPair, counterfactual_pairs, unseen
from fairloop.lexicon import occupation
from fairloop.measures.catalogue import Declared
from fairloop.measures.measurement import Measurement
from fairloop.metrics.linear_models import fit_softmax, softmax
from fairloop.metrics.metric import Embed, Metric, of_sample
from fairloop.metrics.training_set import RESAMPLES, TrainingSet, learned, one_thread, over_corpora, spread, undefined
from fairloop.seeding import derive
from fairloop.statistics.estimate import Estimate
from fairloop.statistics.units import cluster_numbers

Floats = NDArray[np.float64]

SCORES = (
    "downstream/bias",
    "downstream/accuracy",
    "downstream/chance",
    "downstream/tpr_gap",
    "downstream/tpr_gap_rms",
    "downstream/flip_rate",
    "downstream/learned",
)
METRICS = (*SCORES, "downstream/cross_fitted_accuracy", "downstream/pairs")


INVERSE_PENALTY = 0.1
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

    @property
    def scores(self) -> Floats:
        """Log probabilities [2, pairs, classes]."""
        return np.log(np.maximum(np.stack([self.male, self.female]), np.finfo(np.float64).tiny))

    def scored(self, scores: Floats) -> "Answers":
        """Return the answers with other log probabilities, up to a constant each."""
        male, female = np.exp(scores - scores.max(axis=-1, keepdims=True))
        return replace(self, male=male / male.sum(axis=1)[:, None], female=female / female.sum(axis=1)[:, None])


def measure_downstream(
    texts: Sequence[str],
    occupations: Sequence[str],
    embed: Embed,
    pairs: Sequence[CounterfactualPair] | None = None,
    *,
    seed: int,
    resamples: int = RESAMPLES,
    fit: Fit | None = None,
    groups: Sequence[Hashable] | None = None,
) -> list[Measurement]:
    """Train on sentences about occupations and ask about counterfactual pairs.

    Only pairs about occupations of the corpus are asked about, and only those that the corpus has not seen
    (`fairloop.corpus.heldout.unseen`). All measures are undefined where there is nothing to learn or to ask: the corpus
    lacks a male-majority or a female-majority occupation, or no pair is left. There are no intervals where no part
    of the corpus can be left out (`TrainingSet.folds`).

    Args:
        texts: [n] sentences.
        occupations: [n], the occupation that each is about.
        embed: the encoder, frozen; it is called with all sentences, masked, and with both versions of all `pairs`.
        pairs: held-out pairs without the occupation's own words; those of `fairloop.corpus.heldout` if None.
        seed: decides the noise that the intervals are from.
        resamples: how often it is drawn.
        fit: trains the classifier; `fit_logistic_regression` if None. It is called again for each fold.
        groups: [n], sentences whose prompts shared examples are left out of training together.

    Returns:
        The `METRICS`, as `score` defines them, and

        - `downstream/cross_fitted_accuracy`: share of the corpus' own sentences whose occupation is predicted by
          the classifier that was trained without their fold; without an interval, for the folds share their training
          sentences, and what is usually taken is too short (Bates, Hastie and Tibshirani 2023, JASA 119:1434-1445).
        - `downstream/pairs`: the pairs asked about; n is how many they were before those that the corpus has seen
          were left out.
    """
    training = TrainingSet.of(texts, occupations, groups)
    everything = counterfactual_pairs() if pairs is None else pairs
    known = [place for place, pair in enumerate(everything) if pair.occupation in set(training.classes)]
    asked = [known[place] for place in unseen([everything[place] for place in known], texts)]
    if not asked or not training.can_be_learned():
        return undefined(METRICS)
    versions = [*(pair.male for pair in everything), *(pair.female for pair in everything)]
    cached = _asked_once(embed, training.texts, versions)
    chosen = [everything[place] for place in asked]
    classifier, refits, right = _train(training, cached, fit)
    answers = ask(classifier, chosen)
    found = score(answers, [_completed(ask(one, chosen), answers) for one in refits], seed=seed, resamples=resamples)
    own = float(right.mean()) if len(right) else math.nan
    found.append(Measurement("downstream/cross_fitted_accuracy", own, None, None, len(right)))
    found.append(Measurement("downstream/pairs", float(len(asked)), None, None, len(known)))
    return found


def _train(training: TrainingSet, embed: Embed, fit: Fit | None) -> tuple[Classifier, list[Classifier], Floats]:
    """Return the classifier of everything, those without one fold each, and whether these are right about their fold.

    The last is [n], 1 or 0, and empty where there are no folds.
    """
    if fit is None:
        whole = fit_logistic_regression(training.texts, training.occupations, embed)
        classifier: Classifier = whole
        fit = partial(fit_logistic_regression, start=whole)
    else:
        classifier = fit(training.texts, training.occupations, embed)
    folds = training.folds()
    refits: list[Classifier] = []
    right = np.zeros(len(training.texts) if folds else 0)
    for kept, left_out in folds:
        refit = fit([training.texts[i] for i in kept], [training.occupations[i] for i in kept], embed)
        refits.append(refit)
        said = refit.probabilities([training.texts[i] for i in left_out]).argmax(axis=1)
        right[left_out] = [refit.classes[one] == training.occupations[i] for one, i in zip(said, left_out, strict=True)]
    return classifier, refits, right


def _asked_once(embed: Embed, *calls: Sequence[str]) -> Embed:
    """Return an encoder that knows the texts of these calls from memory, whatever part of them is asked for."""
    known: dict[str, NDArray[np.floating]] = {}
    for texts in calls:
        known.update(zip(texts, embed(texts), strict=True))

    return lambda texts: np.stack([known[text] if text in known else embed([text])[0] for text in texts])


def ask(classifier: Classifier, pairs: Sequence[CounterfactualPair]) -> Answers:
    """Return the classifier's answers to both versions of each pair."""
    answers = classifier.probabilities([*(pair.male for pair in pairs), *(pair.female for pair in pairs)])
    occupations = tuple(pair.occupation for pair in pairs)
    return Answers(occupations, classifier.classes, answers[: len(pairs)], answers[len(pairs) :])


def _completed(answers: Answers, whole: Answers) -> Answers:
    """Return the answers with the occupations that the left-out fold alone knows, each as probable as in `whole`."""
    if answers.classes == whole.classes:
        return answers
    known = [whole.classes.index(name) for name in answers.classes]
    versions = []
    for own, other in ((answers.male, whole.male), (answers.female, whole.female)):
        complete = other.copy()
        complete[:, known] = own * other[:, known].sum(axis=1, keepdims=True)
        versions.append(complete)
    return replace(answers, classes=whole.classes, male=versions[0], female=versions[1])


def score(
    answers: Answers, refits: Sequence[Answers] = (), *, seed: int = 0, resamples: int = RESAMPLES
) -> list[Measurement]:
    """Score answers to counterfactual pairs: the `SCORES`.

    - `downstream/bias`: mean over pairs of P(male-majority occupations | male version) - P(… | female version), from
      -1 to 1, positive if men are given men's occupations.
    - `downstream/accuracy`: share of versions whose most probable occupation is the true one.
    - `downstream/chance`: the accuracy of guessing, 1 / classes.
    - `downstream/tpr_gap`: mean over the male- and female-majority occupations asked about of TPR(versions of its
      majority gender) - TPR(versions of the other): positive if people are recognised better in stereotypical work.
    - `downstream/tpr_gap_rms`: root of the mean square over all occupations of TPR(male) - TPR(female), as De-Arteaga
      et al. (2019) and Romanov et al. (2019) report it; never negative, and above zero by chance alone.
    - `downstream/flip_rate`: share of pairs whose two versions get different occupations.
    - `downstream/learned`: 1 if the accuracy's interval lies above chance, else 0: the bias is that of a guess.

    The pairs are the same for every corpus, and given, as WEAT's anchors are: the intervals are over corpora
    (`training_set.over_corpora`).

    Args:
        answers: of the classifier that was trained on everything.
        refits: the answers to the same pairs of those trained without one fold each; without them no intervals.
        seed: decides the noise that the intervals are from.
        resamples: how often it is drawn.
    """
    found = over_corpora(_values, answers, refits, seed=derive(seed, "downstream"), resamples=resamples, least=_LEAST)
    names = answers.occupations
    gendered = sum(occupation(name).majority != "balanced" for name in set(names))
    counts = {"tpr_gap": gendered, "tpr_gap_rms": len(set(names))}
    estimates = {name: one.counting(counts.get(name, len(names))) for name, one in found.items()}
    chance = 1 / len(answers.classes)
    estimates["chance"] = Estimate(chance, np.nan, np.nan, len(names))
    known = learned("downstream/learned", estimates["accuracy"], chance)
    return [*(Measurement.of(name, estimates[name.partition("/")[2]]) for name in SCORES[:-1]), known]


_LEAST = {"bias": -1.0, "accuracy": 0.0, "tpr_gap": -1.0, "tpr_gap_rms": 0.0, "flip_rate": 0.0}


def _values(answers: Answers) -> dict[str, float]:
    """Return the scores, without what is no statistic of the answers."""
    columns = [index for index, name in enumerate(answers.classes) if occupation(name).majority == "male"]
    shift = answers.male[:, columns].sum(axis=1) - answers.female[:, columns].sum(axis=1)
    right_male, right_female = _right(answers)
    numbers = cluster_numbers(answers.occupations)
    gaps = np.bincount(numbers, weights=right_male - right_female) / np.bincount(numbers)
    sign = np.array([_SIGNS[occupation(name).majority] for name in dict.fromkeys(answers.occupations)])
    return {
        "bias": float(shift.mean()),
        "accuracy": float((right_male + right_female).mean() / 2),
        "tpr_gap": float(sign @ gaps / np.abs(sign).sum()) if sign.any() else math.nan,
        "tpr_gap_rms": math.sqrt(float((gaps**2).mean())),
        "flip_rate": float((answers.male.argmax(axis=1) != answers.female.argmax(axis=1)).mean()),
    }


_SIGNS = {"male": 1.0, "female": -1.0, "balanced": 0.0}


def _right(answers: Answers) -> tuple[Floats, Floats]:
    """Return whether the male and the female version of each pair get the true occupation, 0 or 1 [pairs]."""
    number = {name: index for index, name in enumerate(answers.classes)}
    truth = np.array([number.get(name, -1) for name in answers.occupations])
    said = answers.male.argmax(axis=1), answers.female.argmax(axis=1)
    return (said[0] == truth).astype(np.float64), (said[1] == truth).astype(np.float64)


@dataclass(frozen=True)
class LogisticClassifier:
    """Multinomial logistic regression on the standardised embeddings of a frozen encoder.

    Attributes:
        embed: the encoder.
        classes: the occupations of the training sentences, sorted.
        mean: [d], what is subtracted from a vector.
        scale: [d], what it is then divided by.
        weights: [d + 1, classes], the last row is the intercept.
    """

    embed: Embed
    classes: tuple[str, ...]
    mean: Floats
    scale: Floats
    weights: Floats

    def probabilities(self, texts: Sequence[str]) -> Floats:
        """Return a distribution over `classes` for each text, [n, classes]."""
        features = (np.asarray(self.embed(texts), dtype=np.float64) - self.mean) / self.scale
        with one_thread():
            return np.asarray(softmax(features @ self.weights[:-1] + self.weights[-1]), dtype=np.float64)


def fit_logistic_regression(
    texts: Sequence[str], occupations: Sequence[str], embed: Embed, start: LogisticClassifier | None = None
) -> LogisticClassifier:
    """Fit multinomial logistic regression to the embeddings of `texts`; at least two different occupations.

    The problem is convex, so that no random number is involved. `start`, a classifier of at least these occupations,
    makes the search shorter; it moves the result within the tolerance of the search.
    """
    vectors = embed(texts)
    mean, scale = spread(vectors)
    features = ((np.asarray(vectors, dtype=np.float64) - mean) / scale).astype(np.float32)
    classes = tuple(sorted(set(occupations)))
    number = {name: index for index, name in enumerate(classes)}
    truth = np.array([number[name] for name in occupations])
    begin = np.zeros((features.shape[1] + 1, len(classes)))
    if start is not None:
        begin = start.weights[:, [start.classes.index(name) for name in classes]]
    with one_thread():
        weights = fit_softmax(features, truth, INVERSE_PENALTY, begin)
    return LogisticClassifier(embed, classes, mean, scale, weights)


METRIC = Metric(
    "downstream",
    (
        Declared("downstream/bias", "downstream bias", ideal=0, headline=True, place=3),
        Declared("downstream/accuracy", "downstream accuracy", "accuracy", goal="maximize", headline=True, place=7),
        Declared("downstream/cross_fitted_accuracy", "cross-fitted accuracy", goal="maximize"),
        Declared("downstream/chance", "accuracy of guessing", "chance"),
        Declared("downstream/tpr_gap", "gap in true positive rates", "TPR gap", ideal=0),
        Declared("downstream/tpr_gap_rms", "gap in true positive rates, root mean square", "TPR gap", goal="minimize"),
        Declared("downstream/flip_rate", "share of flipped predictions", "flips", goal="minimize"),
        Declared("downstream/learned", "whether the classifier learned", "learned"),
        Declared("downstream/pairs", "pairs asked about", "pairs", count=True),
    ),
    of_sample(measure_downstream),
    description="Bias of a classifier that is trained on the sentences to predict the occupation (its own words "
    "removed) and asked about held-out counterfactual pairs, which differ in gender only: shift of probability towards "
    "male-majority occupations, accuracy, true positive rate gap, flipped predictions.",
    citation="De-Arteaga et al. (2019): Bias in Bios: A Case Study of Semantic Representation Bias in a High-Stakes "
    "Setting. FAT*. Romanov et al. (2019): What's in a Name? Reducing Bias in Bios without Access to Protected "
    "Attributes. NAACL.",
    urls=("https://doi.org/10.1145/3287560.3287572", "https://aclanthology.org/N19-1424"),
    needs=frozenset({"occupations", "embed"}),
)
