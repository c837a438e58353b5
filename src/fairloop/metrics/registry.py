"""Find a metric of a corpus by the name of its file; no heavy package is imported."""

import importlib
import pkgutil
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from fairloop.errors import UserError
from fairloop.metrics.metric import Metric
from fairloop.settings import Settings

DEFAULT = ("rule_based", "embedding", "downstream", "downstream_pronoun", "downstream_hiring", "diversity")
"""The metrics that are measured unless others are chosen."""

_ADAPTER = "module"
"""The one module of this package that imports `evaluate`."""


@cache
def metrics() -> dict[str, Metric]:
    """Return every metric: each module of this package that has a `METRIC`; the default ones first, in their order."""
    names = [one.name for one in pkgutil.iter_modules([str(Path(__file__).parent)]) if one.name != _ADAPTER]
    modules = [importlib.import_module(f"{__package__}.{name}") for name in names]
    found = {module.METRIC.name: module.METRIC for module in modules if hasattr(module, "METRIC")}
    return {name: found[name] for name in dict.fromkeys([*DEFAULT, *found])}


def metric(name: object, key: str = "metric") -> Metric:
    """Return the metric of that name.

    Args:
        name: the name of its file.
        key: where the name was given.

    Raises:
        UserError: there is none.
    """
    if not isinstance(name, str) or name not in metrics():
        raise UserError.of(key, name, f"choose one of {', '.join(metrics())}")
    return metrics()[name]


def in_order(chosen: Iterable[str]) -> tuple[str, ...]:
    """Return chosen metrics in the order in which they are measured, whatever order they were given in.

    Raises:
        UserError: one of them is no metric, or is chosen twice.
    """
    names = [metric(name, "study.metrics").name for name in chosen]
    for name in names:
        if names.count(name) > 1:
            raise UserError.of("study.metrics", name, "each metric once")
    return tuple(name for name in metrics() if name in names)


def settings_of(name: str, values: Any) -> Settings:
    """Validate the settings of a metric: what stands under its name in the config group `metric`.

    Raises:
        UserError: there is no such metric, or it has no settings.
        pydantic.ValidationError: a key or a value is wrong.
    """
    settings = metric(name).settings
    if settings is None:
        with_settings = [one.name for one in metrics().values() if one.settings is not None]
        raise UserError.of(
            "metric", name, f"it has no settings; those with settings are {', '.join(with_settings) or 'none'}"
        )
    return settings.model_validate(values)


def needs_encoder(chosen: Iterable[str]) -> bool:
    """Say whether one of the metrics reads sentence vectors."""
    return any("embed" in metric(name).needs for name in chosen)
