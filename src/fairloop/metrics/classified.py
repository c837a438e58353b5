"""What a sentence classifier says of a corpus: means over sentences, and how those about men and women differ."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fairloop.corpus.counterfactual import swap_gender
from fairloop.measures.measurement import Measurement
from fairloop.metrics.metric import Sample
from fairloop.statistics.intervals import estimate_mean, estimate_ratio, estimate_sums
from fairloop.statistics.units import divide

Floats = NDArray[np.float64]


def measure_classified(
    family: str, classify: Callable[[Sequence[str]], Mapping[str, Floats]], sample: Sample
) -> list[Measurement]:
    """Measure the sentences of a corpus by what a classifier says of each.

    Args:
        family: the first part of the measures' names.
        classify: gives for n sentences, under the name of each measure, n numbers; the first is the score.
        sample: the sentences with their genders and groups.

    Returns:
        For each number `what`: `family/what`, its mean; `family/male_what` and `family/female_what`, the means of
        sentences about a man and about a woman; `family/what_gap`, the first of these minus the second. And
        `family/classifier_gap`: the score of the sentences' male versions minus that of their female ones. It is what
        the classifier itself makes of gender, where nothing but the gendered words differs.
    """
    texts, gender = list(sample.texts), np.asarray(sample.gender, dtype=object)
    gendered = np.flatnonzero((gender == "male") | (gender == "female"))
    values = classify(texts + [swap_gender(texts[place]) for place in gendered])
    measured: list[Measurement] = []
    for what, numbers in values.items():
        measured += _by_gender(family, what, numbers[: len(texts)], gender, sample)
    score = next(iter(values.values()))
    own, other = score[gendered], score[len(texts) :]
    differences = np.where(gender[gendered] == "male", own - other, other - own)
    groups = None if sample.groups is None else [sample.groups[int(place)] for place in gendered]
    gap = estimate_mean(differences, clusters=groups)
    return [*measured, Measurement.of(f"{family}/classifier_gap", gap)]


def _by_gender(
    family: str, what: str, numbers: Floats, gender: NDArray[np.object_], sample: Sample
) -> Iterator[Measurement]:
    male, female = (np.asarray(gender == side, dtype=np.float64) for side in ("male", "female"))
    for name, chosen in ((what, np.ones_like(numbers)), (f"male_{what}", male), (f"female_{what}", female)):
        mean = estimate_ratio(numbers * chosen, chosen, clusters=sample.groups)
        yield Measurement.of(f"{family}/{name}", mean)
    gap = estimate_sums(
        np.column_stack([numbers * male, male, numbers * female, female]),
        lambda sums: divide(sums[..., 0], sums[..., 1]) - divide(sums[..., 2], sums[..., 3]),
        clusters=sample.groups,
    )
    yield Measurement.of(f"{family}/{what}_gap", gap.counting(int((male + female).sum())))
