"""What the project's `evaluate` metrics share: they leave no files behind and return flat results."""

from collections.abc import Sequence
from typing import Any

import evaluate

from fairloop.measures.measurement import Measurement


class InMemoryMetric(evaluate.Metric):  # type: ignore[misc]
    """An `evaluate.Metric` that keeps its inputs in memory.

    `evaluate` makes a cache folder in the user's home for every metric, also for those that keep everything in
    memory and never use it; this one does not. Inputs may come at once (`compute`) or bit by bit (`add`, `add_batch`).
    """

    def __init__(self, config_name: str | None = None, **options: Any) -> None:
        super().__init__(config_name=config_name, keep_in_memory=True, **options)

    def _build_data_dir(self) -> str:
        return ""


def flat(measurements: Sequence[Measurement]) -> dict[str, float | int | None]:
    """Return measurements as an `evaluate` result: `name`, `name_low`, `name_high`, `name_n`."""
    result: dict[str, float | int | None] = {}
    for one in measurements:
        result[one.metric] = one.value
        result[f"{one.metric}_low"] = one.low
        result[f"{one.metric}_high"] = one.high
        result[f"{one.metric}_n"] = one.n
    return result
