"""The figures that compare mitigations: trajectories, decomposition, reductions, embedding against downstream bias."""

import math
from collections.abc import Iterable, Sequence
from itertools import cycle
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from fairloop.catalogue import catalogue
from fairloop.report.drawing import (
    LINES,
    PAPER,
    REST,
    Drawing,
    Figure,
    broken,
    drawn,
    legend_at_the_foot,
    letters,
    share_limits,
    spread,
)
from fairloop.report.read import MITIGATED
from fairloop.report.recursion.conditions import GENDERED_SHARE, NET_RATE, NET_RATE_AMONG_GENDERED, Condition
from fairloop.report.recursion.strategies import (
    AGAINST_CONTROL,
    DOWNSTREAM,
    EMBEDDING,
    PAPER_READINGS,
    PAPER_REDUCTIONS,
    UNLEARNED,
    Comparison,
    Reduction,
    changed,
    points,
)
from fairloop.report.recursion.trajectories import (
    axis_title,
    bands_in_words,
    legend_below,
    level_styles,
    trajectory_panel,
)
from fairloop.report.table import with_interval
from fairloop.statistics.estimate import Estimate
from fairloop.words import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

_COLUMN_WIDTH, _ROW_HEIGHT = 2.7, 2.6
_PARTS = (("by_share", "by gendered share", "#56B4E9", ""), ("by_net_rate", "by net rate among", "#E69F00", "////"))
_MOST_POINTS, _MOST_DOTS = 600, 60
_FURTHEST = -1.5
"""Where the axis of reductions ends at the latest: a bias two and a half times that without mitigation."""


def strategy_figures(comparison: Comparison, place: int = 0) -> list[Figure]:
    """Draw a comparison. `place` is its number in the report, which the files' names carry from the second on."""
    end = f"_{place + 1}" if place else ""
    bands = bands_in_words(comparison.conditions)
    figures = [
        Figure(f"trajectories{end}", f"{_TRAJECTORIES} {bands}", _trajectories(comparison)),
        Figure(f"decomposition{end}", f"{_DECOMPOSITION} {bands}", _decomposition(comparison)),
    ]
    if comparison.reductions:
        bounded = any(one.last and one.reduction.bounded for one in comparison.reductions)
        paper = any(one.condition.mitigation in PAPER_READINGS for one in comparison.reductions)
        caption = _REDUCTIONS + (", with 95% intervals" if bounded else "; too few pairs for intervals")
        caption += f"; dots: single pairs; {_STARS}" if paper else "; dots: single pairs."
        figures.append(Figure(f"reductions{end}", caption, _reductions(comparison)))
    if any(points(condition.cells, after=False) for condition in comparison.conditions):
        figures.append(Figure(f"embedding_downstream{end}", _SCATTER, _scatter(comparison)))
    return figures


_TRAJECTORIES = "Net stereotype rate B as written, and downstream bias after the mitigation, by strategy."
_DECOMPOSITION = (
    "Gendered share, net rate among gendered sentences, and what each adds to the change of B since the seed."
)
_REDUCTIONS = (
    "Reduction against no mitigation at the last generation, 1 - |with| / |without| over pairs of the same level and "
    "seed"
)
_STARS = (
    "stars: what the paper reports for contrastive augmentation, of which contrastive and contrastive_augment are two "
    "readings."
)
_SCATTER = (
    "Embedding effect size against downstream bias of every cell and generation from 1 on: as written, after the "
    "mitigation, and the means of each strategy with an arrow from as written to after."
)


def _trajectories(comparison: Comparison) -> Drawing:
    conditions = comparison.conditions
    has_downstream = any(DOWNSTREAM in cell.metrics for one in conditions for cell in one.cells)
    measures = [(broken(f"{axis_title(NET_RATE)},\nas written", 18), NET_RATE)]
    if has_downstream:
        measures.append((broken(f"{axis_title(DOWNSTREAM)},\nafter the mitigation", 18), DOWNSTREAM))

    def draw(figure: "Canvas") -> None:
        rows = _grid(figure, comparison, [label for label, _ in measures])
        styles = level_styles(conditions)
        for condition, *column in zip(conditions, *rows, strict=True):
            for axes, (_, metric) in zip(column, measures, strict=True):
                name = metric if metric == NET_RATE else _after(condition, metric)
                trajectory_panel(axes, condition, name, styles)
        _finish(figure, rows)

    return drawn(draw, _width(comparison), _ROW_HEIGHT * len(measures) + 0.8)


def _decomposition(comparison: Comparison) -> Drawing:
    conditions = comparison.conditions
    factors = [(fill(axis_title(metric), 16), metric) for metric in (GENDERED_SHARE, NET_RATE_AMONG_GENDERED)]

    def draw(figure: "Canvas") -> None:
        rows = _grid(figure, comparison, [*(label for label, _ in factors), "Change of $B$\nsince the seed"])
        styles = level_styles(conditions)
        for condition, *column in zip(conditions, *rows, strict=True):
            for axes, (_, metric) in zip(column, factors, strict=False):
                trajectory_panel(axes, condition, metric, styles)
            _parts(column[-1], condition)
        _finish(figure, rows)

    return drawn(draw, _width(comparison), _ROW_HEIGHT * 3 + 0.8)


def _width(comparison: Comparison) -> float:
    return _COLUMN_WIDTH * len(comparison.conditions) + 0.5


def _after(condition: Condition, metric: str) -> str:
    return MITIGATED + metric if any(changed(metric, cell) != metric for cell in condition.cells) else metric


def _grid(figure: "Canvas", comparison: Comparison, labels: Sequence[str]) -> Any:
    """Return panels [measures, strategies], titled and labelled."""
    names = comparison.names()
    rows = figure.subplots(len(labels), len(names), squeeze=False)
    for axes, condition in zip(rows[0], comparison.conditions, strict=True):
        axes.set_title(broken(names[id(condition)].replace("+", " + "), 12), loc="left", fontweight="bold")
    for row, label in zip(rows, labels, strict=True):
        row[0].set_ylabel(label)
    return rows


def _finish(figure: "Canvas", rows: Any) -> None:
    """Give each row one scale, name the generations under the last row only, and put the legend below."""
    for row in rows:
        share_limits(row)
        for axes in row[1:]:
            axes.tick_params(labelleft=False)
    legend_below(figure, list(rows.flat))


def _parts(axes: "Axes", condition: Condition) -> None:
    """Draw the parts of B's change since the seed for each level, side by side, and the whole as a diamond."""
    found = [one for one in condition.decompositions if one.since == 0 and one.level is not None]
    for offset, (part, label, colour, hatch) in zip((-0.19, 0.19), _PARTS, strict=True):
        for place, one in enumerate(found):
            estimate: Estimate = getattr(one, part)
            axes.bar(
                place + offset, estimate.value, 0.36, color=colour, hatch=hatch, edgecolor="white", lw=0, label=label
            )
            if math.isfinite(estimate.low):
                axes.plot([place + offset] * 2, [estimate.low, estimate.high], color=REST, lw=0.9)
    values = [one.change.value for one in found]
    axes.plot(range(len(found)), values, "D", color=REST, ms=5, label="change of $B$")
    axes.axhline(0, color="#999999", lw=0.6, zorder=0)
    axes.set_xticks(range(len(found)), [f"{one.level:g}" for one in found])
    axes.set_xlabel("Initial bias")


def _colours(comparison: Comparison) -> dict[int, tuple[str, str]]:
    """Return the colour and marker of each condition: grey without mitigation, the palette for the strategies."""
    looks = {id(condition): (REST, "X") for condition in comparison.controls}
    strategies = (strategy.condition for strategy in comparison.strategies)
    return looks | {
        id(one): (colour, marker) for one, (colour, _, marker) in zip(strategies, cycle(LINES), strict=False)
    }


def _reductions(comparison: Comparison) -> Drawing:
    shown = [one for one in comparison.reductions if one.last and one.level in (None, comparison.lowest)]
    rows = list(dict.fromkeys((one.metric, id(one.condition)) for one in shown))
    metrics = list(dict.fromkeys(metric for metric, _ in rows))
    # From top to bottom, with a gap and a heading before each measure.
    heights = {row: -(place + 1.1 * (metrics.index(row[0]) + 1)) for place, row in enumerate(rows)}

    def draw(figure: "Canvas") -> None:
        panels = figure.subplots(1, 2, sharex=True, sharey=True)
        names, edge = comparison.names(), _edge(shown)
        for axes, level in zip(panels, (None, comparison.lowest), strict=True):
            _forest(axes, [one for one in shown if one.level == level], heights, edge, _colours(comparison))
            where = "All levels" if level is None else f"Initial bias {level:g}"
            here = next(one for one in shown if one.level == level)
            title = broken(f"{where} ({here.pairs} of {counted(here.possible, 'pair')})", 26)
            axes.set_title(title, loc="left", fontweight="bold")
        panels[0].set_yticks([heights[row] for row in rows], [names[condition] for _, condition in rows])
        panels[0].set_ylim(min(heights.values()) - 0.6, -0.2)
        for metric in metrics:
            top = max(height for (one, _), height in heights.items() if one == metric)
            place, title = (0.01, top + 0.62), catalogue().title(metric)
            panels[0].annotate(title, place, xycoords=("axes fraction", "data"), fontweight="bold", va="center")
        _reductions_legend(figure, panels[0], shown)

    return drawn(draw, 10.5, 0.31 * (len(rows) + 1.1 * len(metrics)) + 1.4)


def _forest(
    axes: "Axes",
    shown: Sequence[Reduction],
    heights: dict[tuple[str, int], float],
    edge: float,
    looks: dict[int, tuple[str, str]],
) -> None:
    """Draw the reductions at one level; as written only where that differs from after the mitigation."""
    after = {(one.metric, id(one.condition)): one for one in shown if one.after}
    for row, found in after.items():
        written = next(one for one in shown if not one.after and (one.metric, id(one.condition)) == row)
        alike = np.array_equal([written.reduction.value, *written.points], [found.reduction.value, *found.points], True)
        offset = 0.0 if alike else 0.19
        _reduction(axes, found, heights[row] - offset, edge, *looks[row[1]])
        if not alike:
            _reduction(axes, written, heights[row] + offset, edge, *looks[row[1]])
        reported = PAPER_REDUCTIONS[found.level is not None]
        if found.condition.mitigation in PAPER_READINGS and found.metric == DOWNSTREAM:
            axes.plot(reported, heights[row], "*", color="black", mfc=PAPER, ms=11, mew=0.7, zorder=5)
    axes.axvline(0, color="#999999", lw=0.8, zorder=0)
    axes.set_xlim(edge, 1.15)
    axes.xaxis.set_major_formatter(lambda x, _: f"{100 * x:.0f}%")
    axes.set_xlabel(broken("Reduction against no mitigation", 20))
    axes.grid(axis="x", color="#eeeeee", zorder=0)


def _edge(shown: Iterable[Reduction]) -> float:
    """Return where the axis begins: left of all estimates and of zero, but never beyond `_FURTHEST`."""
    ends = [end for one in shown for end in (one.reduction.value, one.reduction.low) if math.isfinite(end)]
    return max(_FURTHEST, min([-0.1, *(end - 0.05 for end in ends)]))


def _reduction(axes: "Axes", one: Reduction, at: float, edge: float, colour: str, marker: str) -> None:
    """Draw one reduction with its interval and its pairs; what lies beyond the axis is an arrow at its edge."""
    found = one.reduction
    if math.isnan(found.value):
        axes.annotate(one.lack.split(":")[0], (0.02, at), fontsize=letters(7), color="#777777", va="center")
        return
    inside = [value for value in spread(one.points, _MOST_DOTS) if value >= edge]
    axes.plot(inside, [at] * len(inside), ".", color=colour, ms=3, alpha=0.45, zorder=2)
    if not math.isnan(found.low):
        low, high = max(found.low, edge), max(found.high, edge)
        axes.plot([low, high], [at, at], color=colour, lw=1.5, zorder=3)
        if found.low < edge:
            axes.plot(edge, at, "<", color=colour, ms=5, zorder=3, clip_on=False)
    face = colour if one.after else "white"
    if found.value >= edge:
        axes.plot(found.value, at, marker, color=colour, mfc=face, ms=6, zorder=4)
    if one.unlearned:
        axes.annotate(UNLEARNED, (1.1, at), va="center", ha="center")


def _reductions_legend(figure: "Canvas", axes: "Axes", shown: Iterable[Reduction]) -> None:
    looks = [("o", "white", 6, "as written"), ("o", REST, 6, "after the mitigation"), (".", REST, 3, "single pair")]
    if any(one.condition.mitigation in PAPER_READINGS for one in shown):
        numbers = ", ".join(f"{100 * value:g}%{' at 0.1' if low else ''}" for low, value in PAPER_REDUCTIONS.items())
        looks.append(("*", PAPER, 11, f"paper: {numbers}"))
    handles = [axes.plot([], [], mark, ls="none", color=REST, mfc=face, ms=size)[0] for mark, face, size, _ in looks]
    labels = [label for *_, label in looks]
    if any(one.unlearned for one in shown):
        handles.append(axes.plot([], [], ls="none")[0])
        labels.append(f"{UNLEARNED} a classifier learned nothing")
    space = legend_at_the_foot(figure, handles, labels)
    figure.tight_layout(rect=(0, space / figure.get_size_inches()[1], 1, 1), w_pad=2.0)


def _scatter(comparison: Comparison) -> Drawing:
    def draw(figure: "Canvas") -> None:
        panels = figure.subplots(1, 3, sharex=True, sharey=True)
        for axes, after in zip(panels, (False, True), strict=False):
            _cloud(axes, comparison, after)
        _means(panels[2], comparison)
        for axes in panels:
            axes.axhline(0, color="#999999", lw=0.6, zorder=0)
            axes.axvline(0, color="#999999", lw=0.6, zorder=0)
            axes.set_xlabel(broken(axis_title(EMBEDDING), 24))
        panels[0].set_ylabel(axis_title(DOWNSTREAM))
        handles, labels = panels[0].get_legend_handles_labels()
        space = legend_at_the_foot(figure, handles, labels)
        figure.tight_layout(rect=(0, space / figure.get_size_inches()[1], 1, 1), w_pad=1.5)

    return drawn(draw, 12.0, 4.6)


def _cloud(axes: "Axes", comparison: Comparison, after: bool) -> None:
    looks, names = _colours(comparison), comparison.names()
    for condition in comparison.conditions:
        colour, marker = looks[id(condition)]
        found = spread(points(condition.cells, after=after), _MOST_POINTS)
        x, y = [point[1] for point in found], [point[2] for point in found]
        axes.plot(
            x, y, marker, color=colour, mfc=colour if after else "white", ms=4.5, alpha=0.75, ls="none",
            label=names[id(condition)],
        )  # fmt: skip
    of = "after the mitigation" if after else "as written"
    axes.set_title(broken(f"{of[0].upper()}{of[1:]}\nrank correlation {_rho(comparison, of)}", 24), loc="left")


def _rho(comparison: Comparison, of: str) -> str:
    found = next((one.estimate for one in comparison.correlations if one.of == of and one.condition is None), None)
    return "undefined" if found is None else with_interval(found, over="starts")


def _means(axes: "Axes", comparison: Comparison) -> None:
    """Draw each strategy's means, with an arrow from as written to after the mitigation where that changes them."""
    looks = _colours(comparison)
    for condition in comparison.conditions:
        colour, marker = looks[id(condition)]
        written, after = (
            np.array([point[1:] for point in points(condition.cells, after=which)]) for which in (False, True)
        )
        if not len(written) or not len(after):
            continue
        start, end = written.mean(axis=0), after.mean(axis=0)
        if not np.allclose(start, end):
            axes.plot(*start, marker, color=colour, mfc="white", ms=8, zorder=3)
            axes.annotate(
                "", xy=tuple(end), xytext=tuple(start), zorder=2,
                arrowprops={"arrowstyle": "->", "color": colour, "lw": 1.6, "shrinkA": 5, "shrinkB": 5},
            )  # fmt: skip
        axes.plot(*end, marker, color=colour, ms=8, zorder=4)
    axes.set_title(
        broken(f"Means of each strategy\nrank correlation of changes {_rho(comparison, AGAINST_CONTROL)}", 24),
        loc="left",
    )
