"""Every metric as an `evaluate` module: one adapter around a `Metric`."""

from collections.abc import Hashable, Sequence
from typing import Any

import evaluate
from datasets import Features, Value

from fairloop.measures.measurement import Measurement
from fairloop.metrics.metric import Metric, Sample

LABELS = "labels"
"""The configuration whose inputs are labels instead of sentences and occupations."""

_ARGUMENTS = {
    "predictions": "list of sentences; in the configuration `labels` their genders (male, female, mixed, none).",
    "references": "list of occupations; in the configuration `labels` the stereotype labels (+1, 0, -1).",
    "embed": "function from a list of sentences to an array of vectors.",
    "device": "torch device.",
    "pairs": "held-out pairs to ask about, where the metric asks; the packaged ones if left out.",
    "groups": "optional list, sentences with the same group are left out together.",
    "seed, resamples, partitions": "of the training noise that is drawn and of permutation tests.",
    "others": "the metric's settings.",
}


class CorpusModule(evaluate.Metric):  # type: ignore[misc]
    """An `evaluate` module that measures with a `Metric` and keeps its inputs in memory.

    `evaluate` makes a cache folder in the user's home for every module, also for those that keep everything in
    memory and never use it; this one does not. Inputs may come at once (`compute`) or bit by bit (`add`, `add_batch`).
    """

    def __init__(self, metric: Metric, config_name: str | None = None, **options: Any) -> None:
        self.metric = metric
        super().__init__(config_name=config_name, keep_in_memory=True, **options)
        self.info.module_name = metric.name

    def _build_data_dir(self) -> str:
        return ""

    def _info(self) -> evaluate.MetricInfo:
        features = {"predictions": Value("string")}
        if self.config_name == LABELS:
            features["references"] = Value("int8")
        elif {"occupations", "labels"} & self.metric.needs:
            features["references"] = Value("string")
        arguments = "\n".join(f"    {name}: {text}" for name, text in _ARGUMENTS.items())
        return evaluate.MetricInfo(
            description=self.metric.description,
            citation=self.metric.citation,
            features=Features(features),
            inputs_description=f"\nArgs:\n{arguments}\nReturns:\n    For each measure its value, and `_low`, `_high` "
            "(95% interval) and `_n` beside it.\n",
            reference_urls=list(self.metric.urls),
        )

    def _compute(
        self,
        *,
        predictions: Sequence[Any],
        references: Sequence[Any] = (),
        groups: Sequence[Hashable] | None = None,
        **options: Any,
    ) -> dict[str, float | int | None]:
        given = {name: options.pop(name) for name in list(options) if name in Sample.__dataclass_fields__}
        if self.config_name == LABELS:
            given |= {"texts": (), "gender": predictions, "stereotype": references}
        else:
            given |= {"texts": predictions, "occupations": references}
            if "labels" in self.metric.needs:
                given |= _labels(predictions, references)
        settings = self.metric.settings.model_validate(options) if self.metric.settings is not None else None
        if options and settings is None:
            raise TypeError(f"{self.metric.name} has no settings, but was given {', '.join(options)}")
        return flat(self.metric.measure(Sample(groups=groups, **given), settings))


def _labels(texts: Sequence[str], occupations: Sequence[str]) -> dict[str, Any]:
    from fairloop.corpus.annotation import annotate

    labels = [annotate(text, occupation) for text, occupation in zip(texts, occupations, strict=True)]
    return {"gender": [one.gender for one in labels], "stereotype": [one.stereotype for one in labels]}


def flat(measurements: Sequence[Measurement]) -> dict[str, float | int | None]:
    """Return measurements as an `evaluate` result: `name`, `name_low`, `name_high`, `name_n`."""
    result: dict[str, float | int | None] = {}
    for one in measurements:
        result[one.metric] = one.value
        result[f"{one.metric}_low"] = one.low
        result[f"{one.metric}_high"] = one.high
        result[f"{one.metric}_n"] = one.n
    return result
