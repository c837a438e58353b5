"""The figure: bias by generation for each initial level, its resting level, and the two factors it is made of."""

import math
from collections.abc import Sequence
from itertools import cycle
from textwrap import fill
from typing import TYPE_CHECKING, Any

from fairloop.report.drawing import (
    LINES,
    PAPER,
    REST,
    Drawing,
    broken,
    drawn,
    is_narrow,
    legend_at_the_foot,
    letters,
    share_limits,
    spread,
)
from fairloop.report.read import level_mean
from fairloop.report.recursion.conditions import FACTORS, NET_RATE, PAPER_RANGE, Condition, named, rests
from fairloop.statistics.equilibrium import Equilibrium

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_LINES = 30
"""So many cells of a level have a line of their own, evenly spread over all."""

_WIDTH, _ROW_HEIGHT = 11.0, 3.7

_LINE, _BESIDE = 100, 40
"""Letters of a condition's name in a line over its row of panels, and up to which the formula stands beside it."""


def trajectories_figure(conditions: Sequence[Condition]) -> Drawing:
    """Draw one row of panels per condition: B, the gendered share and the net rate among gendered sentences.

    Lines are the means over the cells of an initial level; bands are 95% intervals (over sentences for one cell, over
    cells from three on); with several cells each is a thin line.

    Raises:
        ValueError: there is no condition.
    """
    if not conditions:
        raise ValueError("there is nothing to draw")
    return drawn(lambda figure: _draw(figure, conditions), _WIDTH, _ROW_HEIGHT * len(conditions) + 0.6)


def _draw(figure: "Figure", conditions: Sequence[Condition]) -> None:
    rows = figure.subplots(len(conditions), len(FACTORS), squeeze=False, width_ratios=(1.55, 1, 1))
    styles = level_styles(conditions)
    for condition, panels in zip(conditions, rows, strict=True):
        for metric, axes in zip(FACTORS, panels, strict=True):
            trajectory_panel(axes, condition, metric, styles)
            axes.set_ylabel(broken(axis_title(metric), 20))
        label = broken(condition.label, 32) if is_narrow() else fill(condition.label, _LINE, break_on_hyphens=False)
        panels[0].set_title(label, loc="left", fontweight="bold")
        if not is_narrow() and len(condition.label) <= _BESIDE:
            panels[1].set_title("$B$ = gendered share × net rate among gendered", loc="left")
    for column in range(len(FACTORS)):
        share_limits([row[column] for row in rows])
    legend_below(figure, [row[0] for row in rows])


def bands_in_words(conditions: Sequence[Condition]) -> str:
    """Return what lines and bands are: of a level's cells, whose interval is over seeds, over sentences, or unknown."""
    counts = {len(condition.at(level)) for condition in conditions for level in condition.levels}
    kinds = ["over seeds (Student's t)"] if max(counts, default=0) > 2 else []
    single = [cell for one in conditions for level in one.levels if len(one.at(level)) == 1 for cell in one.at(level)]
    if any(estimate.bounded for cell in single for estimate in cell.course(NET_RATE)):
        kinds.append("over the sentences of a single cell, by groups that share their examples")
    lines = "Lines: means over the seeds of an initial level" if max(counts, default=0) > 1 else "Lines: initial levels"
    return f"{lines}; " + (f"bands: 95% intervals {' or '.join(kinds)}." if kinds else "too few seeds for intervals.")


def axis_title(metric: str) -> str:
    """Return a measure in words as an axis has it."""
    text = named(metric, "$B$")
    return text[:1].upper() + text[1:]


def level_styles(conditions: Sequence[Condition]) -> dict[float, Any]:
    """Return the colour, line and marker of each initial level."""
    levels = sorted({level for condition in conditions for level in condition.levels})
    return dict(zip(levels, cycle(LINES), strict=False))


def legend_below(figure: "Figure", panels: Sequence["Axes"]) -> None:
    """Lay the figure out with one legend under all panels: the levels, then what they are compared with."""
    found: dict[str, tuple[Any, str]] = {}  # a level stands once, though panels may have it over more or fewer seeds
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            level = label.partition(" (")[0]
            found[level] = (handle, label if found.get(level, (handle, label))[1] == label else level)
    entries = sorted(found.values(), key=lambda entry: not entry[1].startswith("initial bias"))
    handles, labels = zip(*entries, strict=True)
    space = legend_at_the_foot(figure, handles, labels, handlelength=3.0)
    pad = 0.6 if is_narrow() else 2.0
    figure.tight_layout(rect=(0, space / figure.get_size_inches()[1], 1, 1), w_pad=pad, h_pad=pad)


def trajectory_panel(axes: "Axes", condition: Condition, metric: str, styles: dict[float, Any]) -> None:
    """Draw one measure of a condition by generation, a line for each level; of B and its factors where it rests."""
    generations = sorted({generation for cell in condition.cells for generation in cell.generations})
    settling = condition.settling(metric)
    if settling is not None:
        _resting_level(axes, settling.equilibrium, "$B^*$" if metric == NET_RATE else "at rest")
    if metric == NET_RATE:
        low, high = PAPER_RANGE
        label = f"reported for Gemma-2-2b-it: {low:.2f}–{high:.2f}"
        axes.axhspan(low, high, color=PAPER, alpha=0.6, lw=0, zorder=0, label=label)
    for level in condition.levels:
        _trajectory(axes, condition, level, metric, generations, styles[level])
    axes.axhline(0, color="#999999", lw=0.6, zorder=0)
    axes.set_xlabel("Generation")
    step = max(1, math.ceil(len(generations) / (5 if is_narrow() else 10)))
    seed = "0" if is_narrow() else "0 (seed)"
    axes.set_xticks(generations[::step], [seed if g == 0 else str(g) for g in generations[::step]])
    axes.margins(x=0.04)


def _trajectory(
    axes: "Axes", condition: Condition, level: float, metric: str, generations: Sequence[int], style: Any
) -> None:
    colour, line, marker = style
    cells = condition.at(level)
    means = [level_mean(cells, metric, generation) for generation in generations]
    if len(cells) > 1:
        for cell in spread(cells, MOST_LINES):
            values = [cell.get(metric, generation).value for generation in generations]
            axes.plot(generations, values, color=colour, lw=0.7, alpha=0.45, zorder=2)
    axes.fill_between(
        generations,
        [mean.low for mean in means],
        [mean.high for mean in means],
        color=colour,
        alpha=0.14,
        lw=0,
        zorder=1,
    )
    label = f"initial bias {level:g}" + (f" ({len(cells)} seeds)" if len(cells) > 1 else "")
    values = [mean.value for mean in means]
    axes.plot(generations, values, color=colour, ls=line, marker=marker, ms=5, lw=1.8, zorder=3, label=label)


def _resting_level(axes: "Axes", found: Equilibrium, name: str) -> None:
    """Draw B* as a line with its interval as a hatched band where the verdict is equilibrium; else say the verdict."""
    level = found.line.level
    note = found.verdict if found.verdict != "equilibrium" else f"{name} = {level.value:.3f}"
    if rests(found):
        axes.axhline(level.value, color=REST, lw=1.1, ls=(0, (1, 1.2)), zorder=2, label="resting level $B^*$")
        axes.axhspan(
            level.low, level.high, facecolor="#f3f3f3", edgecolor="#b5b5b5", hatch="////", lw=0,
            zorder=0, label="95% interval of $B^*$",
        )  # fmt: skip
        note = f"{note} [{level.low:.2f}, {level.high:.2f}]"
    axes.annotate(
        broken(note, 14), (0.985, 0.975), xycoords="axes fraction", ha="right", va="top", color=REST,
        fontsize=letters(8.5), bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5},
    )  # fmt: skip
