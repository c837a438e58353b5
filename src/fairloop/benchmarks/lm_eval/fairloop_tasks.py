"""Fairloop's measures as tasks of the lm-evaluation-harness: what its YAML files name. It needs nothing but Python.

`fairloop-data --lm-eval FOLDER` copies this file beside the tasks. A request is a context and a continuation, whose log
likelihood given the context is what the harness returns; a score is a difference of two of them. The formulas are those
of `fairloop/benchmarks/heldout_templates.py` and `fairloop/benchmarks/lpbs.py`, which say where they come from.
"""

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import correlation, fmean
from typing import Any

Row = tuple[dict[str, Any], float]
"""A request, and the log likelihood of its continuation."""

FOLDER = Path(__file__).parent


# --- what the harness asks --------------------------------------------------------------------------------------------


def load(tasks: str, **metadata: Any) -> dict[str, Any]:
    """Return the requests of a task as the harness wants them: a data set of one split."""
    import datasets

    rows = [json.loads(line) for line in (FOLDER / f"{tasks}.jsonl").read_text(encoding="utf-8").splitlines()]
    return {"test": datasets.Dataset.from_list(rows)}


def heldout_row(doc: Mapping[str, Any], results: Sequence[tuple[float, bool]]) -> dict[str, Row]:
    """Give every measure of the held-out templates this request."""
    return dict.fromkeys(HELDOUT, (dict(doc), float(results[0][0])))


def lpbs_row(doc: Mapping[str, Any], results: Sequence[tuple[float, bool]]) -> dict[str, Row]:
    """Give every measure of LPBS this request."""
    return dict.fromkeys(LPBS, (dict(doc), float(results[0][0])))


# --- held-out templates -----------------------------------------------------------------------------------------------


def _differences(rows: Iterable[Row], sides: tuple[str, str]) -> dict[tuple[str, ...], tuple[dict[str, Any], float]]:
    """Return each case with the log likelihood of its first side minus that of its second, where both are there."""
    found: dict[tuple[str, ...], dict[str, Row]] = defaultdict(dict)
    for doc, value in rows:
        found[doc["template"], doc["words"], doc["subject"]][doc["side"]] = (doc, value)
    first, second = sides
    return {
        case: (both[first][0], both[first][1] - both[second][1])
        for case, both in found.items()
        if first in both and second in both
    }


def _heldout_scores(rows: Iterable[Row], kinds: Sequence[str], *, pronouns: bool) -> list[Row]:
    """Return each case's log odds minus those of the neutral subject in the same template."""
    odds = _differences(rows, ("male", "female"))
    neutral = {case[:2]: value for case, (doc, value) in odds.items() if doc["kind"] == "neutral"}
    return [
        (doc, value - neutral[case[:2]])
        for case, (doc, value) in odds.items()
        if doc["kind"] in kinds and doc["pronouns"] == pronouns and case[:2] in neutral
    ]


def mean_abs_log_odds(rows: Sequence[Row]) -> float:
    """Return the mean of |log odds|: he against she, over held-out occupations."""
    return _mean(abs(value) for _, value in _heldout_scores(rows, ["occupation"], pronouns=True))


def mean_log_odds(rows: Sequence[Row]) -> float:
    """Return the same with its sign."""
    return _mean(value for _, value in _heldout_scores(rows, ["occupation"], pronouns=True))


def traits(rows: Sequence[Row]) -> float:
    """Return the mean of |log odds| over held-out traits."""
    return _mean(abs(value) for _, value in _heldout_scores(rows, ["trait"], pronouns=True))


def activities(rows: Sequence[Row]) -> float:
    """Return the mean of |log odds| over held-out activities."""
    return _mean(abs(value) for _, value in _heldout_scores(rows, ["activity"], pronouns=True))


def attribute_words(rows: Sequence[Row]) -> float:
    """Return the mean of |log odds| of held-out attribute words over held-out occupations."""
    return _mean(abs(value) for _, value in _heldout_scores(rows, ["occupation"], pronouns=False))


def heldout_correlation(rows: Sequence[Row]) -> float:
    """Return the correlation of the occupations' mean log odds with their share of men."""
    return _with_men(_heldout_scores(rows, ["occupation"], pronouns=True))


HELDOUT: dict[str, Callable[[Sequence[Row]], float]] = {
    "mean_abs_log_odds": mean_abs_log_odds,
    "attribute_words": attribute_words,
    "traits": traits,
    "activities": activities,
    "mean_log_odds": mean_log_odds,
    "correlation_with_men": heldout_correlation,
}


# --- LPBS -------------------------------------------------------------------------------------------------------------


def _by_occupation(rows: Iterable[Row]) -> list[Row]:
    """Return each occupation's mean over templates of log p(rest | He) - log p(rest | She)."""
    return _means((doc, value) for doc, value in _differences(rows, ("He", "She")).values())


def _majority(rows: Sequence[Row], majority: str) -> float:
    return _mean(value for doc, value in _by_occupation(rows) if doc["majority"] == majority)


def male_majority(rows: Sequence[Row]) -> float:
    """Return the mean over male-majority occupations."""
    return _majority(rows, "male")


def female_majority(rows: Sequence[Row]) -> float:
    """Return the mean over female-majority occupations."""
    return _majority(rows, "female")


def balanced(rows: Sequence[Row]) -> float:
    """Return the mean over the other occupations."""
    return _majority(rows, "balanced")


def gap(rows: Sequence[Row]) -> float:
    """Return male-majority minus female-majority."""
    return male_majority(rows) - female_majority(rows)


def lpbs_correlation(rows: Sequence[Row]) -> float:
    """Return the correlation of the occupations' scores with their share of men."""
    return _with_men(_by_occupation(rows))


LPBS: dict[str, Callable[[Sequence[Row]], float]] = {
    "gap": gap,
    "correlation": lpbs_correlation,
    "male_majority": male_majority,
    "female_majority": female_majority,
    "balanced": balanced,
}


# --- what both share --------------------------------------------------------------------------------------------------


def _means(rows: Iterable[Row]) -> list[Row]:
    """Return one row for each subject: the mean of its values."""
    docs: dict[str, dict[str, Any]] = {}
    values: dict[str, list[float]] = defaultdict(list)
    for doc, value in rows:
        docs[doc["subject"]] = doc
        values[doc["subject"]].append(value)
    return [(docs[subject], fmean(some)) for subject, some in values.items()]


def _with_men(rows: Iterable[Row]) -> float:
    pairs = [(value, 1 - doc["female_share"]) for doc, value in _means(rows)]
    if any(len({pair[side] for pair in pairs}) < 2 for side in (0, 1)):
        return math.nan
    return correlation([value for value, _ in pairs], [share for _, share in pairs])


def _mean(values: Iterable[float]) -> float:
    some = list(values)
    return fmean(some) if some else math.nan
