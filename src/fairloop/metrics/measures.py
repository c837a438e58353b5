"""Measure a corpus with the chosen metrics, as the studies do."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fairloop.errors import UserError
from fairloop.measures.measurement import Measurement
from fairloop.metrics.embedding import remembering
from fairloop.metrics.metric import Embed, Sample
from fairloop.metrics.registry import DEFAULT, in_order, metric
from fairloop.settings import Settings

if TYPE_CHECKING:
    from datasets import Dataset


def measure_corpus(
    corpus: "Dataset",
    embed: Embed | None,
    *,
    seed: int,
    chosen: Iterable[str] = DEFAULT,
    settings: Mapping[str, Settings] | None = None,
    pairs: Mapping[str, Sequence[Any]] | None = None,
    device: str = "cpu",
    resamples: int = Sample.resamples,
    partitions: int = Sample.partitions,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Measurement]:
    """Measure a labelled corpus with the chosen metrics, always in the same order.

    Equal arguments give equal measurements, bit for bit on the same machine, if the encoder does so.

    Args:
        corpus: a table with the columns text, occupation, gender, stereotype and group (`fairloop.corpus.schema`).
        embed: the encoder of the embedding-based and the downstream metrics, which embed the sentences of the
            corpus once for all tasks; None if no chosen metric needs it (`registry.needs_encoder`).
        seed: decides the training noise and sampled partitions.
        chosen: names of metrics.
        settings: the settings of those that have settings, by name; a metric's defaults where its name is missing.
        pairs: held-out pairs by metric, instead of the packaged ones (`fairloop.corpus.heldout`).
        device: where a metric runs a model of its own.
        resamples: draws of the training noise behind the downstream intervals.
        partitions: the largest number of partitions that a permutation test looks at.
        on_progress: called with (metrics measured, all metrics), first before any is.

    Raises:
        UserError: the corpus has no sentences, or a name is no metric's.
    """
    if len(corpus) == 0:
        raise UserError("corpus: it has no sentences, so there is nothing to measure")
    table = corpus.with_format(None)[:]
    sample = Sample(
        texts=table["text"],
        occupations=table["occupation"],
        gender=table["gender"],
        stereotype=table["stereotype"],
        groups=table["group"],
        embed=None if embed is None else remembering(embed),
        device=device,
        seed=seed,
        resamples=resamples,
        partitions=partitions,
    )
    measured: list[Measurement] = []
    names = in_order(chosen)
    for done, name in enumerate(names):
        if on_progress is not None:
            on_progress(done, len(names))
        one = metric(name)
        own = (settings or {}).get(name) or (one.settings() if one.settings is not None else None)
        measured += one.measure(replace(sample, pairs=(pairs or {}).get(name)), own)
    if on_progress is not None:
        on_progress(len(names), len(names))
    return measured
