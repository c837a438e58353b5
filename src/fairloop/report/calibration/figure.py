"""The figure of a metric calibration: each metric against the known net rate, and what each one can detect."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fairloop.catalogue import catalogue
from fairloop.report.calibration.tables import Calibration
from fairloop.report.drawing import LINES, Drawing, broken, drawn, is_narrow, letters
from fairloop.report.table import with_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CAPTION = (
    "Metric calibration, seed {seed}: each metric against the known net stereotype rate of the corpora, as written and "
    "with gender-swapped variants added (means over corpora, 95% intervals), and the smallest change that it detects."
)

_COLUMNS = 4
_WIDTH, _ROW_HEIGHT = 11.0, 2.45
_GREY = "#555555"
_LEAST_SPAN = 0.1
"""Of an axis: a metric that stays where it is must not look lively."""


def calibration_figure(calibration: Calibration) -> Drawing:
    """Draw the headline metrics against the net rate of the corpora as written, and their detectable changes.

    Curves are means over corpora with 95% intervals, as written and augmented, at the size that was augmented (the
    largest if none was). Below them, for each size, the smallest change of net rate that a metric detects.

    Raises:
        ValueError: no headline metric was measured.
    """
    if not calibration.headline:
        raise ValueError("there is nothing to draw")
    rows = math.ceil(len(calibration.headline) / _columns())
    return drawn(lambda figure: _draw(figure, calibration, rows), _WIDTH, _ROW_HEIGHT * (rows + 1.25) + 0.4)


def _columns() -> int:
    return 3 if is_narrow() else _COLUMNS


def _draw(figure: "Figure", calibration: Calibration, rows: int) -> None:
    columns = _columns()
    grid = figure.add_gridspec(rows + 1, columns, height_ratios=[1.0] * rows + [1.15])
    sentences = next((size for size in calibration.sizes if calibration.rates(size)), calibration.sizes[-1])
    panels = []
    for place, metric in enumerate(calibration.headline):
        panels.append(figure.add_subplot(grid[place // columns, place % columns]))
        _curves(panels[-1], calibration, metric, sentences)
    sensitivity = figure.add_subplot(grid[rows, : columns - 1])
    _sensitivity(sensitivity, calibration)
    corner = figure.add_subplot(grid[rows, columns - 1])
    corner.axis("off")
    curves = f"Curves: corpora of {sentences} sentences,\nmean and 95% interval"
    for axes, title, height in ((panels[0], curves, 1.0), (sensitivity, "Sensitivity, with 95% interval", 0.5)):
        legend = corner.legend(
            *axes.get_legend_handles_labels(), title=title, loc="upper left", bbox_to_anchor=(-0.25, height),
            borderaxespad=0, handlelength=2.6, alignment="left", fontsize=letters(8), labelspacing=0.35,
        )  # fmt: skip
        corner.add_artist(legend)
    figure.tight_layout(w_pad=1.2, h_pad=1.6)


def _curves(axes: "Axes", calibration: Calibration, metric: str, sentences: int) -> None:
    rates = [0.0, *calibration.rates(sentences)]
    for rate, (colour, line, marker) in zip(rates, LINES, strict=False):
        means = [calibration.get(metric, sentences, "mean", rate, level) for level in calibration.levels]
        label = f"and {rate:.0%} of gendered swapped" if rate else "as written"
        axes.fill_between(
            calibration.levels, [one.low for one in means], [one.high for one in means], color=colour, alpha=0.18, lw=0
        )
        axes.plot(
            calibration.levels, [one.value for one in means],
            color=colour, ls=line, marker=marker, ms=3.5, lw=1.5, label=label,
        )  # fmt: skip
    low, high = axes.get_ylim()
    room = max(_LEAST_SPAN - (high - low), 0.0) / 2
    axes.set_ylim(low - room, high + room)
    if low < 0 < high:
        axes.axhline(0, color="#999999", lw=0.6, zorder=0)
    axes.axvline(0, color="#999999", lw=0.6, zorder=0)
    slope = calibration.get(metric, sentences, "slope")
    axes.set_title(
        broken(f"{catalogue().label(metric)}\nslope {with_interval(slope)}", 28),
        loc="left",
    )
    axes.set_xlabel(broken("Net stereotype rate as written", 24))
    axes.set_ylabel(broken(catalogue().label(metric), 20))
    axes.margins(x=0.04)


def _sensitivity(axes: "Axes", calibration: Calibration) -> None:
    """Draw the detectable change of each metric by the size of the corpora, and the floor that a source sets."""
    shown = [metric for metric in calibration.headline if _told(calibration, metric)]
    positions = range(len(calibration.sizes))
    for place, (metric, style) in enumerate(zip(shown, _repeated(len(shown)), strict=True)):
        found = [calibration.get(metric, size, "mde") for size in calibration.sizes]
        told = [_is_told(calibration, metric, size) for size in calibration.sizes]
        aside = 0.5 * ((place + 1) / (len(shown) + 1) - 0.5)
        x = [position + aside for position, one in zip(positions, told, strict=True) if one]
        y = [measure.value for measure, one in zip(found, told, strict=True) if one]
        ends = [
            [measure.value - measure.low for measure, one in zip(found, told, strict=True) if one],
            [measure.high - measure.value for measure, one in zip(found, told, strict=True) if one],
        ]
        colour, _, marker = style
        axes.errorbar(
            x,
            y,
            ends,
            color=colour,
            marker=marker,
            ms=5,
            lw=0,
            elinewidth=1.2,
            capsize=2,
            label=catalogue().label(metric),
        )
    floors = [_floor(calibration, size) for size in calibration.sizes]
    axes.hlines(
        floors, [position - 0.36 for position in positions], [position + 0.36 for position in positions],
        color=_GREY, lw=1.2, ls=(0, (3, 2)), label="floor for a change of the source",
    )  # fmt: skip
    axes.set_yscale("log")
    axes.set_xticks(list(positions), [f"N = {size}" for size in calibration.sizes])
    axes.set_xlim(-0.5, len(calibration.sizes) - 0.5)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_formatter(lambda value, _: "")
    axes.set_ylabel("Smallest change of net rate")
    axes.set_title(
        broken(
            f"Sensitivity at net rate {calibration.reference:g}: smallest change that one corpus against another shows "
            "(two-sided 5%, power 80%)",
            56,
        ),
        loc="left",
    )


def _told(calibration: Calibration, metric: str) -> bool:
    return any(_is_told(calibration, metric, size) for size in calibration.sizes)


def _is_told(calibration: Calibration, metric: str, size: int) -> bool:
    """Whether the metric's sensitivity has an interval, and is not zero as that of the net rate itself."""
    found = calibration.get(metric, size, "mde")
    return found.bounded and found.value > 0


def _floor(calibration: Calibration, size: int) -> float:
    """Return what sampling alone leaves detectable: the same for all metrics, so the first that tells it will do."""
    for metric in calibration.metrics:
        corpus, source = (calibration.get(metric, size, what).value for what in ("mde", "mde_source"))
        if math.isfinite(corpus) and math.isfinite(source):
            return math.sqrt(max(source**2 - corpus**2, 0.0))
    return math.nan


def _repeated(count: int) -> Sequence[Any]:
    return [LINES[place % len(LINES)] for place in range(count)]
