"""Fair-Gender's figures: each method's change of bias and of language skill, and the ablation as a waterfall."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fairloop.measures.catalogue import Declared
from fairloop.report.drawing import LINES, REST, Drawing, Figure, broken, drawn, letters
from fairloop.report.fair_gender.effects import UNTOUCHED, Ablation, Debiasing, Effect
from fairloop.report.table import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

MOST_ROWS = 40
"""So many variants have room in a figure; the tables have all."""

_MOST_PANELS = 4
_DWARFS = 100
"""A change so many times as large as the middle one makes a linear axis useless."""
_BETTER, _WORSE = "#009E73", "#D55E00"


def debiasing_figures(found: Debiasing, place: int = 0) -> list[Figure]:
    """Draw the methods of one PLM. `place` is its number in the report, which the files' names carry from 2 on."""
    end = f"_{place + 1}" if place else ""
    shown = [one for one in found.variants if one.method != UNTOUCHED][:MOST_ROWS]
    figures = []
    if shown and found.scores:
        caption = _METHODS.format(plm=found.plm, intervals=_intervals(found.effects))
        figures.append(Figure(f"debias_methods{end}", caption, _methods(found, shown)))
    for number_, ablation in enumerate(found.ablations):
        name = f"ablation{end}" if not number_ else f"ablation_{ablation.full.method}{end}"
        intervals = _intervals(ablation.of(ablation.headline))
        caption = _WATERFALL.format(plm=found.plm, full=ablation.full.label, intervals=intervals)
        if any(one.adjusted < 0.05 for one in ablation.of(ablation.headline)):
            caption = f"{caption.removesuffix('.')}; *: {_STARS}"
        figures.append(Figure(name, caption, _waterfall(ablation)))
    return figures


def _intervals(effects: Sequence[Effect]) -> str:
    """Return what a caption says of intervals: of some changes, of all, or that there is none."""
    bounded = [one.change.bounded for one in effects if math.isfinite(one.change.value)]
    if not any(bounded):
        return "without intervals (one seed and no items, or two)"
    return "with 95% intervals" if all(bounded) else "with 95% intervals where there are items or three seeds"


_METHODS = (
    "{plm}: change of bias and of language skill against the untouched PLM, paired by seed, {intervals}; left of "
    "zero is less."
)
_WATERFALL = (
    "{plm}: headline bias of the untouched PLM and of {full}, and its paired change when one component is removed or "
    "replaced, {intervals}."
)
_STARS = "p below 0.05 after Holm, by the analysis that the interval is of."


def _panels(scores: Sequence[Declared]) -> list[Declared]:
    bias, skill = [one for one in scores if one.is_bias], [one for one in scores if not one.is_bias]
    most = _MOST_PANELS - min(2, len(skill))
    return [*bias[:most], *skill[: _MOST_PANELS - len(bias[:most])]]


def _methods(found: Debiasing, shown: Sequence[object]) -> Drawing:
    scores = _panels(found.scores)

    def draw(figure: "Canvas") -> None:
        panels = figure.subplots(1, len(scores), sharey=True, squeeze=False)[0]
        for axes, score in zip(panels, scores, strict=True):
            effects = [one for one in found.effects if one.score == score and any(one.variant is v for v in shown)]
            for height, one in enumerate(effects):
                _interval(axes, one, -height)
            axes.axvline(0, color="#999999", lw=0.8, zorder=0)
            axes.grid(axis="x", color="#eeeeee", zorder=0)
            axes.set_title(broken(score.title, 16), loc="left", fontweight="bold", fontsize=letters(9))
            axes.set_xlabel(broken("change of distance from no bias" if score.is_bias else "change", 16))
            axes.set_yticks([-height for height in range(len(effects))], [one.variant.label for one in effects])
            _scale(axes, effects)
        panels[0].set_ylim(-len(shown) + 0.4, 0.6)
        figure.tight_layout(w_pad=1.5)

    longest = max(len(one.label) for one in found.variants)
    return drawn(draw, 2.6 * len(scores) + 0.075 * longest + 0.4, 0.3 * len(shown) + 1.3)


def _scale(axes: "Axes", effects: Sequence[Effect]) -> None:
    """Choose a logarithmic axis, straight around zero, where one method's change would hide all others."""
    from matplotlib.ticker import NullLocator

    sizes = sorted(abs(one.change.value) for one in effects if math.isfinite(one.change.value) and one.change.value)
    typical = sizes[len(sizes) // 2] if sizes else 0.0
    if not sizes or sizes[-1] < _DWARFS * typical:
        axes.locator_params(axis="x", nbins=5)
        return
    first, last = math.floor(math.log10(typical)), math.floor(math.log10(sizes[-1]))
    straight = 10.0**first
    ends = [end for one in effects for end in (one.change.value, one.change.low, one.change.high) if math.isfinite(end)]
    left, right = (2 * side for side in (min(*ends, -straight), max(*ends, straight)))
    decades = [10.0**power for power in range(first, last + 1, -(-(last + 1 - first) // 3))]
    ticks = [*(-decade for decade in decades if -decade >= left), 0.0, *(one for one in decades if one <= right)]
    axes.set_xscale("symlog", linthresh=straight)
    axes.set_xlim(left, right)
    axes.set_xticks(ticks, [f"{tick:,g}".replace("-", "\N{MINUS SIGN}") for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(f"{axes.get_xlabel()} (logarithmic beyond ±{straight:g})")


def _interval(axes: "Axes", one: Effect, height: float) -> None:
    colour = LINES[0][0] if one.score.is_bias else LINES[3][0]
    if math.isnan(one.change.value):
        axes.annotate("no pair", (0.02, height), xycoords=("axes fraction", "data"), fontsize=letters(7), va="center")
        return
    if math.isfinite(one.change.low):
        axes.plot([one.change.low, one.change.high], [height, height], color=colour, lw=1.5, zorder=3)
    axes.plot(one.change.value, height, "o", color=colour, ms=5, zorder=4)


def _waterfall(ablation: Ablation) -> Drawing:
    effects = [one for one in ablation.of(ablation.headline) if math.isfinite(one.change.value)][:MOST_ROWS]
    effects.sort(key=lambda one: -one.change.value)

    def draw(figure: "Canvas") -> None:
        axes = figure.subplots()
        bars = [("untouched PLM", ablation.without), (ablation.full.label, ablation.level)]
        for place, (_, value) in enumerate(bars):
            if math.isfinite(value):
                axes.barh(-place, value, 0.62, color="#b5b5b5" if not place else LINES[0][0], zorder=2)
                axes.annotate(f" {number(value)}", (value, -place), va="center", fontsize=letters(8.5))
        for place, one in enumerate(effects, len(bars)):
            _step(axes, one, ablation.level, -place)
        axes.axvline(ablation.level, color=REST, lw=0.9, ls=(0, (2, 2)), zorder=1)
        labels = [*(name for name, _ in bars), *(_removed(one) for one in effects)]
        axes.set_yticks([-place for place in range(len(labels))], labels)
        axes.set_xlabel(f"{ablation.headline.title} (0: no bias)")
        ends = [ablation.without, ablation.level, *(ablation.level + one.change.value for one in effects)]
        ends += [ablation.level + one.change.high for one in effects if math.isfinite(one.change.high)]
        axes.set_xlim(0, 1.16 * max(end for end in ends if math.isfinite(end)))
        figure.tight_layout()

    longest = max(len(_removed(one)) for one in effects) if effects else 10
    return drawn(draw, 5.6 + 0.075 * longest, 0.34 * (len(effects) + 2) + 0.8)


def _removed(one: Effect) -> str:
    return one.variant.label.removeprefix(f"{one.variant.method}, ")


def _step(axes: "Axes", one: Effect, start: float, height: float) -> None:
    """Draw a floating bar from the full method's bias to the variant's, its interval, and the number beside it."""
    change = one.change
    colour = _WORSE if change.value > 0 else _BETTER
    axes.barh(height, change.value, 0.62, left=start, color=colour, hatch="" if change.value > 0 else "////",
              edgecolor="white", lw=0, zorder=2)  # fmt: skip
    right = start + max(change.value, 0.0)
    if math.isfinite(change.low):
        axes.plot([start + change.low, start + change.high], [height, height], color=REST, lw=1.1, zorder=3)
        right = max(right, start + change.high)
    mark = " *" if one.adjusted < 0.05 else ""
    axes.annotate(f" {change.value:+.3f}{mark}", (right, height), va="center", fontsize=letters(8.5), zorder=4,
                  bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.6})  # fmt: skip
