"""How much faster the scoring engine is than the published way: `python -m bench.benchmarks`.

Both ways score the same items with the same model in the same run, by turns, so that a busy machine slows both. The
published way is one forward pass at a time: one masked variant through the whole model and its head, one sentence for
an embedding, a Python loop over permutations. It runs in float32; the engine runs in float32 and in bfloat16. Times
are seconds of processor time, which other processes on the machine disturb least; ratios are given by the clock too.
The scores of both ways are compared. A share of the items is enough for the ratios, and is stated; what bfloat16 does
to each final score is measured on whole benchmarks.
"""

import argparse
import functools
import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fairloop.benchmarks import crows_pairs, seat, stereoset
from fairloop.benchmarks.crows_pairs import CrowsPairsSettings
from fairloop.benchmarks.lpbs import LpbsSettings
from fairloop.benchmarks.registry import measure
from fairloop.benchmarks.result import Task
from fairloop.benchmarks.sentence_pairs import Protocol, SentencePair, pair_scores, token_spans
from fairloop.benchmarks.settings import BenchmarkSettings
from fairloop.benchmarks.winobias import WinoBiasSettings
from fairloop.plm.model import LanguageModel
from fairloop.plm.settings import PlmSettings
from fairloop.statistics.exact_permutation import exact_permutation_test

#: Both ways take turns over this many parts of the items.
PARTS = 2
#: In each turn an engine goes over its part so often, and the mean counts: it takes seconds, in which other work on a
#: processor can halve its speed, where the published way takes minutes.
ROUNDS = 3
#: `nangia2020` masks some ten times as many tokens as the other protocols, and gets this part of their share.
NANGIA = 5

Scorer = Callable[[Any], np.ndarray]
Models = dict[str, LanguageModel]  # the same model by number format


@dataclass(frozen=True)
class Comparison:
    """Seconds of processor and wall-clock time of both ways over the same items, and how far their scores differ."""

    what: str
    dtype: str
    items: int
    published: tuple[float, float]
    engine: tuple[float, float]
    largest_difference: float

    @property
    def ratio(self) -> float:
        """Published processor time over the engine's."""
        return self.published[0] / self.engine[0]

    @property
    def wall_ratio(self) -> float:
        """Published wall-clock time over the engine's."""
        return self.published[1] / self.engine[1]


def by_turns(
    what: str, chunks: Sequence[Any], size: Callable[[Any], int], published: Scorer, engines: dict[str, Scorer]
) -> list[Comparison]:
    """Run the published way and each engine over each chunk, in turns that begin with another one each time.

    An engine's time is the mean of `ROUNDS` goes.
    """
    ways = [("published", published), *engines.items()]
    spent = {name: [0.0, 0.0] for name, _ in ways}
    difference = dict.fromkeys(engines, 0.0)
    for turn, chunk in enumerate(chunks):
        scores = {}
        for name, way in ways[turn % len(ways) :] + ways[: turn % len(ways)]:
            rounds = ROUNDS if name in engines else 1
            processor, wall = time.process_time(), time.perf_counter()
            for _ in range(rounds):
                scores[name] = way(chunk)
            spent[name][0] += (time.process_time() - processor) / rounds
            spent[name][1] += (time.perf_counter() - wall) / rounds
        for name in engines:
            furthest = float(np.abs(scores["published"] - scores[name]).max(initial=0.0))
            difference[name] = max(difference[name], furthest)
    items, (slow, slow_wall) = sum(map(size, chunks)), spent["published"]
    return [
        Comparison(what, name, items, (slow, slow_wall), (spent[name][0], spent[name][1]), difference[name])
        for name in engines
    ]


def parts(items: Sequence[Any], count: int = PARTS) -> list[list[Any]]:
    """Split items into `count` parts of neighbours."""
    edges = np.linspace(0, len(items), count + 1).astype(int)
    return [list(items[start:end]) for start, end in itertools.pairwise(edges) if end > start]


def _engines(engine: Callable[[LanguageModel, Any], np.ndarray], models: Models) -> dict[str, Scorer]:
    return {dtype: functools.partial(engine, plm) for dtype, plm in models.items()}


def compare_pairs(models: Models, protocol: Protocol, pairs: list[SentencePair]) -> list[Comparison]:
    """Compare both ways of scoring CrowS-Pairs."""
    import torch

    slow = models["float32"]

    def one_score(ids: list[int], places: Sequence[int]) -> float:
        scores = []
        for place in places:
            variant = torch.tensor([ids], device=slow.model.device)
            variant[0, place] = slow.mask_id
            with torch.no_grad():
                logits = slow.model(variant).logits[0, place]
            scores.append(torch.log_softmax(logits.float(), dim=0)[ids[place]].item())
        value = sum(scores) if protocol == "nangia2020" else np.mean(scores)
        return round(float(value), 3)

    def published(chunk: list[SentencePair]) -> np.ndarray:
        scores = []
        for pair in chunk:
            one, two = slow.tokenizer.encode(pair.first), slow.tokenizer.encode(pair.second)
            shared, differing = token_spans(one, two)
            places = (shared[0][1:-1], shared[1][1:-1]) if protocol == "nangia2020" else differing
            if protocol == "nangia2020" or (places[0] and places[1]):
                scores.append([one_score(one, places[0]), one_score(two, places[1])])
        return np.array(scores)

    def engine(plm: LanguageModel, chunk: list[SentencePair]) -> np.ndarray:
        scores, _ = pair_scores(Task(plm), chunk, protocol)
        return np.array([scores[pair.item] for pair in chunk if pair.item in scores])

    return by_turns(f"CrowS-Pairs {protocol}", parts(pairs), len, published, _engines(engine, models))


def compare_stereoset(models: Models, items: list[stereoset.StereoItem]) -> list[Comparison]:
    """Compare both ways of scoring StereoSet's intrasentence items."""
    import torch

    slow = models["float32"]

    def published(chunk: list[stereoset.StereoItem]) -> np.ndarray:
        scores = []
        for item in chunk:
            row = []
            for word in stereoset.fillers(item):
                probabilities = []
                tokens = stereoset.filler_tokens(slow, [word])[word]
                for text, token in stereoset.filler_variants(slow, item.context, tokens):
                    inputs = slow.tokenizer(text, return_tensors="pt").to(slow.model.device)
                    with torch.no_grad():
                        output = slow.model(**inputs).logits.float().softmax(dim=-1)
                    place = int((inputs["input_ids"][0] == slow.mask_id).nonzero()[0, 0])
                    probabilities.append(output[0, place, token].item())
                row.append(float(np.mean(probabilities)))
            scores.append(row)
        return np.array(scores)

    def engine(plm: LanguageModel, chunk: list[stereoset.StereoItem]) -> np.ndarray:
        results, _ = stereoset.masked_fillers(Task(plm), chunk)
        return np.array([[result.stereotype, result.anti_stereotype, result.unrelated] for result in results])

    return by_turns("StereoSet intrasentence", parts(items), len, published, _engines(engine, models))


def compare_embeddings(models: Models, tests: list[seat.SeatTest]) -> list[Comparison]:
    """Compare both ways of embedding the sentences of SEAT's tests: every sentence of every test is asked for."""
    import torch

    slow = models["float32"]
    sentences = [sentence for test in tests for part in test.sets.values() for sentence in part]

    def published(chunk: list[str]) -> np.ndarray:
        vectors = []
        for sentence in chunk:
            inputs = slow.tokenizer(sentence, return_tensors="pt").to(slow.model.device)
            with torch.no_grad():
                vectors.append(slow.model.base_model(**inputs).last_hidden_state[0].float().mean(dim=0).cpu().numpy())
        return np.array(vectors)

    def engine(plm: LanguageModel, chunk: list[str]) -> np.ndarray:
        return plm.encoder.embed(chunk, batch_tokens=plm.batch_tokens)

    return by_turns("SEAT embeddings", [sentences], len, published, _engines(engine, models))


def compare_p_values(plm: LanguageModel, tests: list[seat.SeatTest], samples: int) -> Comparison:
    """Compare 100,000 sampled permutations in a Python loop (timed on `samples`, scaled up) with exact p-values."""
    sentences = list(dict.fromkeys(text for test in tests for part in test.sets.values() for text in part))
    vectors = dict(zip(sentences, plm.encoder.embed(sentences, normalize=True), strict=True))
    associations = []
    for test in tests:
        targ1, targ2, attr1, attr2 = (np.array([vectors[text] for text in test.sets[name]]) for name in seat.SETS)
        pair = seat.association(targ1, attr1, attr2), seat.association(targ2, attr1, attr2)
        associations.append((pair[0].astype(np.float64), pair[1].astype(np.float64)))
    random = np.random.default_rng(0)

    def published(chunk: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        p_values = []
        for first, second in chunk:
            scores, places = np.concatenate([first, second]), np.arange(len(first) + len(second))
            observed, reached = first.sum(), 0
            for _ in range(samples):
                random.shuffle(places)
                reached += bool(scores[places[: len(first)]].sum() >= observed)
            p_values.append(reached / samples)
        return np.array(p_values)

    def engine(chunk: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        return np.array([exact_permutation_test(first, second).p_value for first, second in chunk])

    (raw,) = by_turns("SEAT p-values, exact", parts(associations), len, published, {"float64": engine})
    scale = seat.PUBLISHED_SAMPLES / samples
    return replace(raw, published=(raw.published[0] * scale, raw.published[1] * scale))


@dataclass(frozen=True)
class Effect:
    """One final score in float32 and in bfloat16."""

    metric: str
    float32: float
    bfloat16: float

    @property
    def difference(self) -> float:
        """What bfloat16 adds to the score."""
        return self.bfloat16 - self.float32


def compare_all(models: Models, folder: Path, share: float, samples: int) -> Iterator[list[Comparison]]:
    """Run the comparisons, each on a share of the items of its benchmark.

    SEAT's tests are all taken: how often they repeat each other's sentences is part of what embedding them costs.
    """
    pairs = [
        SentencePair(pair.item, *((pair.more, pair.less) if pair.direction == "stereo" else (pair.less, pair.more)))
        for pair in crows_pairs.read(folder / "crows_pairs")
    ]
    stereo = [item for item in stereoset.read(folder / "stereoset") if item.kind == "intrasentence"]
    tests = seat.read(folder / "seat")
    yield compare_stereoset(models, some_of(stereo, share))
    yield compare_pairs(models, "meade2022", some_of(pairs, share))
    yield compare_pairs(models, "nangia2020", some_of(pairs, share / NANGIA))
    yield compare_embeddings(models, tests)
    yield [compare_p_values(models["float32"], tests, samples)]


def some_of(items: Sequence[Any], share: float) -> list[Any]:
    """Return a share of the items, at least one in each part, at equal distances: a subset that is like the whole."""
    count = min(len(items), max(PARTS, round(share * len(items))))
    return [items[place] for place in np.linspace(0, len(items), count, endpoint=False).astype(int)]


def effects(models: Models, settings: Sequence[BenchmarkSettings]) -> list[Effect]:
    """Measure whole benchmarks in both number formats and return every final score; counts are left out."""
    found = []
    for chosen in settings:
        scores = [measure(models[dtype], chosen).measurements for dtype in ("float32", "bfloat16")]
        for one, two in zip(*scores, strict=True):
            name = f"{one.metric} ({chosen.protocol})" if isinstance(chosen, CrowsPairsSettings) else one.metric
            if not one.metric.endswith(("/skipped", "/ties")):
                found.append(Effect(name, one.value, two.value))
    return found


def measured_settings(folder: Path) -> list[BenchmarkSettings]:
    """Return the benchmarks whose scores `effects` compares, with the data in a folder."""
    data: dict[str, Any] = {"data": str(folder), "resamples": 1}
    return [
        stereoset.StereoSetSettings(**data),
        CrowsPairsSettings(protocol="meade2022", **data),
        CrowsPairsSettings(protocol="nangia2020", **data),
        seat.SeatSettings(**data),
        WinoBiasSettings(**data),
        LpbsSettings(resamples=1),
    ]


def _load(path: str, dtype: Any) -> LanguageModel:
    """Load the model and run it once, so that the first comparison does not pay for what is set up then."""
    plm = LanguageModel.load(PlmSettings(name="bench", path=path, kind="masked", dtype=dtype, device="cpu"))
    plm.encoder.embed(["A sentence to begin with."])
    return plm


HEADER = (
    f"{'what':24} {'engine':9} {'items':>6} {'published s':>12} {'engine s':>9} {'times faster':>13} "
    f"{'by the clock':>13} {'of float32':>11} {'difference':>11}"
)


def report(results: Sequence[Comparison]) -> str:
    """Return the lines of one comparison: processor seconds, and ratios by processor time and by the clock.

    `of float32` is how many times faster the engine is in bfloat16 than in float32, by processor time.
    """
    lines = []
    for one in results:
        again = f"{results[0].engine[0] / one.engine[0]:.1f}" if one.dtype == "bfloat16" else ""
        lines.append(
            f"{one.what:24} {one.dtype:9} {one.items:6d} {one.published[0]:12.2f} {one.engine[0]:9.2f} "
            f"{one.ratio:13.1f} {one.wall_ratio:13.1f} {again:>11} {one.largest_difference:11.2g}"
        )
    return "\n".join(lines)


def report_effects(found: Sequence[Effect]) -> str:
    """Return the table of final scores in both number formats, and the largest difference of each benchmark."""
    lines = [f"{'score':60} {'float32':>10} {'bfloat16':>10} {'difference':>11}"]
    largest: dict[str, Effect] = {}
    for one in found:
        lines.append(f"{one.metric:60} {one.float32:10.4f} {one.bfloat16:10.4f} {one.difference:+11.4f}")
        family = f"{one.metric.split('/')[0]} {one.metric.rsplit('/', 1)[-1]}"
        if family not in largest or abs(one.difference) > abs(largest[family].difference):
            largest[family] = one
    lines.append("Largest difference of each kind of score:")
    lines += [f"  {family}: {one.difference:+.4f} ({one.metric})" for family, one in largest.items()]
    return "\n".join(lines)


def main() -> None:
    """Compare on the benchmark data in a folder and print the tables; `--json` also writes them to a file."""
    import torch

    parser = argparse.ArgumentParser(prog="python -m bench.benchmarks", description="Engine against loop")
    parser.add_argument("--plm", default="embedded:minilm", help="Hub id, folder or packaged masked model")
    parser.add_argument("--data", default=os.environ.get("FAIRLOOP_BENCHMARK_DATA", "../shared/benchmarks"))
    parser.add_argument(
        "--share", type=share_of_items, default=0.1, help="share of the items; the published way is slow"
    )
    parser.add_argument("--samples", type=int, default=200, help="permutations to time; scaled up to 100,000")
    parser.add_argument("--effects", choices=["all", "none"], default="all", help="bfloat16's effect on final scores")
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    folder = Path(options.data)
    if not folder.is_dir():
        parser.exit(2, f"--data={folder}: no such folder; give the one with crows_pairs, stereoset, seat, winobias\n")
    models = {dtype: _load(options.plm, dtype) for dtype in ("float32", "bfloat16")}
    say = functools.partial(print, flush=True)
    say(
        f"{options.plm}, {torch.get_num_threads()} threads. StereoSet and CrowS-Pairs: {options.share:.0%} of the items"
        f" (nangia2020: {options.share / NANGIA:.1%}); SEAT: all tests, sampled p-values timed on "
        f"{options.samples} of {seat.PUBLISHED_SAMPLES} permutations. Seconds are of processor time.\n{HEADER}"
    )
    results: list[Comparison] = []
    for some in compare_all(models, folder, options.share, options.samples):
        results += some
        say(report(some))
    found = effects(models, measured_settings(folder)) if options.effects == "all" else []
    if found:
        say(f"\nWhat bfloat16 does to every final score of {options.plm}, on all items:\n{report_effects(found)}")
    if options.json:
        from fairloop.files import write_json

        ratios = [vars(one) | {"ratio": one.ratio, "wall_ratio": one.wall_ratio} for one in results]
        write_json(options.json, {"share": options.share, "speed": ratios, "bfloat16": [vars(one) for one in found]})


def share_of_items(text: str) -> float:
    """Read a share from the command line."""
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError("a share is above 0 and at most 1")
    return value


if __name__ == "__main__":
    main()
