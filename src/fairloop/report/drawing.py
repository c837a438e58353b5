"""How figures are drawn: without pyplot (no global state, no display), and always in the same bytes.

No dates, fixed identifiers; Okabe and Ito's palette (2008), safe for the colour-blind.
"""

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from textwrap import fill
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
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "legend.frameon": False,
    "svg.hashsalt": "fairloop",
    "svg.fonttype": "path",
    "pdf.fonttype": 42,  # TrueType outlines, which every publisher takes; matplotlib's own default, Type 3, few do
}


@dataclass(frozen=True)
class Style:
    """What figures are drawn for.

    Attributes:
        name: as the command line has it.
        width: of every figure in inches; None: as wide as its panels want it.
        height: the share of its height on a screen that a figure has.
        size, title, label, legend: the sizes of letters in points; no letter is smaller than the smallest of them.
        dpi: of the PNG file.
        pdf: whether there is a PDF file with embedded fonts.
    """

    name: str
    width: float | None
    height: float
    size: float
    title: float
    label: float
    legend: float
    dpi: int
    pdf: bool


SCREEN = Style("screen", None, 1.0, 9, 10, 9.5, 8.5, 200, pdf=False)
PAPER_STYLE = Style("paper", 5.5, 0.72, 7, 7.5, 7, 7, 300, pdf=True)
"""For a text block of 5.5 inches (140 mm), as NeurIPS and ICLR have it: included at its own size, letters have 7 pt."""
STYLES = {style.name: style for style in (SCREEN, PAPER_STYLE)}

_INTERVAL = re.compile(r"\[[^\]]*\]|\([^ ]* of [^)]*\)")

_style: ContextVar[Style] = ContextVar("style", default=SCREEN)


@contextmanager
def styled(style: Style) -> Iterator[None]:
    """Draw figures in a style."""
    token = _style.set(style)
    try:
        yield
    finally:
        _style.reset(token)


def is_narrow() -> bool:
    """Whether figures have a paper's width, so that words have to be broken into lines."""
    return _style.get().width is not None


def letters(points: float) -> float:
    """Return the size of letters that have so many points on a screen."""
    style = _style.get()
    return max(min(style.size, style.legend), points * style.size / SCREEN.size)


def broken(text: str, characters: int) -> str:
    """Return a text in lines of so many characters where figures are narrow; as it is on a screen.

    An interval stays in one piece, and so does a hyphenated word.
    """
    if not is_narrow():
        return text
    whole = _INTERVAL.sub(lambda found: found[0].replace(" ", "\N{NO-BREAK SPACE}"), text)
    return "\n".join(fill(line, characters, break_on_hyphens=False) for line in whole.splitlines())


@dataclass(frozen=True)
class Drawing:
    """A figure as the bytes of its files; `pdf` is empty in a style without one."""

    png: bytes
    svg: bytes
    pdf: bytes = b""


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
        style = _style.get()
        mpl.rcParams.update(_SETTINGS)
        mpl.rcParams.update(
            {
                "font.size": style.size,
                "axes.titlesize": style.title,
                "axes.labelsize": style.label,
                "legend.fontsize": style.legend,
            }
        )
        figure = Canvas(figsize=(style.width or width, height * style.height))
        FigureCanvasAgg(figure)
        draw(figure)
        return render(figure)


def render(figure: "Canvas") -> Drawing:
    """Return a figure's files, without a date or a version in them."""
    style = _style.get()
    png, svg, pdf = io.BytesIO(), io.BytesIO(), io.BytesIO()
    figure.savefig(png, format="png", dpi=style.dpi, metadata={"Software": None})
    figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    if style.pdf:
        figure.savefig(pdf, format="pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None})
    return Drawing(png.getvalue(), svg.getvalue(), pdf.getvalue())


def legend_at_the_foot(figure: "Canvas", handles: Sequence[Any], labels: Sequence[str], **looks: Any) -> float:
    """Put a legend below all panels, in as many columns as there is room for; return its height in inches."""
    for columns in range(len(labels), 0, -1):
        legend = figure.legend(
            handles, labels, loc="lower center", ncols=columns, bbox_to_anchor=(0.5, 0.0), borderaxespad=0.3, **looks
        )
        if legend.get_window_extent().width <= figure.bbox.width or columns == 1:
            break
        legend.remove()
    return 0.1 + float(legend.get_window_extent().height) / figure.dpi


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
