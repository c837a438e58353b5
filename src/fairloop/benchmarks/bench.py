"""How much faster the scoring engine is than the published way: `python -m fairloop.benchmarks.bench`.

Both ways score the same items with the same model in the same run, by turns, so that a busy machine slows both. The
published way is one forward pass at a time: one masked variant through the whole model and its head, one sentence for
an embedding, a Python loop over permutations. Times are seconds of the processor and of the wall clock; ratios are of
processor time, which other processes on the machine disturb least. The scores of both ways are compared too.
"""

import argparse
import itertools
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fairloop.benchmarks import crows_pairs, seat, stereoset
from fairloop.benchmarks.result import Task
from fairloop.benchmarks.sentence_pairs import Protocol, SentencePair, pair_scores, token_spans
from fairloop.plm.model import LanguageModel
from fairloop.plm.settings import PlmSettings
from fairloop.statistics.exact_permutation import exact_permutation_test


@dataclass(frozen=True)
class Comparison:
    """Seconds of processor and wall-clock time of both ways over the same items, and how far their scores differ."""

    what: str
    items: int
    published: tuple[float, float]
    engine: tuple[float, float]
    largest_difference: float

    @property
    def ratio(self) -> float:
        """Published processor time over the engine's."""
        return self.published[0] / self.engine[0]


def by_turns(
    what: str,
    chunks: Sequence[Any],
    size: Callable[[Any], int],
    published: Callable[[Any], np.ndarray],
    engine: Callable[[Any], np.ndarray],
) -> Comparison:
    """Run both ways over each chunk, the published one first in even turns and second in odd ones."""
    spent = {published: [0.0, 0.0], engine: [0.0, 0.0]}
    difference = 0.0
    for turn, chunk in enumerate(chunks):
        scores = {}
        for way in (published, engine) if turn % 2 == 0 else (engine, published):
            processor, wall = time.process_time(), time.perf_counter()
            scores[way] = way(chunk)
            spent[way][0] += time.process_time() - processor
            spent[way][1] += time.perf_counter() - wall
        difference = max(difference, float(np.abs(scores[published] - scores[engine]).max(initial=0.0)))
    one, two = spent[published], spent[engine]
    return Comparison(what, sum(map(size, chunks)), (one[0], one[1]), (two[0], two[1]), difference)


def parts(items: Sequence[Any], count: int) -> list[list[Any]]:
    """Split items into `count` parts of neighbours, all used."""
    edges = np.linspace(0, len(items), count + 1).astype(int)
    return [list(items[a:b]) for a, b in itertools.pairwise(edges) if b > a]


def compare_pairs(
    slow: LanguageModel, fast: LanguageModel, protocol: Protocol, pairs: list[SentencePair]
) -> Comparison:
    """Compare both ways of scoring CrowS-Pairs; `slow` and `fast` may differ in their number format."""
    import torch

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
            if places[0] and places[1]:
                scores.append([one_score(one, places[0]), one_score(two, places[1])])
        return np.array(scores)

    def engine(chunk: list[SentencePair]) -> np.ndarray:
        scores, _ = pair_scores(Task(fast), chunk, protocol)
        return np.array([scores[pair.item] for pair in chunk if pair.item in scores])

    return by_turns(f"CrowS-Pairs {protocol}", parts(pairs, 4), len, published, engine)


def compare_stereoset(slow: LanguageModel, fast: LanguageModel, items: list[stereoset.StereoItem]) -> Comparison:
    """Compare both ways of scoring StereoSet's intrasentence items."""
    import torch

    def published(chunk: list[stereoset.StereoItem]) -> np.ndarray:
        scores = []
        for item in chunk:
            row = []
            for word in stereoset.fillers(item):
                probabilities = []
                for text, token in stereoset.filler_variants(slow, item.context, word):
                    inputs = slow.tokenizer(text, return_tensors="pt").to(slow.model.device)
                    with torch.no_grad():
                        output = slow.model(**inputs).logits.float().softmax(dim=-1)
                    place = int((inputs["input_ids"][0] == slow.mask_id).nonzero()[0, 0])
                    probabilities.append(output[0, place, token].item())
                row.append(float(np.mean(probabilities)))
            scores.append(row)
        return np.array(scores)

    def engine(chunk: list[stereoset.StereoItem]) -> np.ndarray:
        results, _ = stereoset.masked_fillers(Task(fast), chunk)
        return np.array([[result.stereotype, result.anti_stereotype, result.unrelated] for result in results])

    return by_turns("StereoSet intrasentence", parts(items, 4), len, published, engine)


def compare_embeddings(slow: LanguageModel, fast: LanguageModel, tests: list[seat.SeatTest]) -> Comparison:
    """Compare both ways of embedding the sentences of SEAT's tests: every sentence of every test is asked for."""
    import torch

    def sentences(chunk: list[seat.SeatTest]) -> list[str]:
        return [sentence for test in chunk for part in test.sets.values() for sentence in part]

    def published(chunk: list[seat.SeatTest]) -> np.ndarray:
        vectors = []
        for sentence in sentences(chunk):
            inputs = slow.tokenizer(sentence, return_tensors="pt").to(slow.model.device)
            with torch.no_grad():
                vectors.append(slow.model.base_model(**inputs).last_hidden_state[0].float().mean(dim=0).cpu().numpy())
        return np.array(vectors)

    def engine(chunk: list[seat.SeatTest]) -> np.ndarray:
        return fast.encoder.embed(sentences(chunk), batch_tokens=fast.batch_tokens)

    def size(chunk: list[seat.SeatTest]) -> int:
        return len(sentences(chunk))

    return by_turns("SEAT embeddings", [tests], size, published, engine)


def compare_p_values(plm: LanguageModel, tests: list[seat.SeatTest], samples: int) -> Comparison:
    """Compare 100,000 sampled permutations in a Python loop (timed on `samples`, scaled) with the exact p-value."""
    associations = []
    for test in tests:
        vectors = {name: plm.encoder.embed(part, normalize=True) for name, part in test.sets.items()}
        first, second = (seat.association(vectors[name], vectors["attr1"], vectors["attr2"]) for name in seat.SETS[:2])
        associations.append((first.astype(np.float64), second.astype(np.float64)))
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

    raw = by_turns("SEAT p-values, 100,000 samples against exact", parts(associations, 4), len, published, engine)
    scale = seat.PUBLISHED_SAMPLES / samples
    published_time = raw.published[0] * scale, raw.published[1] * scale
    return Comparison(raw.what, raw.items, published_time, raw.engine, raw.largest_difference)


def compare_all(path: str, folder: Path, items: int, samples: int) -> list[tuple[str, Comparison]]:
    """Run every comparison with the model in float32, and with the engine in bfloat16; (engine's format, result)."""
    dtypes = ("float32", "bfloat16")
    models = {dtype: _load(path, dtype) for dtype in dtypes}
    slow = models["float32"]
    pairs = [
        SentencePair(pair.item, *((pair.more, pair.less) if pair.direction == "stereo" else (pair.less, pair.more)))
        for pair in crows_pairs.read(folder / "crows_pairs")
    ]
    stereo = [item for item in stereoset.read(folder / "stereoset") if item.kind == "intrasentence"]
    tests = seat.read(folder / "seat")
    protocols: tuple[Protocol, ...] = ("meade2022", "nangia2020")
    results = []
    for dtype in dtypes:
        fast = models[dtype]
        results.append((dtype, compare_stereoset(slow, fast, _every(stereo, items))))
        for protocol in protocols:
            some = _every(pairs, items if protocol == "meade2022" else max(4, items // 5))
            results.append((dtype, compare_pairs(slow, fast, protocol, some)))
        results.append((dtype, compare_embeddings(slow, fast, _every(tests, max(4, items // 20)))))
    results.append(("float64", compare_p_values(slow, tests, samples)))
    return results


def _every(items: list[Any], count: int) -> list[Any]:
    """Return about `count` items at equal distances, so that a subset is like the whole."""
    step = max(1, len(items) // count)
    return items[::step][:count]


def _load(path: str, dtype: Any) -> LanguageModel:
    plm = LanguageModel.load(PlmSettings(name="bench", path=path, kind="masked", dtype=dtype, device="cpu"))
    plm.ask([])
    return plm


def report(results: list[tuple[str, Comparison]]) -> str:
    """Return the table that `make bench` prints."""
    head = f"{'what':46} {'engine':9} {'items':>6} {'published s':>12} {'engine s':>9}"
    lines = [f"{head} {'times faster':>12} {'difference':>11}"]
    for dtype, result in results:
        lines.append(
            f"{result.what:46} {dtype:9} {result.items:6d} {result.published[0]:12.2f} {result.engine[0]:9.2f} "
            f"{result.ratio:12.1f} {result.largest_difference:11.2g}"
        )
    return "\n".join(lines)


def main() -> None:
    """Compare on the benchmark data in a folder and print the table; `--json` also writes it to a file."""
    parser = argparse.ArgumentParser(
        prog="python -m fairloop.benchmarks.bench", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--plm", default="embedded:minilm", help="Hub id, folder or packaged masked model")
    parser.add_argument("--data", default=os.environ.get("FAIRLOOP_BENCHMARK_DATA", "../shared/benchmarks"))
    parser.add_argument("--items", type=int, default=200, help="items of each benchmark; the published way is slow")
    parser.add_argument("--samples", type=int, default=2000, help="permutations to time; scaled to 100,000")
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    results = compare_all(options.plm, Path(options.data), options.items, options.samples)
    sys.stdout.write(report(results) + "\n")
    if options.json:
        from fairloop.files import write_json

        write_json(
            options.json, [{"engine": dtype, **vars(result), "ratio": result.ratio} for dtype, result in results]
        )


if __name__ == "__main__":
    main()
