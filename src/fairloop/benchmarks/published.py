"""Published scores, to be shown beside measured ones: `data/published_scores.csv`."""

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources


@dataclass(frozen=True)
class PublishedScore:
    """One figure of a publication; `path` is the Hub id of an unchanged model, empty for a debiased one."""

    model: str
    path: str
    metric: str
    value: float
    source: str


@cache
def published_scores() -> tuple[PublishedScore, ...]:
    """Return every published score that ships with Fairloop, under Fairloop's metric names."""
    text = resources.files("fairloop.benchmarks").joinpath("data/published_scores.csv").read_text(encoding="utf-8")
    return tuple(
        PublishedScore(row["model"], row["path"], row["metric"], float(row["value"]), row["source"])
        for row in csv.DictReader(text.splitlines())
    )


def published_for(path: str) -> dict[str, PublishedScore]:
    """Return the published scores of the model with this Hub id (with or without its owner), by metric."""
    name = path.rsplit("/", maxsplit=1)[-1]
    return {score.metric: score for score in published_scores() if score.path == name}
