"""What a metric of a corpus is, what it is given and what it returns."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fairloop.measures.catalogue import Declared
from fairloop.measures.measurement import Measurement
from fairloop.metrics.training_set import RESAMPLES
from fairloop.settings import Settings

Embed = Callable[[Sequence[str]], NDArray[np.floating]]
"""Maps n sentences to their vectors [n, d]."""

Need = Literal["occupations", "labels", "embed", "device"]
"""What a metric reads besides the sentences: their occupations, their labels, an encoder, or a torch device."""


@dataclass(frozen=True)
class Sample:
    """What a metric is given: the sentences of a corpus, and the means to measure them.

    Attributes:
        texts: [n] sentences.
        occupations: [n], the occupation that each is about.
        gender: [n], "male", "female", "mixed" or "none".
        stereotype: [n], +1 (stereotypical), -1 (anti-stereotypical) or 0.
        groups: [n], sentences whose prompts shared examples, which are one unit of the intervals; None: each by itself.
        embed: the encoder; None only for metrics that do not need one.
        pairs: held-out pairs that are asked about instead of the packaged ones of the metric.
        device: where a model of the metric's own runs.
        seed: decides the training noise and sampled partitions.
        resamples: draws of the training noise behind the downstream intervals.
        partitions: the largest number of partitions that a permutation test looks at.
    """

    texts: Sequence[str]
    occupations: Sequence[str] = ()
    gender: Sequence[str] = ()
    stereotype: Sequence[int] = ()
    groups: Sequence[Hashable] | None = None
    embed: Embed | None = None
    pairs: Sequence[Any] | None = None
    device: str = "cpu"
    seed: int = 0
    resamples: int = RESAMPLES
    partitions: int = 10_000

    @property
    def encoder(self) -> Embed:
        """The encoder; only for metrics that need one."""
        if self.embed is None:
            raise ValueError("embed: this metric needs a function from sentences to their vectors")
        return self.embed


def of_sample(measure: Callable[..., list[Measurement]]) -> Callable[[Sample, None], list[Measurement]]:
    """Return a measure without settings as a metric has it: it is given the sample's fields that it names."""
    names = set(signature(measure).parameters) & set(Sample.__dataclass_fields__)

    def measured(sample: Sample, settings: None) -> list[Measurement]:
        given = {name: getattr(sample, name) for name in names}
        return measure(**(given | {"embed": sample.encoder} if "embed" in names else given))

    return measured


@dataclass(frozen=True)
class Metric:
    """One metric of a corpus: its file ends with `METRIC = Metric(...)`.

    Attributes:
        name: the name of its file.
        measures: what it measures, as rows of the catalogue.
        measure: takes a sample and the metric's settings (None where it has none).
        description: what it measures, in a sentence or two.
        citation: where it is from.
        urls: of the publications.
        needs: what it reads besides the sentences.
        settings: its settings class, if it has settings: the keys of the config group `metric` under its name.
    """

    name: str
    measures: tuple[Declared, ...]
    measure: Callable[[Sample, Any], list[Measurement]]
    description: str
    citation: str
    urls: tuple[str, ...]
    needs: frozenset[Need] = frozenset()
    settings: type[Settings] | None = None
