"""Settings about the measures of a corpus: rates over prompt groups, WEAT, diversity, classifiers, downstream tasks."""

import zlib
from collections.abc import Iterator, Mapping

import numpy as np

from fairloop.corpus.heldout import CounterfactualPair, ResolutionPair
from fairloop.lexicon import occupations
from fairloop.measures.measurement import Measurement
from fairloop.metrics.diversity import measure_diversity
from fairloop.metrics.downstream import measure_downstream
from fairloop.metrics.downstream_hiring import measure_hiring
from fairloop.metrics.downstream_pronoun import measure_pronoun
from fairloop.metrics.rule_based import measure_rule_based
from fairloop.statistics.differences import independent_difference
from fairloop.statistics.effect_size import effect_columns, fisher_of_sums, from_fisher
from fairloop.statistics.estimate import Estimate
from fairloop.statistics.intervals import estimate_mean, estimate_sums
from fairloop.statistics.units import divide
from simulate.setting import Setting, Study

Found = dict[str, tuple[Estimate, float | None]]
GROUP = 16
"""Sentences whose prompts share examples, as the recursion writes them."""


def settings() -> Iterator[Setting]:
    """Yield the settings."""
    for sentences in (24, 64, 128, 256):
        groups = -(-sentences // GROUP)
        for spread in (0.0, 0.5):
            alike = "independent sentences" if not spread else "group rates vary by half"
            yield Setting("corpus", f"rates, {alike}", f"{sentences} / {groups}", _rates(sentences, spread))
    yield Setting("corpus", "rates, few gendered (8%)", "256 / 16", _rates(256, 0.0, 0.08))
    few = "counts of few sentences: Wilson's interval errs on the safe side"
    alone = _rates(24, 0.0, group=1)
    yield Setting("corpus", "rates, each sentence by itself (seed corpus)", "24 / 24", alone, note=few)
    yield Setting("corpus", "difference of two corpora", "256 / 16", _difference(256))
    for sentences, effect in ((64, 0.5), (256, 0.0), (256, 1.0), (256, 1.6)):
        yield Setting("corpus", f"WEAT d = {effect:g}", f"{sentences} / {sentences // GROUP}", _weat(sentences, effect))
    safe = "the jackknife of a ratio of lengths errs on the safe side"
    yield Setting("corpus", "diversity, words of a Zipf law", "128 / 8", _diversity(128), note=safe)
    yield Setting("corpus", "classifier's score and gap", "256 / 16", _classified(256))
    wide = "Student's t of ten folds errs on the safe side where a statistic is bounded or counts who is chosen"
    yield Setting("downstream", f"three tasks, {SIZE} occupations", "192 / 10 folds", _downstream(192), 500, wide)


def _groups(sentences: int, group: int = GROUP) -> list[int]:
    return (np.arange(sentences) // group).tolist()


def _rates(sentences: int, spread: float, share: float = 0.5, rate: float = 0.6, group: int = GROUP) -> Study:
    clusters = _groups(sentences, group)

    def study(draw: np.random.Generator, number: int) -> Found:
        within = (1 + spread * draw.uniform(-1, 1, max(clusters) + 1))[clusters]
        gendered = draw.random(sentences) < share * within
        follows = draw.random(sentences) < (1 + rate) / 2
        sigma = np.where(gendered, np.where(follows, 1, -1), 0)
        # Half of the occupations are male-majority: a man follows the stereotype there.
        male = follows == (np.arange(sentences) % 2 == 0)
        gender = np.where(gendered, np.where(male, "male", "female"), "none").tolist()
        truth = {
            "net_stereotype_rate": share * rate,
            "gendered_share": share,
            "net_rate_among_gendered": rate,
            "male_share": 0.5,
        }
        found = measure_rule_based(gender, sigma.tolist(), groups=clusters)
        return {name: (one.estimate, truth[name]) for one in found for name in [one.metric.removeprefix("rule/")]}

    return study


def _difference(sentences: int) -> Study:
    once = _rates(sentences, 0.5)

    def study(draw: np.random.Generator, number: int) -> Found:
        first, second = (once(draw, number)["net_stereotype_rate"][0] for _ in range(2))
        ends = independent_difference(*((one.value, one.low, one.high) for one in (first, second)))
        return {"difference of B": (Estimate(second.value - first.value, *ends, first.n), 0.0)}

    return study


def _weat(sentences: int, effect: float) -> Study:
    clusters = _groups(sentences)
    first = np.arange(sentences) % 2 == 0
    gap = effect / np.sqrt(1 - effect**2 / 4)  # in units of the deviation within the sets

    def study(draw: np.random.Generator, number: int) -> Found:
        shared = draw.normal(size=max(clusters) + 1)[clusters]
        values = np.sqrt(0.1) * shared + np.sqrt(0.9) * draw.normal(size=sentences) + gap * first
        columns = effect_columns(values, first)
        estimate = from_fisher(estimate_sums(columns, fisher_of_sums, clusters=clusters), columns.sum(axis=0))
        return {"effect size d": (estimate, effect)}

    return study


def _diversity(sentences: int) -> Study:
    chances = 1 / np.arange(2, 2002)
    chances /= chances.sum()
    words = np.array([f"w{number}" for number in range(len(chances))])

    def study(draw: np.random.Generator, number: int) -> Found:
        texts = [" ".join(draw.choice(words, draw.integers(4, 9), p=chances)) for _ in range(sentences)]
        found = measure_diversity(texts, groups=_groups(sentences))
        wanted = ("diversity/distinct", "diversity/mean", "diversity/compression")  # there are no names, nor copies
        return {
            one.metric.removeprefix("diversity/"): (one.estimate, None)
            for one in found
            if one.metric.startswith(wanted)
        }

    return study


def _classified(sentences: int) -> Study:
    clusters = _groups(sentences)

    def study(draw: np.random.Generator, number: int) -> Found:
        male = draw.random(sentences) < 0.5
        score = np.tanh(draw.normal(size=sentences) + 0.3 * male + draw.normal(0, 0.3, max(clusters) + 1)[clusters])
        columns = np.column_stack([score * male, male, score * ~male, ~male]).astype(float)
        gap = estimate_sums(columns, _gap, clusters=clusters)
        return {"mean score": (estimate_mean(score, clusters=clusters), None), "score gap": (gap, None)}

    return study


def _gap(sums: np.ndarray) -> np.ndarray:
    return divide(sums[..., 0], sums[..., 1]) - divide(sums[..., 2], sums[..., 3])


SIZE = 12
"""Dimensions of the stand-in for a sentence encoder, and the number of occupations."""


def _vector(text: str, names: Mapping[str, int]) -> np.ndarray:
    """Return the vector of "<occupation> <he, she or -> <number>": of occupation, gender and sentence."""
    own = np.random.default_rng(zlib.crc32(text.encode())).normal(size=SIZE)
    if text in names:
        return np.random.default_rng(names[text]).normal(size=SIZE) + 0.3 * own
    number, gender, _ = text.split()
    if not number.isdigit():  # an occupation that the corpus lacks, by its name
        return own
    side = {"he": 1.0, "she": -1.0, "-": 0.0}[gender]
    centre = np.random.default_rng(int(number)).normal(size=SIZE)
    return centre + side * np.eye(SIZE)[0] * 1.5 + 1.5 * own


def _downstream(sentences: int) -> Study:
    """Sentences about `SIZE` occupations, each in its place; gender follows the stereotype in three of four."""
    sides = {
        kind: [one.name for one in occupations() if one.majority == kind][: SIZE // 2] for kind in ("male", "female")
    }
    names = [*sides["male"], *sides["female"]]
    number = {name: place for place, name in enumerate(names)}
    known: dict[str, np.ndarray] = {}

    def embed(texts: list[str]) -> np.ndarray:
        for text in texts:
            if text not in known:
                known[text] = _vector(text if len(text.split()) == 3 or text in number else "x - 0", number)
        return np.stack([known[text] for text in texts])

    def version(place: int, gender: str, which: int) -> str:
        return f"{place} {gender} {which}"

    def pair(kind: type, place: int, which: int, **more: str) -> CounterfactualPair:
        male, female = (version(place, gender, which) for gender in ("he", "she"))
        return kind(names[place], male, female, **more)

    pairs = [pair(CounterfactualPair, place, -which) for place in range(SIZE) for which in range(1, 4)]
    who = [
        pair(ResolutionPair, place, -which, other=names[(place + SIZE // 2) % SIZE])
        for place in range(SIZE)
        for which in range(1, 4)
    ]

    def study(draw: np.random.Generator, number: int) -> Found:
        known_before = set(known)
        about = draw.permutation(np.arange(sentences) % SIZE)
        stereotypical = draw.random(sentences) < 0.75
        gender = np.where((about < SIZE // 2) == stereotypical, "he", "she")
        texts = [
            version(int(place), str(one), int(draw.integers(1 << 30))) for place, one in zip(about, gender, strict=True)
        ]
        found: list[Measurement] = []
        for measure, asked in ((measure_downstream, pairs), (measure_hiring, pairs), (measure_pronoun, who)):
            found += measure(texts, [names[place] for place in about], embed, asked, seed=number, resamples=60)
        for text in set(known) - known_before - {one for each in (*pairs, *who) for one in (each.male, each.female)}:
            del known[text]
        return {
            one.metric.removeprefix("downstream_").removeprefix("downstream/"): (one.estimate, None)
            for one in found
            if one.low is not None
        }

    return study
