"""Settings about recursions, mitigations and comparisons: the equilibrium, changes, reductions, seeds by items."""

from collections.abc import Callable, Iterator

import numpy as np

from fairloop.statistics.calibration import Curve, contrast, detectable_change, detection_factor, noise, slope
from fairloop.statistics.correlation import spearman
from fairloop.statistics.crossed import crossed_mean
from fairloop.statistics.differences import welch_difference
from fairloop.statistics.equilibrium import Trajectory, estimate_equilibrium
from fairloop.statistics.estimate import Estimate
from fairloop.statistics.means import student_mean
from fairloop.statistics.mislabelled import LabelErrors, corrected_net_rate
from fairloop.statistics.paired import paired_reduction
from fairloop.statistics.relative_change import relative_changes
from simulate.setting import Setting, Study

Found = dict[str, tuple[Estimate, float | None]]
LEVELS = (0.1, 0.3, 0.6)
Step = Callable[[float, float], float]


def settings() -> Iterator[Setting]:
    """Yield the settings."""
    n = "9 cells, 5 transitions"
    yield Setting("equilibrium", "AR(1) through realised corpora, rho 0.5", n, _ar(0.5))
    yield Setting("equilibrium", "prompt groups that scatter", n, _ar(0.5, scatter=0.04))
    yield Setting("equilibrium", "seed's break, then decay (B* = 0)", n, _ar(0.5, level=0.0, after_seed=0.15))
    near = "rho near 1: within a few generations the line is hardly bent, and least squares leans to smaller rho"
    yield Setting("equilibrium", "rho 0.9", n, _ar(0.9), note=near)
    own = "each cell rests at a level of its own: what differs between cells looks like slow return"
    yield Setting("equilibrium", "own level per cell, sd 0.03", n, _ar(0.5, own=0.03), note=own)
    labels = "labels err (recall 0.85, 5% flipped) and nothing is corrected"
    yield Setting("equilibrium", "label errors, as counted", n, _ar(0.5, labels=(0.85, 0.05)), note=labels)
    noise = "rho is not corrected: labels that err add noise of their own to each generation"
    yield Setting("equilibrium", "label errors, corrected by 200 sentences", n, _mislabelled(200), note=noise)
    yield Setting("equilibrium", "three cells of one level", "3 cells, 5 transitions", _ar(0.3, seeds=3, levels=(0.3,)))
    yield Setting("means over cells", "three seeds", "3 cells", _means(3))
    yield Setting("means over cells", "nine cells", "9 cells", _means(9))
    yield Setting("relative change", "three cells", "3 cells", _relative(3))
    yield Setting("relative change", "one cell, over its sentences", "500 / 32", _relative_of_one)
    for pairs in (3, 9):
        note = "Fieller's, with two degrees of freedom" if pairs == 3 else ""
        yield Setting("reduction", f"{pairs} pairs", f"{pairs} pairs", _reduction(pairs), note=note)
    few = "neither seeds nor items vary: the variance is at least that of either alone"
    for seeds, sd_seed, sd_item in ((3, 0.3, 1.0), (3, 1.0, 0.3), (5, 0.5, 0.5), (3, 0.0, 0.0)):
        note = few if not sd_seed + sd_item else ""
        name = f"sd of seeds {sd_seed:g}, of items {sd_item:g}"
        yield Setting(
            "crossed analysis", name, f"{seeds} seeds x 40 items", _crossed(seeds, sd_seed, sd_item), note=note
        )
    yield Setting("correlation", "Spearman, nine starts of three points", "27 / 9 starts", _spearman)
    yield Setting("difference", "means of two sweeps", "5 and 7 cells", _welch)
    yield Setting("metric calibration", "five levels of five corpora", "25 corpora", _calibration)


def _realised(draw: np.random.Generator, mean: float, sentences: int, scatter: float) -> tuple[float, float]:
    """Return the net rate of a corpus as it came out, and the share of gendered sentences that this is from."""
    mean = float(np.clip(mean + scatter * draw.normal() / np.sqrt(sentences / 16), -1, 1)) if scatter else mean
    share = max(0.5, min(1.0, abs(mean)))
    counts = draw.multinomial(sentences, [(share + mean) / 2, max((share - mean) / 2, 0.0), 1 - share])
    return (counts[0] - counts[1]) / sentences, (counts[0] + counts[1]) / sentences


def _labelled(
    draw: np.random.Generator, net: float, share: float, sentences: int, recall: float, flips: float
) -> float:
    """Return the net rate as labels count it: some gendered sentences are missed, some have the other gender."""
    for_, against = round((share + net) / 2 * sentences), round((share - net) / 2 * sentences)
    counted = 0
    for number, sign in ((for_, 1), (against, -1)):
        found = draw.binomial(number, recall)
        counted += sign * (found - 2 * draw.binomial(found, flips))
    return counted / sentences


def _cells(
    draw: np.random.Generator,
    rho: float,
    level: float,
    *,
    after_seed: float | None = None,
    scatter: float = 0.0,
    own: float = 0.0,
    labels: tuple[float, float] | None = None,
    seeds: int = 3,
    levels: tuple[float, ...] = LEVELS,
    sentences: int = 500,
    generations: int = 6,
) -> list[Trajectory]:
    trajectories = []
    for start in levels:
        for _ in range(seeds):
            rest, true, counted = level + own * draw.normal(), start, [start]
            for generation in range(generations):
                aim = after_seed if after_seed is not None and generation == 0 else rest + rho * (true - rest)
                true, share = _realised(draw, aim, sentences, scatter)
                counted.append(true if labels is None else _labelled(draw, true, share, sentences, *labels))
            trajectories.append(Trajectory(start, tuple(counted)))
    return trajectories


def _ar(rho: float, level: float = 0.12, **more: object) -> Study:
    def study(draw: np.random.Generator, number: int) -> Found:
        found = estimate_equilibrium(_cells(draw, rho, level, **more), resamples=199)  # type: ignore[arg-type]
        line, truth = found.line, {"B* of the line": level, "slope rho": rho}
        estimates: Found = {name: (one, truth[name]) for name, one in zip(truth, (line.level, line.slope), strict=True)}
        estimates["change a generation"] = (found.trend, None)
        estimates["difference left at the end"] = (found.kept_last, None)
        estimates["the seed's step"] = (found.breaks[0].change, None)
        return estimates

    return study


def _mislabelled(by_hand: int) -> Study:
    """Labels' errors are known from sentences labelled by hand, drawn anew in each study."""

    def study(draw: np.random.Generator, number: int) -> Found:
        cells = _cells(draw, 0.5, 0.12, labels=(0.85, 0.05))
        line = estimate_equilibrium(cells, resamples=199).line
        found = draw.binomial(by_hand, 0.85)
        flipped = draw.binomial(found, 0.05)
        errors = LabelErrors(by_hand, found - flipped, flipped, by_hand, draw.binomial(by_hand, 0.0))
        return {"B* corrected": (corrected_net_rate(line.level, errors), 0.12), "slope rho": (line.slope, 0.5)}

    return study


def _means(cells: int) -> Study:
    def study(draw: np.random.Generator, number: int) -> Found:
        return {"mean": (student_mean(0.1 + 0.02 * draw.normal(size=cells)), 0.1)}

    return study


def _relative(cells: int) -> Study:
    def study(draw: np.random.Generator, number: int) -> Found:
        ends = [(0.6, 0.30 + 0.03 * draw.normal(), 0.15 + 0.02 * draw.normal()) for _ in range(cells)]
        trajectories = [Trajectory(0.6, one) for one in ends]
        (seed,), (first,) = (relative_changes(trajectories, since=since) for since in (0, 1))
        return {"since the seed": (seed.change, -0.75), "since generation 1": (first.change, -0.5)}

    return study


def _relative_of_one(draw: np.random.Generator, number: int) -> Found:
    errors = (0.0, 0.03, 0.02)
    values = (0.6, 0.30 + 0.03 * draw.normal(), 0.15 + 0.02 * draw.normal())
    (first,) = relative_changes([Trajectory(0.6, values, errors)], since=1)
    return {"since generation 1": (first.change, -0.5)}


def _reduction(pairs: int) -> Study:
    levels = np.resize([0.05, 0.08, 0.12], pairs)

    def study(draw: np.random.Generator, number: int) -> Found:
        control, treated = (levels * (1 + 0.2 * draw.normal(size=pairs)) for _ in range(2))
        return {"reduction": (paired_reduction(0.5 * treated, control), 0.5)}

    return study


def _crossed(seeds: int, sd_seed: float, sd_item: float) -> Study:
    def study(draw: np.random.Generator, number: int) -> Found:
        table = (
            sd_seed * draw.normal(size=(seeds, 1)) + sd_item * draw.normal(size=(1, 40)) + draw.normal(size=(seeds, 40))
        )
        return {"mean change": (crossed_mean(table)[0], 0.0)}

    return study


def _spearman(draw: np.random.Generator, number: int) -> Found:
    starts = np.repeat(np.arange(9), 3)
    x, y = draw.multivariate_normal([0, 0], [[1, 0.5], [0.5, 1]], 27).T
    shared = draw.normal(size=(9, 2))[starts]
    return {
        "rank correlation": (spearman(x + 0.5 * shared[:, 0], y + 0.5 * shared[:, 1], clusters=starts.tolist()), None)
    }


def _welch(draw: np.random.Generator, number: int) -> Found:
    first, second = 0.1 + 0.02 * draw.normal(size=5), 0.13 + 0.04 * draw.normal(size=7)
    return {"difference of means": (welch_difference(first, second)[0], 0.03)}


def _calibration(draw: np.random.Generator, number: int) -> Found:
    levels = (-0.6, -0.3, 0.0, 0.3, 0.6)
    curve = Curve.of(levels, [0.4 * level + 0.05 * draw.normal(size=5) for level in levels])
    window = curve.around(0.3)
    return {
        "mean at a level": (contrast([curve.values[0]], [1.0]), -0.24),
        "slope": (slope(curve), 0.4),
        "noise": (noise(window), 0.05),
        "smallest detectable change": (detectable_change(window), detection_factor() * 0.05 / 0.4),
    }
