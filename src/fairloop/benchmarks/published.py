"""Published scores, to be shown beside measured ones: `published_scores.csv` of each benchmark."""

from dataclasses import dataclass
from functools import cache

from fairloop.benchmarks.data import packaged


@dataclass(frozen=True)
class PublishedScore:
    """One figure of a publication.

    Attributes:
        model: The model, in the publication's words.
        path: Hub id of an unchanged model, empty for a debiased one.
        metric: Fairloop's name of the measure.
        value: The figure.
        protocol: The protocol, with its split, of the measured scores that it can be compared with.
        source: Where the figure stands.
    """

    model: str
    path: str
    metric: str
    value: float
    protocol: str
    source: str


@cache
def published_scores() -> tuple[PublishedScore, ...]:
    """Return every published score that ships with Fairloop, under Fairloop's metric names."""
    return tuple(
        PublishedScore(row["model"], row["path"], row["metric"], float(row["value"]), row["protocol"], row["source"])
        for row in packaged("published_scores.csv")
    )


def published_of(path: str, name: str = "") -> list[PublishedScore]:
    """Return the published scores of a model, of whatever protocol.

    Args:
        path: The model's Hub id, with or without its owner.
        name: What the model is called; a debiased model is found by the publication's name for it.
    """
    last = path.rsplit("/", maxsplit=1)[-1]
    return [
        score
        for score in published_scores()
        if (score.path == last if score.path else score.model.casefold() == name.casefold())
    ]


def published_for(path: str, name: str, protocol: str) -> dict[str, PublishedScore]:
    """Return those published scores of a model, by metric, that scores of a protocol can be compared with."""
    return {score.metric: score for score in published_of(path, name) if score.protocol == protocol}
