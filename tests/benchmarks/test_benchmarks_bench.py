"""The side-by-side timing: fair turns, means over rounds, and the difference of what both ways say."""

import numpy as np
import pytest
from bench import benchmarks as bench
from bench import causal, threads
from plm_models import SENTENCES, tiny

from fairloop.benchmarks.sentence_pairs import SentencePair
from fairloop.benchmarks.stereoset import StereoItem
from fairloop.plm.model import LanguageModel


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


@pytest.mark.parametrize("family", ["gpt2", "gemma3"])  # without and with a token before a text
def test_the_published_way_and_the_engine_score_causal_sentences_alike(family):
    model, tokenizer, kind = tiny(family)
    plm = LanguageModel(model, tokenizer, kind)
    pairs = [SentencePair(str(number), SENTENCES[number], SENTENCES[number + 1]) for number in range(4)]
    (result,) = causal.compare_pairs({"float32": plm}, pairs)
    assert result.largest_difference < 1e-5
    contexts = [("He is a nurse.", ("She is kind.", "He is rude, they say.", "Books read."))] * 2
    items = [
        StereoItem(str(number), "intersentence", "nurse", "profession", context, sentences)
        for number, (context, sentences) in enumerate(contexts)
    ]
    (result,) = causal.compare_stereoset({"float32": plm}, items, "intersentence")
    assert result.largest_difference < 1e-5


def test_threads_are_compared_by_neighbours():
    found = {
        "alone": {"spin": [10.0, 20.0, 30.0], "sleep at once": [4.0, 5.0, 6.0], "fairloop": [8.0, 20.0, 33.0]},
        "beside a load": {"spin": [1.0, 2.0, 6.0], "sleep at once": [5.0, 4.0, 6.0], "fairloop": [5.0, 8.0, 15.0]},
    }
    assert list(found["alone"]) == list(threads.WAYS)
    spin, _, own, over_spin, over_sleep = (line.split() for line in threads.report(found).splitlines()[1:])
    assert spin[1:] == ["20.0", "2.0", "0.10"]
    assert own[1:] == ["20.0", "8.0", "0.45"]
    assert over_spin[-2:] == ["1.00", "4.00"]
    assert over_sleep[-2:] == ["4.00", "2.00"]
