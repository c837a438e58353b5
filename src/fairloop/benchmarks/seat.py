"""SEAT: are sentences about one group closer to one set of attributes than sentences about the other?

- Caliskan, Bryson and Narayanan 2017, "Semantics derived automatically from language corpora contain human-like
  biases" (Science): the association test of word sets X, Y with attributes A, B.
- May, Wang, Bordia, Bowman and Rudinger 2019, "On Measuring Social Biases in Sentence Encoders" (NAACL): the same
  with sentences.
- Meade, Poole-Dayan and Reddy 2022 (ACL): mean of the last layer over all tokens, special tokens included.

With s(w) = mean over A of cos(w, a) - mean over B of cos(w, b), the effect size is d = [mean over X of s - mean over Y
of s] / [standard deviation of s over X and Y] (N - 1), and the p-value is the share of equal partitions of X and Y
whose sum of s over the first part is at least that of X (one-sided; the observed partition counts).
A sentence that stands twice in a set counts once, as in the published implementation.

The sentences of one word hang together, so that intervals resample words (`seat_words`), on Fisher's scale
(`statistics.effect_size`). A mean of absolute values has no interval: where tests lie near 0 it is too large by an
amount that depends on what is to be estimated.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from fairloop.benchmarks.data import DataSet, read_json
from fairloop.benchmarks.result import Benchmark, BenchmarkResult, Skipped, Task, skipped_measurement
from fairloop.benchmarks.seat_words import words_of
from fairloop.benchmarks.settings import ResampledSettings
from fairloop.errors import Fault, UserError
from fairloop.measures.catalogue import Declared
from fairloop.measures.measurement import Measurement
from fairloop.plm.encoder import Pooling
from fairloop.seeding import derive, random_generator
from fairloop.statistics.bootstrap import bootstrap_sums
from fairloop.statistics.effect_size import effect_columns, fisher_of_sums, from_fisher
from fairloop.statistics.estimate import Estimate
from fairloop.statistics.exact_permutation import exact_permutation_test

SETS = ("targ1", "targ2", "attr1", "attr2")

#: The tests that Meade et al. 2022 average, by group.
GROUPS = {
    "gender": ("sent-weat6", "sent-weat6b", "sent-weat7", "sent-weat7b", "sent-weat8", "sent-weat8b"),
    "race": (
        "sent-angry_black_woman_stereotype",
        "sent-angry_black_woman_stereotype_b",
        "sent-weat3",
        "sent-weat3b",
        "sent-weat4",
        "sent-weat5",
        "sent-weat5b",
    ),
    "religion": ("sent-religion1", "sent-religion1b", "sent-religion2", "sent-religion2b"),
}

#: Samples of the published p-value, and the largest number of partitions that it enumerates instead.
PUBLISHED_SAMPLES = 100_000


class SeatSettings(ResampledSettings):
    """Settings of SEAT."""

    name: Literal["seat"] = Field("seat", description="The benchmark")
    tests: tuple[str, ...] = Field(
        (), strict=False, description="Names of tests, such as sent-weat6; empty is every test of the folder"
    )
    pooling: Literal["mean", "cls", "last"] = Field("mean", description="How token vectors become a sentence's vector")
    p_value: Literal["exact", "sampled"] = Field("exact", description="Exact, or 100,000 samples as published")


ROUNDING = 1e-9
"""Associations that differ by no more are equal: cosines of unit vectors in double precision."""


@dataclass(frozen=True)
class SeatTest:
    """One test: its name and its four sets of sentences, without repetitions."""

    name: str
    sets: dict[str, tuple[str, ...]]
    categories: dict[str, str]


@dataclass(frozen=True)
class SeatItem:
    """The result of one test."""

    test: str
    targets: str
    attributes: str
    effect_size: float
    low: float
    high: float
    p_value: float
    p_value_method: str
    partitions: int
    target_sentences: int
    target_words: int


def read(folder: Path, names: tuple[str, ...] = ()) -> list[SeatTest]:
    """Read the tests of a folder (`<name>.jsonl`), in the order of their names.

    Raises:
        UserError: if a test that is asked for is not there.
        Fault: if a file is damaged; the line names it.
    """
    files = {path.stem: path for path in sorted(folder.glob("*.jsonl"))}
    for name in names:
        if name not in files:
            raise UserError.of("benchmark.tests", name, f"{folder} has no such test")
    if not files:
        raise Fault(f"{folder}: it holds no test (*.jsonl)")
    return [_read_test(files[name]) for name in (names or files)]


def _read_test(path: Path) -> SeatTest:
    content = read_json(path)
    sets, categories = {}, {}
    for name in SETS:
        part = content.get(name) if isinstance(content, dict) else None
        if not isinstance(part, dict) or not isinstance(part.get("examples"), list):
            raise Fault(f"{path}: it has no {name} with examples")
        sets[name] = tuple(dict.fromkeys(str(example) for example in part["examples"]))
        categories[name] = str(part.get("category", name))
        if not sets[name]:
            raise Fault(f"{path}: {name} is empty")
    if len(sets["targ1"]) + len(sets["targ2"]) < 3:
        raise Fault(f"{path}: its targets are too few for an effect size")
    return SeatTest(path.stem, sets, categories)


def run(task: Task, settings: SeatSettings) -> BenchmarkResult:
    """Run the tests; each gives an effect size and a p-value."""
    tests = read(task.folder, settings.tests)
    asked = {test.name for test in tests}
    tests, skipped = _within_window(task, tests)
    sentences = sorted({sentence for test in tests for part in test.sets.values() for sentence in part})
    pooling: Pooling = settings.pooling
    unit = task.plm.encoder.embed(
        sentences, pooling=pooling, batch_tokens=task.plm.batch_tokens, on_progress=task.on_progress
    ).astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    place = {sentence: number for number, sentence in enumerate(sentences)}
    items = []
    for test in tests:
        vectors = {name: unit[[place[sentence] for sentence in part]] for name, part in test.sets.items()}
        if (result := _result(test, vectors, settings, task.seed)) is not None:
            items.append(result)
        else:
            skipped.append(Skipped(test.name, "no effect size: its targets are all associated alike"))
    if not items:
        raise Fault(f"{task.folder}: none of its {len(tests)} tests has an effect size")
    measurements = _measurements(items, asked)
    total = sum(len(part) for test in tests for part in test.sets.values()) + len(skipped)
    measurements.append(skipped_measurement("seat", skipped, total))
    return BenchmarkResult(
        "seat", "may2019, meade2022 pooling" if pooling == "mean" else "may2019", measurements, items, skipped
    )


def _within_window(task: Task, tests: list[SeatTest]) -> tuple[list[SeatTest], list[Skipped]]:
    """Leave out sentences that are longer than the model's window, and tests that lose a whole set by that."""
    skipped: list[Skipped] = []
    kept = []
    for test in tests:
        sets = {}
        for name, part in test.sets.items():
            long = set(task.plm.encoder.too_long(part))
            skipped += [
                Skipped(f"{test.name}/{name}/{number}", "longer than the model's window") for number in sorted(long)
            ]
            sets[name] = tuple(sentence for number, sentence in enumerate(part) if number not in long)
        if all(sets.values()):
            kept.append(SeatTest(test.name, sets, test.categories))
        else:
            skipped.append(Skipped(test.name, "a set has no sentence within the model's window"))
    return kept, skipped


def association(targets: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return s(w, A, B) of unit vectors: mean cosine with A minus mean cosine with B, shape [targets]."""
    return np.asarray((targets @ first.T).mean(axis=1) - (targets @ second.T).mean(axis=1))


def _result(test: SeatTest, vectors: dict[str, np.ndarray], settings: SeatSettings, seed: int) -> SeatItem | None:
    """Return a test's result; None if it is undefined, as where its sets of attributes, or its targets, are equal."""
    first = association(vectors["targ1"], vectors["attr1"], vectors["attr2"])
    second = association(vectors["targ2"], vectors["attr1"], vectors["attr2"])
    if np.concatenate([first, second]).std() < ROUNDING:
        return None
    words = [f"{name} {word}" for name in ("targ1", "targ2") for word in words_of(test.sets[name])]
    effect = _effect_size(first, second, words, derive(seed, "seat interval", test.name), settings.resamples)
    p_value, method = _p_value(first, second, settings, seed, test.name)
    return SeatItem(
        test.name,
        f"{test.categories['targ1']} / {test.categories['targ2']}",
        f"{test.categories['attr1']} / {test.categories['attr2']}",
        effect.value,
        effect.low,
        effect.high,
        p_value,
        method,
        math.comb(len(first) + len(second), len(first)),
        len(first) + len(second),
        len(set(words)),
    )


def _p_value(first: np.ndarray, second: np.ndarray, settings: SeatSettings, seed: int, test: str) -> tuple[float, str]:
    if settings.p_value == "exact":
        exact = exact_permutation_test(first, second)
        return exact.p_value, exact.method
    if math.comb(len(first) + len(second), len(first)) <= PUBLISHED_SAMPLES:
        return exact_permutation_test(first, second).p_value, "counted"
    return sampled_p_value(first, second, PUBLISHED_SAMPLES, random_generator(seed, "seat", test)), "sampled"


def sampled_p_value(first: np.ndarray, second: np.ndarray, samples: int, random: np.random.Generator) -> float:
    """Return the published p-value: `samples` - 1 random partitions, and the observed one counted as one more."""
    scores = np.concatenate([first, second])
    observed = first.sum() - 1e-12
    at_once = max(1, 4_000_000 // len(scores))
    reached, drawn = 1, 1
    while drawn < samples:
        count = min(at_once, samples - drawn)
        # The places of the n smallest of N random numbers are a random subset of n.
        chosen = np.argpartition(random.random((count, len(scores))), len(first) - 1, axis=1)[:, : len(first)]
        reached += int((scores[chosen].sum(axis=1) >= observed).sum())
        drawn += count
    return reached / samples


def _effect_size(first: np.ndarray, second: np.ndarray, words: list[str], seed: int, resamples: int) -> Estimate:
    """Return d with its interval over the words of both sets of targets."""
    columns = effect_columns(np.concatenate([first, second]), np.repeat([True, False], [len(first), len(second)]))
    scaled = bootstrap_sums(columns, fisher_of_sums, seed=seed, resamples=resamples, clusters=words)
    return from_fisher(scaled, columns.sum(axis=0))


def _measurements(items: list[SeatItem], asked: set[str]) -> list[Measurement]:
    """Return the tests' measures, and the mean of each group of which every test was `asked` for.

    A mean is over the group's tests that have an effect size; its n says how many these are.
    """
    measurements = []
    for item in items:
        sentences = item.target_sentences
        effect = Estimate(item.effect_size, item.low, item.high, sentences, item.target_words)
        measurements += [
            Measurement.of(f"seat/{item.test}/effect_size", effect),
            Measurement(f"seat/{item.test}/p_value", item.p_value, None, None, sentences),
        ]
    sizes = {item.test: abs(item.effect_size) for item in items}
    published = [*GROUPS.items(), ("overall", tuple(test for tests in GROUPS.values() for test in tests))]
    means = [(f"seat/{group}_mean_abs_effect_size", tests) for group, tests in published]
    for name, tests in [*means, ("seat/mean_abs_effect_size", GROUPS["gender"])]:
        defined = [sizes[test] for test in tests if test in sizes]
        if defined and asked.issuperset(tests):
            measurements.append(Measurement(name, float(np.mean(defined)), None, None, len(defined)))
    return measurements


MEASURES = (
    Declared("seat/mean_abs_effect_size", "SEAT: mean |d|", "SEAT", goal="minimize", ideal=0, headline=True, place=21),
    Declared("seat/*mean_abs_effect_size", goal="minimize", ideal=0),
    Declared("seat/*/effect_size", ideal=0),
    Declared("seat/*/p_value"),
)

BENCHMARK = Benchmark(
    SeatSettings, ("masked", "causal", "encoder"), DataSet("seat", any_of=True), run, MEASURES, "hidden_states"
)
