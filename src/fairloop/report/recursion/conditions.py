"""What the report says: cells grouped into conditions, and for each condition where its bias settles."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from fairloop.catalogue import catalogue
from fairloop.corpus.label_errors import known_errors
from fairloop.naming import NO_CONDITION
from fairloop.report.read import Cell, Chosen, bounded_mean, decided
from fairloop.statistics.differences import split_product, standard_error
from fairloop.statistics.equilibrium import Equilibrium, Trajectory, estimate_equilibrium
from fairloop.statistics.estimate import Estimate
from fairloop.statistics.means import student_mean
from fairloop.statistics.mislabelled import (
    LabelErrors,
    corrected_among,
    corrected_male_share,
    corrected_net_rate,
    corrected_share,
    corrected_share_change,
)
from fairloop.statistics.relative_change import RelativeChange, relative_changes
from fairloop.words import counted

NET_RATE = "rule/net_stereotype_rate"
GENDERED_SHARE = "rule/gendered_share"
NET_RATE_AMONG_GENDERED = "rule/net_rate_among_gendered"
MALE_SHARE = "rule/male_share"

FACTORS = (NET_RATE, GENDERED_SHARE, NET_RATE_AMONG_GENDERED)
"""B and the two factors whose product it is."""

PAPER_RANGE = (0.11, 0.13)
"""Where the recursion of Gemma-2-2b-it settles according to arXiv 2511.10689."""

PAPER_CHANGES = (
    "Paper: +36% from an initial bias of 0.1, -26% from 0.6, to 0.11 to 0.13. These cannot be changes since the seed, "
    "for 0.6 x 0.74 = 0.44: their base is another one."
)
"""What arXiv 2511.10689 reports, and why no column is its counterpart; stands wherever changes are shown."""

_LENGTH = "study.generations"
_OWN = {"seed", "initial_bias.level", _LENGTH}
"""What the cells of one condition may differ in: their start and their length."""
# Sign patterns of the wild bootstrap; of hundreds of cells fewer are enough, and each costs more.
_PATTERNS, _FEWER_PATTERNS, _MANY_CELLS = 1999, 499, 300


@dataclass(frozen=True)
class Corrected:
    """What B or a factor of it is among generated corpora once the labels' errors are taken out of what was counted.

    Attributes:
        metric: its name in the catalogue.
        counted: the mean over cells of the last generation, as counted.
        last: the same, corrected.
        trend: the mean change a generation, corrected.
        level: B* of the line, corrected. The slope rho needs no correction: it has no scale.
    """

    metric: str
    counted: Estimate
    last: Estimate
    trend: Estimate
    level: Estimate


@dataclass(frozen=True)
class Settling:
    """Where one metric of one condition settles, and how far it moved from each initial level.

    `corrected` is None where it is not known how the labels err on the generator's sentences.
    """

    metric: str
    label: str
    equilibrium: Equilibrium
    trajectories: tuple[Trajectory, ...]
    from_seed: tuple[RelativeChange, ...]
    from_first: tuple[RelativeChange, ...]
    corrected: Corrected | None = None


@dataclass(frozen=True)
class Decomposition:
    """What moved B from generation `since` to the last one: fewer gendered words, or less stereotyping among them.

    B is the product of the gendered share and the net rate among gendered sentences, and each cell's change of B the
    sum of what either factor made of it (`split_product`). Means over the cells of a level; `level` is None for all
    cells together.
    """

    level: float | None
    since: int
    until: int
    change: Estimate
    by_share: Estimate
    by_net_rate: Estimate


@dataclass(frozen=True)
class Condition:
    """Cells that differ only in initial bias, seed and length: one recursion, started at several levels.

    `settings` are the further settings ("key=value") in which cells of this model and mitigation differ; `under` is
    everything that decides the result beside mitigation, start and length: conditions are compared if it is the same.
    `errors` are those of the labels on the generator's sentences, where they are known, and `male_share` the last
    generation's share of men without them.
    """

    model: str
    mitigation: str
    settings: tuple[str, ...]
    under: tuple[tuple[str, str], ...]
    cells: tuple[Cell, ...]
    settlings: tuple[Settling, ...]
    decompositions: tuple[Decomposition, ...]
    errors: LabelErrors | None = None
    male_share: Corrected | None = None

    @property
    def label(self) -> str:
        """The condition in words, as tables and figures name it."""
        return ", ".join([f"{self.model}, mitigation {self.mitigation}", *self.settings])

    @property
    def levels(self) -> list[float]:
        """The initial levels, ascending."""
        return sorted({cell.level for cell in self.cells if math.isfinite(cell.level)})

    def at(self, level: float) -> list[Cell]:
        """Return the cells that started at a level."""
        return [cell for cell in self.cells if cell.level == level]

    def settling(self, metric: str) -> Settling | None:
        """Return what is known of a metric's equilibrium; None if no cell measured it."""
        return next((one for one in self.settlings if one.metric == metric), None)


def conditions(cells: Iterable[Cell], errors: LabelErrors | None = None) -> list[Condition]:
    """Group the recursion cells into conditions and estimate each one's equilibrium.

    Which metrics were chosen makes no condition of its own: they do not change what is written.

    `errors` of the labels count for every generator; without them, those of the families that are known.
    """
    cells = [cell for cell in cells if cell.study == "recursion"]
    alike: dict[tuple[str, str], list[Chosen]] = defaultdict(list)
    for cell, settings in _measured_once(decided(cells)):
        alike[cell.model, cell.mitigation].append((cell, settings))
    found = []
    for (model, mitigation), members in alike.items():
        for differing, group in _by_settings(members).items():
            chosen = [cell for cell, _ in group]
            err = errors or known_errors().get(model)
            settlings = tuple(filter(None, (_settling(chosen, metric, err) for metric in FACTORS)))
            decomposed = tuple(_decompose(chosen))
            shared = tuple(sorted((key, value) for key, value in group[0][1].items() if not _is_start(key)))
            men = _corrected_male_share(chosen, err) if err else None
            found.append(
                Condition(model, mitigation, differing, shared, tuple(chosen), settlings, decomposed, err, men)
            )
    return sorted(found, key=lambda one: (one.model, one.mitigation != "none", one.mitigation, one.settings))


def net_rate_alone(condition: Condition) -> Condition:
    """Return a condition without B's factors, and with what moved B since the seed: for little room."""
    since_seed = tuple(one for one in condition.decompositions if one.since == 0)
    return replace(condition, settlings=condition.settlings[:1], decompositions=since_seed)


def named(metric: str, symbol: str = "B") -> str:
    """Return a measure in words, the net stereotype rate with its symbol."""
    title = catalogue().title(metric)
    return f"{title} {symbol}" if metric == NET_RATE else title


def verdict_in_words(settling: Settling) -> str:
    """Return the verdict as a sentence that a reader need not look up; an undecided one with its reason."""
    found = settling.equilibrium
    if found.verdict == "undecided":
        return f"undecided: {found.reason}"
    if found.verdict == "equilibrium":
        level = found.line.level
        bounds = f" ({level.low:.2f} to {level.high:.2f})" if rests(found) else ""
        return f"equilibrium: it stays near {level.value:.3f}{bounds}, reached from below and above"
    trend = f"{found.trend.value:+.3f} ({found.trend.low:+.3f} to {found.trend.high:+.3f})"
    return f"{found.verdict}: {trend} a generation among generated corpora"


def rests(found: Equilibrium) -> bool:
    """Say whether there is a resting level to show: the verdict is equilibrium, and B* has a bounded interval."""
    level = found.line.level
    return found.verdict == "equilibrium" and level.bounded


def settle_or_disappear(condition: Condition) -> str:
    """Say whether B moved because stereotyping settled or because gendered words disappeared; empty if unknown.

    By the parts of B's change since the seed, over all cells: a part counts if its interval lies below zero.
    """
    whole = next((one for one in condition.decompositions if one.level is None and one.since == 0), None)
    if whole is None:
        return ""
    fewer_words, less_bias = (part.high < 0 for part in (whole.by_share, whole.by_net_rate))
    said = {
        (True, True): "gendered words disappear, and stereotyping among those left falls too",
        (True, False): "gendered words disappear; stereotyping among those left does not clearly fall",
        (False, True): "stereotyping among gendered sentences falls; gendered words stay",
        (False, False): "neither a loss of gendered words nor less stereotyping among them is clear",
    }[fewer_words, less_bias]
    if math.isnan(whole.by_share.low):
        said = f"{counted(whole.change.n, 'cell')}: too few to say which"
    parts = f"change of B {whole.change.value:+.3f} = share {whole.by_share.value:+.3f}"
    return f"{said} ({parts}, net rate among gendered {whole.by_net_rate.value:+.3f})"


def _measured_once(cells: Sequence[Chosen]) -> Iterator[Chosen]:
    """Yield each recursion once, with the measures of all cells that differ in nothing but which metrics were chosen.

    What a metric is measured by, an encoder or a classifier, is named only in cells that measure it: where all of them
    name the same, so do the others.
    """
    bare = [{key: value for key, value in settings.items() if key not in NO_CONDITION} for _, settings in cells]
    under = [
        tuple(sorted((key, value) for key, value in one.items() if not _is_start(key) and not _is_means(key)))
        for one in bare
    ]
    means: dict[Any, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for where, one in zip(under, bare, strict=True):
        for key in filter(_is_means, one):
            means[where][key].add(one[key])
    once: dict[Any, Chosen] = {}
    for (cell, _), where, one in zip(cells, under, bare, strict=True):
        settings = {key: next(iter(values)) for key, values in means[where].items() if len(values) == 1} | one
        recursion = (cell.model, cell.mitigation, *sorted(settings.items()))
        other = once.get(recursion, (cell, settings))[0]
        fuller, further = (cell, other) if len(cell.measures) > len(other.measures) else (other, cell)
        once[recursion] = replace(fuller, measures=further.measures | fuller.measures), settings
    yield from once.values()


def _is_start(key: str) -> bool:
    """Tell whether cells that are compared may differ in a setting: in their start, their length, their mitigation."""
    return key in _OWN or key.startswith("mitigation.")


def _is_means(key: str) -> bool:
    """Tell whether a setting is the means of a metric, which decides nothing that is written."""
    return key == "study.encoder" or key.startswith("metric.")


def _by_settings(cells: Sequence[Chosen]) -> dict[tuple[str, ...], list[Chosen]]:
    """Return the cells by what decides their results beside their start, in words: "key=value" where they differ."""
    starts = [tuple(sorted((key, value) for key, value in one.items() if key != _LENGTH)) for _, one in cells]
    # The same recursion at two lengths must not count twice.
    own = _OWN if len(set(starts)) == len(starts) else _OWN - {_LENGTH}
    keys = sorted({key for _, one in cells for key in one} - own)
    differing = [key for key in keys if len({one.get(key) for _, one in cells}) > 1]
    groups: dict[tuple[str, ...], list[Chosen]] = defaultdict(list)
    for cell, settings in cells:
        groups[tuple(f"{key}={settings.get(key, 'unset')}" for key in differing)].append((cell, settings))
    return groups


def _decompose(cells: Sequence[Cell]) -> list[Decomposition]:
    """Return what moved B since the seed and since generation 1: for all cells, then for each level."""
    found = []
    for since in (0, 1):
        moved = [(cell.level, *parts) for cell in cells if (parts := _parts(cell, since))]
        until = max((one[1] for one in moved), default=0)
        moved = [one for one in moved if one[1] == until]
        for level in [None, *sorted({one[0] for one in moved})] if moved else []:
            values = np.array([one[2:] for one in moved if level in (None, one[0])])
            found.append(Decomposition(level, since, until, *(student_mean(column) for column in values.T)))
    return found


def _parts(cell: Cell, since: int) -> tuple[int, float, float, float] | None:
    """Return a cell's last generation, and the change of B until then with its two parts."""
    until = cell.generations[-1] if cell.generations else 0
    (bias, later), (share, later_share), (rate, later_rate) = (
        (cell.get(metric, since).value, cell.get(metric, until).value) for metric in FACTORS
    )
    by_share, by_rate = split_product((share, rate), (later_share, later_rate))
    if until <= since or not all(map(math.isfinite, (later - bias, by_share, by_rate))):
        return None
    return until, later - bias, by_share, by_rate


def _settling(cells: Sequence[Cell], metric: str, errors: LabelErrors | None) -> Settling | None:
    trajectories = [
        Trajectory(cell.level, values, tuple(standard_error(one.low, one.high) for one in cell.course(metric)))
        for cell in cells
        if any(map(math.isfinite, values := cell.values(metric)))  # others did not measure it
    ]
    if not trajectories:
        return None
    resamples = _PATTERNS if len(trajectories) <= _MANY_CELLS else _FEWER_PATTERNS
    equilibrium = estimate_equilibrium(trajectories, possible=catalogue().of(metric).possible, resamples=resamples)
    return Settling(
        metric=metric,
        label=named(metric),
        equilibrium=equilibrium,
        trajectories=tuple(trajectories),
        from_seed=tuple(relative_changes(trajectories, since=0)),
        from_first=tuple(relative_changes(trajectories, since=1)),
        corrected=_corrected(cells, metric, equilibrium, errors) if errors else None,
    )


def _corrected(cells: Sequence[Cell], metric: str, found: Equilibrium, errors: LabelErrors) -> Corrected | None:
    """Take the labels' errors out; None without a generated corpus."""
    mean = partial(last_mean, cells)
    if not mean(metric).defined:
        return None
    counted, level, trend = mean(metric), found.line.level, found.trend
    name, male = metric.replace("rule/", "corrected/"), mean(MALE_SHARE).value
    male = male if math.isfinite(male) else 0.5
    if metric == GENDERED_SHARE:
        last, resting = (corrected_share(one, errors, male) for one in (counted, level))
        return Corrected(name, counted, last, corrected_share_change(trend, errors, male), resting)

    def corrected(one: Estimate) -> Estimate:
        if metric == NET_RATE:
            return corrected_net_rate(one, errors)
        return corrected_among(one, mean(GENDERED_SHARE).value, errors, male)

    return Corrected(name, counted, corrected(counted), corrected(trend), corrected(level))


def last_mean(cells: Sequence[Cell], metric: str) -> Estimate:
    """Return the mean of each cell's last generated corpus, within what is possible; a single cell's own estimate."""
    ends = [cell.get(metric, cell.generations[-1]) for cell in cells if cell.generations and cell.generations[-1] > 0]
    if len(ends) == 1:
        return ends[0]
    return bounded_mean([one.value for one in ends], metric)


def _corrected_male_share(cells: Sequence[Cell], errors: LabelErrors) -> Corrected | None:
    counted, share = last_mean(cells, MALE_SHARE), last_mean(cells, GENDERED_SHARE).value
    if not counted.defined or not share > 0:
        return None
    nothing = Estimate.undefined()
    return Corrected("corrected/male_share", counted, corrected_male_share(counted, errors, share), nothing, nothing)
