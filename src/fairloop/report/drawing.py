"""How figures are drawn: without pyplot (no global state, no display), and always in the same bytes.

No dates, fixed identifiers; Okabe and Ito's palette (2008), safe for the colour-blind.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

Item = TypeVar("Item")

LINES = (
    ("#0072B2", "-", "o"),
    ("#D55E00", "--", "s"),
    ("#009E73", "-.", "^"),
    ("#CC79A7", ":", "D"),
    ("#56B4E9", (0, (5, 1, 1, 1, 1, 1)), "v"),
    ("#E69F00", (0, (8, 2)), "P"),
)
"""Colour, line style and marker; style and marker tell them apart in grey."""

REST = "#333333"
PAPER = "#F0E442"
"""The colours of what rests, and of what the paper reports."""

_SETTINGS: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "svg.hashsalt": "fairloop",
    "svg.fonttype": "path",
}
_DPI = 200


@dataclass(frozen=True)
class Drawing:
    """A figure as the bytes of its two files."""

    png: bytes
    svg: bytes


@dataclass(frozen=True)
class Figure:
    """A figure of the report: the name of its files, what it shows, and the drawing."""

    name: str
    caption: str
    drawing: Drawing


def drawn(draw: Callable[["Canvas"], None], width: float, height: float) -> Drawing:
    """Let `draw` fill a figure of this size (inches) and return it; a user's own matplotlibrc changes nothing."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_SETTINGS)
        figure = Canvas(figsize=(width, height))
        FigureCanvasAgg(figure)
        draw(figure)
        return render(figure)


def render(figure: "Canvas") -> Drawing:
    """Return a figure's files, without a date or a version in them."""
    png, svg = io.BytesIO(), io.BytesIO()
    figure.savefig(png, format="png", dpi=_DPI, metadata={"Software": None})
    figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    return Drawing(png.getvalue(), svg.getvalue())


def legend_at_the_foot(figure: "Canvas", handles: Sequence[Any], labels: Sequence[str], **looks: Any) -> float:
    """Put a legend below all panels, in as many columns as there is room for; return its height in inches."""
    for columns in range(len(labels), 0, -1):
        legend = figure.legend(
            handles, labels, loc="lower center", ncols=columns, bbox_to_anchor=(0.5, 0.0), borderaxespad=0.3, **looks
        )
        if legend.get_window_extent().width <= figure.bbox.width or columns == 1:
            break
        legend.remove()
    return 0.1 + 0.22 * float(np.ceil(len(labels) / columns))


def spread(items: Sequence[Item], most: int) -> Sequence[Item]:
    """Return at most so many items, evenly spread over all: more would not be told apart."""
    if len(items) <= most:
        return items
    return [items[place] for place in np.linspace(0, len(items) - 1, most).round().astype(int)]


def share_limits(panels: Sequence["Axes"]) -> None:
    """Give panels one scale, from the data and not from the bands of B*, which may be far wider."""
    ends = [0.0]
    for axes in panels:
        values = [np.asarray(line.get_ydata(), dtype=float) for line in axes.get_lines()]
        values += [np.asarray(path.vertices)[:, 1] for band in axes.collections for path in band.get_paths()]
        ends += [float(y) for column in values for y in column[np.isfinite(column)]]
    low, high = max(min(ends), -1.0), min(max(ends), 1.0)
    room = 0.06 * max(high - low, 0.1)
    for axes in panels:
        axes.set_ylim(low - (room if low < 0 else 0), high + 2.2 * room)
