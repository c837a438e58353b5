"""Published scores, to be shown beside measured ones: `published_scores.csv` of each benchmark."""

from collections.abc import Mapping
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
        setting: The benchmark's setting under which a measured score compares (`key=value`), empty for none.
        source: Where the figure stands.
    """

    model: str
    path: str
    metric: str
    value: float
    setting: str
    source: str


@cache
def published_scores() -> tuple[PublishedScore, ...]:
    """Return every published score that ships with Fairloop, under Fairloop's metric names."""
    return tuple(
        PublishedScore(row["model"], row["path"], row["metric"], float(row["value"]), row["setting"], row["source"])
        for row in packaged("published_scores.csv")
    )


def published_for(path: str, name: str = "", settings: Mapping[str, object] | None = None) -> dict[str, PublishedScore]:
    """Return the published scores of a model by metric.

    Args:
        path: The model's Hub id, with or without its owner.
        name: What the model is called; a debiased model is found by the publication's name for it.
        settings: The benchmark's settings: figures of another protocol are left out. None leaves out nothing.
    """
    last = path.rsplit("/", maxsplit=1)[-1]
    return {
        score.metric: score
        for score in published_scores()
        if (score.path == last if score.path else score.model.casefold() == name.casefold())
        and (settings is None or _fits(score.setting, settings))
    }


def _fits(setting: str, settings: Mapping[str, object]) -> bool:
    key, _, value = setting.partition("=")
    return not setting or str(settings.get(key, value)) == value
