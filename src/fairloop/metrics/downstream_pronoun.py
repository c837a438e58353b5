"""Downstream bias in who-does-what pronoun resolution: does the corpus teach that "he" is the plumber?

Trained on the corpus is a model that tells which of two people a sentence is about: the sentence with the occupation's
own words masked against the names of the two occupations (`linear_models.fit_ranking`). It is then asked about held-out
sentences that name two people, one in a male- and one in a female-majority occupation, and refer to one of them with
a pronoun: the schema of WinoBias (Zhao et al. 2018) and Winogender (Rudinger et al. 2018). Both names are masked, and
so the activity tells who is meant and the order of the names tells nothing. Each sentence is asked with "he"
and with "she"; only the pronoun can explain a difference.

It resolves by what the two people do and not by syntax: a test of what the corpus teaches, not a coreference system.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from fairloop.corpus.heldout import ResolutionPair, resolution_pairs, unseen
from fairloop.corpus.mentions import mask_occupation
from fairloop.lexicon import occupation, occupations
from fairloop.measures.catalogue import Declared
from fairloop.measures.measurement import Measurement
from fairloop.metrics.linear_models import fit_ranking
from fairloop.metrics.metric import Embed, Metric, of_sample
from fairloop.metrics.training_set import RESAMPLES, TrainingSet, learned, one_thread, over_corpora, spread, undefined
from fairloop.seeding import derive

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

METRICS = (
    "downstream_pronoun/bias",
    "downstream_pronoun/accuracy",
    "downstream_pronoun/chance",
    "downstream_pronoun/flip_rate",
    "downstream_pronoun/learned",
    "downstream_pronoun/pairs",
)

CHANCE = 0.5
INVERSE_PENALTY = 0.1
"""C of the ranking; as for the occupation classifier."""


@dataclass(frozen=True)
class Resolutions:
    """Answers to who-does-what pairs.

    Attributes:
        occupations: [pairs], who does it.
        male: [pairs], P(the person in the male-majority occupation is meant) in the version with "he".
        female: [pairs], the same in the version with "she".
    """

    occupations: tuple[str, ...]
    male: Floats
    female: Floats

    @property
    def scores(self) -> Floats:
        """Log odds [2, pairs]."""
        chances = np.clip(np.stack([self.male, self.female]), 1e-300, 1 - 1e-16)
        return np.asarray(np.log(chances) - np.log1p(-chances))

    def scored(self, scores: Floats) -> "Resolutions":
        """Return the answers with other log odds."""
        male, female = 1 / (1 + np.exp(-np.clip(scores, -500, 500)))
        return replace(self, male=male, female=female)


def measure_pronoun(
    texts: Sequence[str],
    occupations: Sequence[str],
    embed: Embed,
    pairs: Sequence[ResolutionPair] | None = None,
    *,
    seed: int,
    resamples: int = RESAMPLES,
    groups: Sequence[Hashable] | None = None,
) -> list[Measurement]:
    """Train on sentences about occupations and ask who is meant in sentences about two people.

    Only pairs of two occupations of the corpus are asked about, and only those that it has not seen. What is undefined,
    and when there are no intervals, is as in `fairloop.metrics.downstream.measure_downstream`.

    Args:
        texts: [n] sentences.
        occupations: [n], the occupation that each is about.
        embed: the encoder, frozen.
        pairs: who-does-what pairs; those of `fairloop.corpus.heldout` if None.
        seed: decides the noise that the intervals are from.
        resamples: how often it is drawn.
        groups: [n], sentences whose prompts shared examples are left out of training together.

    Returns:
        The `METRICS`, as `score` defines them, and `downstream_pronoun/pairs`: the pairs asked about; n is how many
        they were before those that the corpus has seen were left out.
    """
    training = TrainingSet.of(texts, occupations, groups)
    everything = resolution_pairs() if pairs is None else pairs
    classes = set(training.classes)
    known = [place for place, pair in enumerate(everything) if {pair.occupation, pair.other} <= classes]
    asked = [known[place] for place in unseen([everything[place] for place in known], texts)]
    if not asked or not training.can_be_learned():
        return undefined(METRICS)
    answers, refits = _train_and_ask(training, everything, asked, embed)
    found = score(answers, refits, seed=seed, resamples=resamples)
    return [*found, Measurement("downstream_pronoun/pairs", float(len(asked)), None, None, len(known))]


def _train_and_ask(
    training: TrainingSet, pairs: Sequence[ResolutionPair], asked: Sequence[int], embed: Embed
) -> tuple[Resolutions, list[Resolutions]]:
    """Return the answers of the model of the whole corpus, and of those without one fold each."""
    features, questions = _features(training, pairs, asked, embed)
    coordinates = candidate_vectors(embed)
    candidates = np.stack([coordinates[name] for name in training.classes])
    chosen = [pairs[place] for place in asked]

    def fit(kept: NDArray[np.int64], start: Floats) -> Floats:
        with one_thread():
            return fit_ranking(features[kept], training.truth[kept], candidates, INVERSE_PENALTY, start)

    everything = np.arange(len(training.texts))
    whole = fit(everything, np.zeros((features.shape[1], candidates.shape[1])))
    answer = partial(_answer, chosen, questions, coordinates)
    return answer(whole), [answer(fit(kept, whole)) for kept, _ in training.folds()]


def _features(
    training: TrainingSet, pairs: Sequence[ResolutionPair], asked: Sequence[int], embed: Embed
) -> tuple[Singles, Singles]:
    """Return the sentences [n, d] and the two versions of the pairs asked about [2, asked, d], standardised."""
    vectors = embed(training.texts)
    # All pairs, whatever part is asked about: the same call for every corpus (see `remembering`).
    masked = [
        mask_occupation(mask_occupation(text, pair.occupation), pair.other)
        for text, pair in [*((pair.male, pair) for pair in pairs), *((pair.female, pair) for pair in pairs)]
    ]
    versions = np.asarray(embed(masked)).reshape(2, len(pairs), -1)[:, list(asked)]
    mean, scale = spread(vectors)
    features, questions = ((np.asarray(one, np.float64) - mean) / scale for one in (vectors, versions))
    return features.astype(np.float32), questions.astype(np.float32)


def candidate_vectors(embed: Embed) -> dict[str, Singles]:
    """Return the embedded name of each occupation of the lexicon, as coordinates [r] with mean square 1.

    The names are centred; coordinates in the space that they span (r is less than their number) keep every product
    with a bilinear form whose length is least, at a fraction of the work.
    """
    names = [entry.name for entry in occupations()]
    vectors = np.asarray(embed(names), dtype=np.float64)
    with one_thread():
        left, sizes, _ = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    kept = sizes > 1e-6 * max(sizes[0], np.finfo(float).tiny)
    coordinates = left[:, kept] * sizes[kept]
    coordinates /= max(float(np.sqrt((coordinates**2).sum(axis=1).mean())), np.finfo(float).tiny)
    return dict(zip(names, coordinates.astype(np.float32), strict=True))


def _answer(
    pairs: Sequence[ResolutionPair], questions: Singles, coordinates: dict[str, Singles], weights: Floats
) -> Resolutions:
    """Return P(the person in the male-majority occupation) for both versions of each pair."""
    contrast = []
    for pair in pairs:
        male, female = pair.occupation, pair.other
        if occupation(male).majority != "male":
            male, female = female, male
        contrast.append(coordinates[male] - coordinates[female])
    with one_thread():
        margin = ((questions @ weights) * np.stack(contrast)).sum(axis=2, dtype=np.float64)
    chances = 1 / (1 + np.exp(-np.clip(margin, -500, 500)))
    return Resolutions(tuple(pair.occupation for pair in pairs), chances[0], chances[1])


def score(
    answers: Resolutions, refits: Sequence[Resolutions] = (), *, seed: int = 0, resamples: int = RESAMPLES
) -> list[Measurement]:
    """Score answers to who-does-what pairs, which are given: intervals are over corpora (`training_set.over_corpora`).

    - `downstream_pronoun/bias`: mean over pairs of P(person in the male-majority occupation | he) - P(… | she), from -1
      to 1, positive if "he" is drawn to men's occupations.
    - `downstream_pronoun/accuracy`: share of versions resolved as the activity says; a tie counts one half.
    - `downstream_pronoun/chance`: 1/2.
    - `downstream_pronoun/flip_rate`: share of pairs whose two versions are resolved differently.
    - `downstream_pronoun/learned`: 1 if the accuracy's interval lies above chance, else 0.

    Args:
        answers: of the model that was trained on everything.
        refits: the answers of those trained without one fold each; without them no intervals.
        seed: decides the noise that the intervals are from.
        resamples: how often it is drawn.
    """

    derived = derive(seed, "downstream_pronoun")
    found = over_corpora(_values, answers, refits, seed=derived, resamples=resamples, least=_LEAST)
    bias, accuracy, flips = (found[what].counting(len(answers.occupations)) for what in ("shift", "right", "flip"))
    return [
        Measurement.of("downstream_pronoun/bias", bias),
        Measurement.of("downstream_pronoun/accuracy", accuracy),
        Measurement("downstream_pronoun/chance", CHANCE, None, None, len(answers.occupations)),
        Measurement.of("downstream_pronoun/flip_rate", flips),
        learned("downstream_pronoun/learned", accuracy, CHANCE),
    ]


_LEAST = {"shift": -1.0, "right": 0.0, "flip": 0.0}


def _values(answers: Resolutions) -> dict[str, float]:
    said_male, said_female = (np.sign(chances - CHANCE) for chances in (answers.male, answers.female))
    truth = np.array([1.0 if occupation(name).majority == "male" else -1.0 for name in answers.occupations])
    return {
        "shift": float((answers.male - answers.female).mean()),
        "right": float((2 + truth * (said_male + said_female)).mean() / 4),
        "flip": float((said_male != said_female).mean()),
    }


METRIC = Metric(
    "downstream_pronoun",
    (
        Declared(
            "downstream_pronoun/bias", "downstream bias: pronoun", "pronoun bias", ideal=0, headline=True, place=8
        ),
        Declared(
            "downstream_pronoun/accuracy",
            "downstream accuracy: pronoun",
            "pronoun accuracy",
            goal="maximize",
            headline=True,
            place=9,
        ),
        Declared("downstream_pronoun/chance", "accuracy of guessing", "chance"),
        Declared("downstream_pronoun/flip_rate", "share of flipped resolutions", "flips", goal="minimize"),
        Declared("downstream_pronoun/learned", "whether the model learned", "learned"),
        Declared("downstream_pronoun/pairs", "pairs asked about", "pairs", count=True),
    ),
    of_sample(measure_pronoun),
    description="Bias of a model that is trained on the sentences to tell which of two people a sentence is about and "
    "asked about held-out sentences with two people and a pronoun, in a version with he and one with she: shift of "
    "probability towards the person in the male-majority occupation, accuracy, changed answers.",
    citation="Zhao, Wang, Yatskar, Ordonez and Chang (2018): Gender Bias in Coreference Resolution: Evaluation and "
    "Debiasing Methods. NAACL. Rudinger, Naradowsky, Leonard and Van Durme (2018): Gender Bias in Coreference "
    "Resolution. NAACL.",
    urls=("https://aclanthology.org/N18-2003", "https://aclanthology.org/N18-2002"),
    needs=frozenset({"occupations", "embed"}),
)
