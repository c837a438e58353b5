"""How fast the in-process generator is beside transformers' `generate`: `python -m bench.generation`.

Two comparisons, alternating in one run, with the same weights, number format, prompts, sampling settings and batch:

- *tokens per second*: both write exactly the same number of tokens after the same prompts, nothing stops early;
- *accepted sentences per second*: both write a corpus through the same screening. `generate` works in fixed batches
  and waits for the longest row; it stops a row at a line break (`stop_strings`), the nearest it offers to the end of a
  sentence. Rejected sentences are asked for again in its next batches.
"""

import argparse
import statistics
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from fairloop.generation.generator import Generator
from fairloop.generation.in_process import InProcessGenerator
from fairloop.generation.requests import Attempt, Completion, Example, Request, plan_requests
from fairloop.generation.settings import ModelSettings
from fairloop.generation.writer import write_corpus
from fairloop.seeding import derive

MODEL = ModelSettings(
    name="gemma-3-270m", path="embedded:gemma-3-270m", style="base", temperature=0.8, top_k=50, top_p=0.95
)


class Endless(InProcessGenerator):
    """The generator, but every text goes on to the token limit."""

    def text_if_done(self, written: list[int]) -> tuple[str, bool] | None:
        """End a text at the limit only."""
        return ("", False) if len(written) == self.settings.max_new_tokens else None


class FixedBatches:
    """transformers' `generate` in fixed batches, as a generator: what a loop without this package would do."""

    def __init__(self, generator: InProcessGenerator, *, endless: bool = False) -> None:
        self.generator, self.endless = generator, endless
        # After the prompts `generate` hands the head a slice of the hidden states. torch 2.13 multiplies such a slice
        # on the CPU by a copy of the head's weights for every row: 21 GB at batch 64. A contiguous copy spares it that.
        head = generator.model.get_output_embeddings()
        head.register_forward_pre_hook(lambda _, inputs: (inputs[0].contiguous(),))

    def complete(self, queue: deque[Attempt]) -> Iterator[Completion]:
        """Write the asks batch by batch, in their order."""
        while queue:
            batch = [queue.popleft() for _ in range(min(len(queue), self.generator.settings.batch_size))]
            for attempt, written in zip(batch, self._generate(batch), strict=True):
                yield self._completion(attempt, written)

    def _completion(self, attempt: Attempt, written: list[int]) -> Completion:
        text, finished, count = "", False, len(written)
        for count in range(1, len(written) + 1):
            done = self.generator.text_if_done(written[:count])
            if done is not None:
                text, finished = done
                break
        return Completion(attempt, text, count, finished)

    def _generate(self, batch: list[Attempt]) -> list[list[int]]:
        settings, tokenizer = self.generator.settings, self.generator.tokenizer
        prompts = [list(tokens.ids) for tokens in self.generator.tokens_of(batch)]
        longest = max(map(len, prompts))
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
        ids = torch.tensor([[pad] * (longest - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        stop: dict[str, Any] = {} if self.endless else {"stop_strings": ["\n"], "tokenizer": tokenizer}
        config = self.generator.model.generation_config
        ends = config.eos_token_id
        # Forbidding the end of the text by `min_new_tokens` would cost `generate` time at every step.
        config.eos_token_id = None if self.endless else ends
        torch.manual_seed(derive(batch[0].seed, "generate"))
        device = self.generator.model.device
        try:
            output = self.generator.model.generate(
                ids.to(device),
                attention_mask=mask.to(device),
                do_sample=True,
                temperature=settings.temperature,
                top_k=settings.top_k,
                top_p=settings.top_p,
                max_new_tokens=settings.max_new_tokens,
                pad_token_id=pad,
                **stop,
            )
        finally:
            config.eos_token_id = ends
        return [row[longest:] for row in output.tolist()]


@dataclass(frozen=True)
class Race:
    """Speeds of both generators in one unit, one number per repetition."""

    unit: str
    generate: list[float]
    project: list[float]

    @property
    def ratio(self) -> float:
        """Median of the ratios of neighbouring repetitions."""
        return statistics.median(ours / theirs for ours, theirs in zip(self.project, self.generate, strict=True))


def bench_requests(sentences: int) -> list[Request]:
    """Plan requests as the recursion study does: six examples, groups of eight, examples from a seed corpus."""
    from fairloop.corpus.seed import seed_corpus
    from fairloop.lexicon.occupations import occupations

    corpus = [Example(row["occupation"], row["text"]) for row in seed_corpus(0.3, 256, 0.2, 0)]
    names = [occupation.name for occupation in occupations()]
    return plan_requests(corpus, names, sentences=sentences, examples=6, group_size=8, seed=0, stage="bench")


def race_tokens(generator: InProcessGenerator, tokens: int, repeats: int) -> Race:
    """Race to the same number of tokens for one batch of prompts; prompts included in the time."""
    settings = generator.settings.model_copy(update={"max_new_tokens": tokens})
    ours = Endless(generator.model, generator.tokenizer, settings)
    theirs = FixedBatches(ours, endless=True)
    requests = bench_requests(settings.batch_size)
    attempts = [Attempt.of(request, 0, 0, "bench") for request in requests]
    speeds: tuple[list[float], list[float]] = ([], [])
    runners: tuple[Generator, Generator] = (theirs, ours)
    for _ in range(repeats):
        for speed, runner in zip(speeds, runners, strict=True):
            start = time.perf_counter()
            written = sum(done.tokens for done in runner.complete(deque(attempts)))
            speed.append(written / (time.perf_counter() - start))
    return Race("tokens/s", *speeds)


def race_sentences(generator: InProcessGenerator, sentences: int, repeats: int) -> tuple[Race, float, float]:
    """Race to a number of accepted sentences; also return both yields (`generate` first)."""
    requests = bench_requests(sentences)
    runners: tuple[Generator, Generator] = (FixedBatches(generator), generator)
    speeds: tuple[list[float], list[float]] = ([], [])
    yields = [0.0, 0.0]
    for _ in range(repeats):
        for index, runner in enumerate(runners):
            stats = write_corpus(runner, requests, seed=0, stage="bench").stats
            speeds[index].append(stats.sentences_per_second)
            yields[index] = stats.yield_
    return Race("accepted sentences/s", *speeds), yields[0], yields[1]


def main() -> None:
    """Run both races and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=24, help="tokens per row in the first race")
    parser.add_argument("--sentences", type=int, default=256, help="sentences in the second race")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    generator = InProcessGenerator.load(MODEL.model_copy(update={"batch_size": options.batch_size}), options.device)
    print(
        f"{MODEL.path}, {str(generator.model.dtype).removeprefix('torch.')}, {options.device}, "
        f"{torch.get_num_threads()} threads, batch {options.batch_size}, top_k {MODEL.top_k}, top_p {MODEL.top_p}"
    )
    tokens = race_tokens(generator, options.tokens, options.repeats)
    _print(tokens)
    sentences, theirs, ours = race_sentences(generator, options.sentences, max(1, options.repeats - 2))
    _print(sentences)
    print(f"yield: generate {theirs:.2f}, fairloop {ours:.2f}")


def _print(race: Race) -> None:
    theirs, ours = statistics.median(race.generate), statistics.median(race.project)
    print(f"{race.unit:<22} generate {theirs:9.2f}   fairloop {ours:9.2f}   ratio {race.ratio:5.2f}", flush=True)


if __name__ == "__main__":
    main()
