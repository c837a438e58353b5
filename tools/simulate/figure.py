"""The figure of the coverage: one dot a quantity, the band of 93 to 97%, what lies outside in another colour."""

import io
from collections.abc import Mapping, Sequence

from simulate.setting import LEAST, MOST

COLOURS = {"holds": "#2166ac", "wide": "#b8860b", "short": "#b2182b"}
LEFT = 86
"""Per cent at which the axis begins; what covers less stands there, with its number."""
LABELS = {"holds": "93 to 97% (within two standard errors)", "wide": "wider than need be", "short": "too short"}


def drawn(rows: Sequence[Mapping[str, str]]) -> bytes:
    """Return the figure as PNG."""
    from matplotlib.figure import Figure

    shown = [row for row in rows if row["verdict"] != "none"]
    lines = [f"{row['group']}: {row['setting']} ({row['n']}): {row['quantity']}" for row in shown]
    figure = Figure(figsize=(11, 0.17 * len(shown) + 1.4), layout="constrained")
    axes = figure.subplots()
    axes.axvspan(100 * LEAST, 100 * MOST, color="#e5e5e5", zorder=0)
    axes.axvline(95, color="#888888", linewidth=0.8, zorder=1)
    for verdict, colour in COLOURS.items():
        places = [place for place, row in enumerate(shown) if row["verdict"] == verdict]
        values = [100 * float(shown[place]["coverage"]) for place in places]
        axes.plot(
            [max(value, LEFT) for value in values], places, "o", color=colour, markersize=4, label=LABELS[verdict]
        )
        for place, value in zip(places, values, strict=True):
            if value < LEFT:
                axes.annotate(f"← {value:.0f}", (LEFT, place), (6, -2), textcoords="offset points", fontsize=6)
    axes.set_yticks(range(len(shown)), lines, fontsize=6)
    axes.set_xlim(LEFT - 0.5, 100.5)
    axes.set_ylim(len(shown) - 0.3, -0.7)
    axes.set_xlabel("95% intervals that hold the truth, per cent of the simulated studies")
    axes.legend(loc="lower left", fontsize=7)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110, metadata={"Software": None})
    return stream.getvalue()
