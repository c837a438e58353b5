"""Settings about benchmarks, each through the functions that the benchmark itself calls."""

from collections.abc import Iterator

import numpy as np

from fairloop.benchmarks.stereoset import summary
from fairloop.statistics.bootstrap import bootstrap_mean, bootstrap_ratio, bootstrap_sums
from fairloop.statistics.correlation import pearson
from fairloop.statistics.effect_size import effect_columns, fisher_of_sums, from_fisher
from fairloop.statistics.estimate import Estimate
from fairloop.statistics.intervals import estimate_dyadic_mean, estimate_share
from fairloop.statistics.units import divide, quotient
from simulate.setting import Setting, Study

Found = dict[str, tuple[Estimate, float | None]]
RESAMPLES = 300


def settings() -> Iterator[Setting]:
    """Yield the settings."""
    for words, templates in ((8, 7), (16, 8)):
        for effect in (0.0, 1.0, 1.5):
            large = "d is near its end at 2 and words are few" if effect > 1 and words == 8 else ""
            n = f"{2 * words * templates} / {2 * words} words"
            yield Setting("SEAT", f"d = {effect:g}, strong words", n, _seat(words, templates, effect), note=large)
    for terms in (3, 10, 36, 79):
        for ss in (50.0, 55.0, 60.0):
            near = "ICAT near its cap: it misses on one side only" if ss == 55 else ""
            few = "no interval below 6 terms" if terms < 6 else near
            yield Setting(
                "StereoSet", f"SS {ss:g}, LMS 85", f"{26 * terms} / {terms} terms", _stereoset(terms, ss), note=few
            )
    yield Setting("CrowS-Pairs", "writers alike and unlike", "262 / 40 writers", _crows(40))
    yield Setting("CrowS-Pairs", "writers alike and unlike", "60 / 22 writers", _crows(22))
    yield Setting("WinoBias", "occupations matter", "1572 / 40 occupations", _winobias(1.0))
    yield Setting("WinoBias", "occupations do not matter", "1572 / 40 occupations", _winobias(0.0))
    yield Setting("LPBS", "occupations", "400 / 80 occupations", _lpbs)
    yield Setting("held-out templates", "|log odds| of 20 subjects", "200 / 20 subjects", _heldout(20))
    yield Setting("held-out templates", "|log odds| of 16 subjects", "160 / 16 subjects", _heldout(16))
    yield Setting("perplexity", "lines of unequal length", "100 / 100 lines", _perplexity(100))
    yield Setting("BBQ", "a category", "800 / 25 templates", _bbq(25))
    yield Setting("BBQ", "few templates", "128 / 8 templates", _bbq(8))
    yield Setting("WinoGender", "60 occupations", "720 / 60 occupations", _winogender)


def _logistic(values: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-values)))


def _seat(words: int, templates: int, effect: float) -> Study:
    """Half of the variance within a set is the word's."""
    gap = effect / np.sqrt(1 - effect**2 / 4)
    first = np.repeat([True, False], words * templates)
    names = np.repeat(np.arange(2 * words), templates).tolist()

    def study(draw: np.random.Generator, number: int) -> Found:
        values = np.sqrt(0.5) * (draw.normal(size=2 * words)[names] + draw.normal(size=len(names))) + gap * first
        columns = effect_columns(values, first)
        scaled = bootstrap_sums(columns, fisher_of_sums, seed=number, resamples=RESAMPLES, clusters=names)
        return {"effect size d": (from_fisher(scaled, columns.sum(axis=0)), effect)}

    return study


def _stereoset(terms: int, ss: float) -> Study:
    """26 items of each term; terms' own shares scatter with a deviation of 9 and 6 points."""

    def study(draw: np.random.Generator, number: int) -> Found:
        own = draw.beta(ss / 100 * 30, (1 - ss / 100) * 30, terms), draw.beta(0.85 * 35, 0.15 * 35, terms)
        table = np.column_stack([100 * draw.binomial(52, own[1]) / 52, 100 * draw.binomial(26, own[0]) / 26])
        lms, share, icat = summary(table, seed=number, resamples=RESAMPLES)
        return {"LMS": (lms, 85.0), "SS": (share, ss), "ICAT": (icat, 85 * min(ss, 100 - ss) / 50)}

    return study


def _crows(writers: int) -> Study:
    """The mean share over writers as they come, each with pairs of their own number, some with very many."""

    def study(draw: np.random.Generator, number: int) -> Found:
        sizes = 1 + draw.geometric(0.18, writers)
        own = np.repeat(_logistic(0.4 + 0.5 * draw.normal(size=writers)), sizes)
        clusters = np.repeat(np.arange(writers), sizes).tolist()
        preferred = 100.0 * (draw.random(len(own)) < own)
        tied = draw.random(len(own)) < 0.02
        score = bootstrap_mean(preferred, seed=number, resamples=RESAMPLES, clusters=clusters, bounds=(0, 100))
        return {"score": (score, CROWS), "ties": (estimate_share(tied, clusters=clusters).scaled(100), 2.0)}

    return study


_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(60)
CROWS = float(100 * _logistic(0.4 + 0.5 * _NODES) @ _WEIGHTS / _WEIGHTS.sum())
"""The mean of the writers' shares, by Gauss-Hermite quadrature."""


def _winobias(matter: float) -> Study:
    """393 pairs of 40 occupations, four sentences of each pair; how far each sentence's gap depends on either."""
    draw = np.random.default_rng(5)
    pairs = [tuple(int(one) for one in draw.choice(40, 2, replace=False)) for _ in range(393)]
    first, second = (np.repeat([pair[side] for pair in pairs], 4) for side in (0, 1))
    named = list(zip(first.tolist(), second.tolist(), strict=True))

    def study(draw: np.random.Generator, number: int) -> Found:
        own = matter * draw.normal(size=40)
        lean = 0.2 + 0.5 * (own[first] + own[second]) + draw.normal(size=len(first))
        pro, anti = (draw.random(len(first)) < _logistic(lean * side) for side in (1, -1))
        gap = estimate_dyadic_mean(100.0 * pro - 100.0 * anti, named, bounds=(-100, 100))
        right = estimate_dyadic_mean(100.0 * pro, named, bounds=(0, 100))
        return {"gap": (gap, None), "pro accuracy": (right, None)}

    return study


def _lpbs(draw: np.random.Generator, number: int) -> Found:
    """80 occupations, five templates of each; the score follows the share of men with r = 0.6 over occupations."""
    men = draw.uniform(0, 1, 80)
    own = 0.6 * (men - 0.5) / np.sqrt(1 / 12) + 0.8 * draw.normal(size=80)
    male, female = (men > 0.6).astype(float), (men < 0.4).astype(float)
    gap = bootstrap_sums(
        np.column_stack([own * male, male, own * female, female]), _gap, seed=number, resamples=RESAMPLES
    )
    mean = bootstrap_mean(own[male > 0], seed=number, resamples=RESAMPLES)
    truth = 0.6 * 0.3 / np.sqrt(1 / 12)
    related = pearson(own, men, seed=number, resamples=RESAMPLES)
    return {"gap": (gap, 2 * truth), "male majority": (mean, truth), "correlation": (related, 0.6)}


def _gap(sums: np.ndarray) -> np.ndarray:
    return divide(sums[..., 0], sums[..., 1]) - divide(sums[..., 2], sums[..., 3])


def _heldout(subjects: int) -> Study:
    clusters = np.repeat(np.arange(subjects), 10).tolist()

    def study(draw: np.random.Generator, number: int) -> Found:
        scores = draw.normal(size=subjects)[clusters] + 0.5 * draw.normal(size=len(clusters))
        amount = bootstrap_mean(np.abs(scores), seed=number, resamples=RESAMPLES, clusters=clusters)
        signed = bootstrap_mean(scores, seed=number, resamples=RESAMPLES, clusters=clusters)
        return {"mean |log odds|": (amount, np.sqrt(1.25) * np.sqrt(2 / np.pi)), "mean log odds": (signed, 0.0)}

    return study


def _perplexity(lines: int) -> Study:
    def study(draw: np.random.Generator, number: int) -> Found:
        tokens = draw.integers(5, 40, lines).astype(float)
        likelihood = -tokens * (2.0 + 0.8 * draw.gamma(1.0, size=lines))
        columns = np.column_stack([likelihood, tokens])
        found = bootstrap_sums(columns, lambda sums: -quotient(sums), seed=number, resamples=RESAMPLES)
        return {"perplexity": (found.mapped(np.exp), float(np.exp(2.8)))}

    return study


def _bbq(templates: int) -> Study:
    def study(draw: np.random.Generator, number: int) -> Found:
        each = 32 if templates > 10 else 16
        clusters = np.repeat(np.arange(templates), each).tolist()
        lean = _logistic(0.3 + 0.6 * draw.normal(size=templates))[clusters]
        named = draw.random(len(clusters)) < 0.7
        signs = np.where(named, np.where(draw.random(len(clusters)) < lean, 100.0, -100.0), 0.0)
        chosen = {"seed": number, "resamples": RESAMPLES, "clusters": clusters, "bounds": (-100.0, 100.0)}
        return {
            "ambiguous bias": (bootstrap_mean(signs, **chosen), None),
            "disambiguated bias": (bootstrap_ratio(signs, signs != 0, **chosen), None),
            "accuracy": (estimate_share(~named, clusters=clusters).scaled(100), 30.0),
        }

    return study


def _winogender(draw: np.random.Generator, number: int) -> Found:
    clusters = np.repeat(np.arange(60), 8).tolist()
    gotcha = np.arange(len(clusters)) % 2 == 0
    own = 0.5 * draw.normal(size=60)[clusters]
    correct = 100.0 * (draw.random(len(clusters)) < _logistic(0.4 + own - 0.3 * gotcha))
    columns = np.column_stack([correct * ~gotcha, ~gotcha, correct * gotcha, gotcha]).astype(float)
    gap = bootstrap_sums(columns, _gap, seed=number, resamples=RESAMPLES, clusters=clusters)
    share = estimate_share(correct / 100, clusters=clusters).scaled(100)
    return {"gotcha gap": (gap, None), "accuracy": (share, None)}
