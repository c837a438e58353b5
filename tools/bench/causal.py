"""How much faster causal models are scored than by the published way: `python -m bench.causal`.

StereoSet and CrowS-Pairs, with the packaged causal models. The published way (Meade et al. 2022) takes one sentence at
a time: it runs the model over it, head and softmax at every place, and reads the probability of each token. Where the
tokenizer puts no token before a text, the start token is run alone for the first one: once for StereoSet, and for
every sentence in CrowS-Pairs. The engine takes all of them at once. Timing is as in `bench.benchmarks`.
"""

import argparse
import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.benchmarks import HEADER, Comparison, Models, by_turns, parts, report, share_of_items, some_of
from bench.machine import processor
from fairloop.benchmarks import crows_pairs, stereoset
from fairloop.benchmarks.result import Task
from fairloop.benchmarks.sentence_pairs import SentencePair, pair_scores
from fairloop.plm.model import LanguageModel
from fairloop.plm.scoring import starts_texts
from fairloop.plm.settings import PlmSettings

MODELS = ("embedded:smollm2-135m-instruct", "embedded:gemma-3-270m")
FORMATS = ("float32", "bfloat16")


def sentence_score(plm: LanguageModel, text: str, initial: Callable[[int], float] | None, begin: int = 0) -> float:
    """Return the mean log probability of the tokens that end behind character `begin`, as the published code does.

    Args:
        plm: a causal model.
        text: a sentence, or a context and a sentence.
        initial: the first token's probability behind the start token; None where the tokenizer puts one before it.
        begin: where the scored part begins.
    """
    import torch

    out = plm.tokenizer(text, return_offsets_mapping=True)
    ids = out["input_ids"]
    with torch.no_grad():
        output = torch.softmax(plm.model(torch.tensor([ids])).logits.float(), dim=-1)
    probabilities = [initial(ids[0])] if initial is not None and begin == 0 else []
    for place in range(1, len(ids)):
        if out["offset_mapping"][place][1] > begin:
            probabilities.append(output[0, place - 1, ids[place]].item())
    return float(np.mean(np.log(probabilities)))


def first_token(plm: LanguageModel, *, once: bool) -> Callable[[int], float] | None:
    """Return what looks up a first token's probability, running the start token once or whenever it is asked."""
    import torch

    if starts_texts(plm):
        return None

    def run() -> Any:
        with torch.no_grad():
            return torch.softmax(plm.model(torch.tensor([[plm.start_id]])).logits.float(), dim=-1)

    get = functools.cache(run) if once else run
    return lambda token: float(get()[0, 0, token].item())


def compare_stereoset(models: Models, items: list[stereoset.StereoItem], kind: stereoset.Kind) -> list[Comparison]:
    """Compare both ways of scoring StereoSet's items of one kind; between sentences the association is scored."""
    inter = kind == "intersentence"
    score = stereoset.causal_continuations if inter else stereoset.causal_sentences

    def published(chunk: list[stereoset.StereoItem]) -> np.ndarray:
        plm = models["float32"]
        initial = first_token(plm, once=True)
        return np.array(
            [
                [
                    sentence_score(plm, f"{item.context} {one}", initial, len(item.context))
                    if inter
                    else sentence_score(plm, one, initial)
                    for one in item.sentences
                ]
                for item in chunk
            ]
        )

    def engine(plm: LanguageModel, chunk: list[stereoset.StereoItem]) -> np.ndarray:
        results, _ = score(Task(plm), chunk)
        return np.array([[result.stereotype, result.anti_stereotype, result.unrelated] for result in results])

    engines = {dtype: functools.partial(engine, plm) for dtype, plm in models.items()}
    return by_turns(f"StereoSet {kind}", parts(items), len, published, engines)


def compare_pairs(models: Models, pairs: list[SentencePair]) -> list[Comparison]:
    """Compare both ways of scoring CrowS-Pairs."""

    def published(chunk: list[SentencePair]) -> np.ndarray:
        plm = models["float32"]
        initial = first_token(plm, once=False)
        return np.array([[sentence_score(plm, text, initial) for text in (pair.first, pair.second)] for pair in chunk])

    def engine(plm: LanguageModel, chunk: list[SentencePair]) -> np.ndarray:
        scores, _ = pair_scores(Task(plm), chunk, "meade2022")
        return np.array([scores[pair.item] for pair in chunk])

    engines = {dtype: functools.partial(engine, plm) for dtype, plm in models.items()}
    return by_turns("CrowS-Pairs", parts(pairs), len, published, engines)


def load(path: str, formats: Sequence[str]) -> Models:
    """Load a causal model in some number formats, and run each once."""
    models = {}
    for dtype in formats:
        settings: dict[str, Any] = {"name": "bench", "path": path, "kind": "causal", "dtype": dtype, "device": "cpu"}
        models[dtype] = LanguageModel.load(PlmSettings(**settings))
        sentence_score(models[dtype], "A sentence to begin with.", None)
    return models


def main() -> None:
    """Compare on the benchmark data in a folder and print the table of each model."""
    import torch

    parser = argparse.ArgumentParser(prog="python -m bench.causal", description="Engine against loop")
    parser.add_argument("--plm", nargs="+", default=MODELS, help="Hub ids, folders or packaged causal models")
    parser.add_argument("--data", default=os.environ.get("FAIRLOOP_BENCHMARK_DATA", "../shared/benchmarks"))
    parser.add_argument("--share", type=share_of_items, default=0.05, help="share of the items")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=FORMATS, help="the engine's number formats")
    options = parser.parse_args()
    folder = Path(options.data)
    if not folder.is_dir():
        parser.exit(2, f"--data={folder}: no such folder; give the one with crows_pairs, stereoset\n")
    items = stereoset.read(folder / "stereoset")
    pairs = [SentencePair(pair.item, pair.more, pair.less) for pair in crows_pairs.read(folder / "crows_pairs")]
    print(f"{processor()}, {torch.get_num_threads()} threads, {options.share:.1%} of the items", flush=True)
    for path in options.plm:
        models = load(path, dict.fromkeys(["float32", *options.formats]))
        print(f"{path}\n{HEADER}")
        for kind in ("intrasentence", "intersentence"):
            some = some_of([item for item in items if item.kind == kind], options.share)
            print(report(compare_stereoset(models, some, kind)), flush=True)
        print(report(compare_pairs(models, some_of(pairs, options.share))), flush=True)


if __name__ == "__main__":
    main()
