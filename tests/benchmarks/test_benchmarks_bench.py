"""The side-by-side timing: fair turns, means over rounds, and the difference of what both ways say."""

import numpy as np
import pytest
from bench import benchmarks as bench


class Clock:
    """A clock that a way of scoring moves on by itself."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(bench.time, "process_time", lambda: self.now)
        monkeypatch.setattr(bench.time, "perf_counter", lambda: 2 * self.now)

    def way(self, called, name, seconds, error=0.0):
        def score(chunk):
            called.append(name)
            self.now += seconds * len(chunk)
            return np.array(chunk, dtype=float) + error

        return score


def test_seconds_ratios_and_differences(monkeypatch):
    clock, called = Clock(monkeypatch), []
    engines = {"float32": clock.way(called, "float32", 0.5, 1e-6), "bfloat16": clock.way(called, "bfloat16", 0.2, 0.25)}
    one, two = bench.by_turns("what", [[1, 2], [3]], len, clock.way(called, "published", 6.0), engines)
    assert (one.dtype, one.items, one.published) == ("float32", 3, (18.0, 36.0))
    assert one.engine == pytest.approx((1.5, 3.0))
    assert (one.ratio, two.ratio, two.wall_ratio) == pytest.approx((12.0, 30.0, 30.0))
    assert one.largest_difference == pytest.approx(1e-6)
    assert two.largest_difference == pytest.approx(0.25)
    lines = bench.report([one, two]).splitlines()
    assert lines[0].split()[-1] == "1e-06"
    assert lines[1].split()[-2:] == ["2.5", "0.25"]  # bfloat16 over float32


def test_each_way_begins_a_turn(monkeypatch):
    clock, called = Clock(monkeypatch), []
    bench.by_turns("what", [[1], [2]], len, clock.way(called, "published", 1), {"float32": clock.way(called, "f", 1)})
    assert called == ["published", *["f"] * bench.ROUNDS, *["f"] * bench.ROUNDS, "published"]


def test_a_share_is_spread_over_all_items():
    assert bench.some_of(range(100), 0.1) == list(range(0, 100, 10))
    assert bench.some_of([1, 2, 3], 0.01) == [1, 2]
    assert bench.parts(list(range(5))) == [[0, 1], [2, 3, 4]]
