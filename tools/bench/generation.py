"""How fast the in-process generator is beside transformers' `generate` and vLLM: `python -m bench.generation`.

Two comparisons for a base and a chat model, alternating in one run, with the same weights, number format, prompts,
sampling settings and batch:

- *tokens per second*: all write exactly the same number of tokens after the same prompts, nothing stops early;
- *accepted sentences per second*: all write a corpus through the same screening. `generate` works in fixed batches
  and waits for the longest row; it stops a row at a line break (`stop_strings`), the nearest it offers to the end of a
  sentence, and so does vLLM. Rejected sentences are asked for again in the next batches.

vLLM takes part where `FAIRLOOP_VLLM_PYTHON`, or else `.venv-engines/bin/python` (`make engines`), is a Python that
has it. It replaces finished rows by itself, and its prefix cache keeps what prompts share; it is emptied before each
repetition.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bench.machine import processor
from fairloop.generation.generator import Generator
from fairloop.generation.in_process import InProcessGenerator
from fairloop.generation.requests import Attempt, Completion, Example, Request, plan_requests
from fairloop.generation.settings import ModelSettings
from fairloop.generation.writer import write_corpus
from fairloop.plm.locate import resolve
from fairloop.seeding import derive

MODELS = {
    "base": ModelSettings(
        name="gemma-3-270m",
        path="embedded:gemma-3-270m",
        style="base",
        temperature=0.8,
        top_k=50,
        top_p=0.95,
        max_new_tokens=48,
    ),
    "chat": ModelSettings(
        name="smollm2-135m-instruct",
        path="embedded:smollm2-135m-instruct",
        style="chat",
        temperature=0.7,
        top_k=50,
        top_p=0.95,
        max_new_tokens=64,
    ),
}


class Endless(InProcessGenerator):
    """The generator, but every text goes on to the token limit."""

    def text_if_done(self, written: list[int]) -> tuple[str, bool] | None:
        """End a text at the limit only."""
        return ("", False) if len(written) == self.settings.max_new_tokens else None


class FixedBatches:
    """transformers' `generate` in fixed batches, as a generator: what a loop without this package would do."""

    def __init__(self, generator: InProcessGenerator) -> None:
        self.generator, self.endless = generator, False
        # After the prompts `generate` hands the head a slice of the hidden states. torch 2.13 multiplies such a slice
        # on the CPU by a copy of the head's weights for every row: 21 GB at batch 64. A contiguous copy spares it that.
        head = generator.model.get_output_embeddings()
        head.register_forward_pre_hook(lambda _, inputs: (inputs[0].contiguous(),))

    def complete(self, queue: deque[Attempt]) -> Iterator[Completion]:
        """Write the asks batch by batch, in their order."""
        while queue:
            batch = [queue.popleft() for _ in range(min(len(queue), self.generator.settings.batch_size))]
            for attempt, written in zip(batch, self._generate(batch), strict=True):
                yield completion(self.generator, attempt, written)

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


def completion(generator: InProcessGenerator, attempt: Attempt, written: list[int]) -> Completion:
    """Return what was written for an attempt up to where the generator would have ended it."""
    text, finished, count = "", False, len(written)
    for count in range(1, len(written) + 1):
        done = generator.text_if_done(written[:count])
        if done is not None:
            text, finished = done
            break
    return Completion(attempt, text, count, finished)


class Vllm:
    """vLLM in a process of its own, as a generator: it is given everything that waits at once."""

    def __init__(self, interpreter: str, generator: InProcessGenerator, *, eager: bool) -> None:
        self.generator, self.endless = generator, False
        self.log = Path(tempfile.gettempdir()) / f"bench-vllm-{generator.settings.name}.log"
        # As many threads as Fairloop has: vLLM binds each to a core, and by default keeps one core free of them.
        own = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_NUM_OF_RESERVED_CPU": "0", "HF_HUB_OFFLINE": "1"}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "PYTHONPATH"))}
        with self.log.open("w") as errors:
            self.process = subprocess.Popen(
                [interpreter, str(Path(__file__).with_name("vllm_worker.py"))],
                env=own | inherited,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self._ask(
            model=str(resolve(generator.settings.path)),
            dtype=str(generator.model.dtype).removeprefix("torch."),
            max_num_seqs=generator.settings.batch_size,
            max_model_len=1024,
            enforce_eager=eager,
            enable_chunked_prefill=False,  # version 0.32 ends on a processor when a prompt with a seed is read in parts
        )

    def __enter__(self) -> "Vllm":
        return self

    def __exit__(self, *_: object) -> None:
        """End vLLM's process, which ends with its input."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait()

    def _ask(self, **what: Any) -> Any:
        print(json.dumps(what), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline() if self.process.stdout else ""
        if not line:
            raise SystemExit(f"vLLM ended with status {self.process.wait()}: see {self.log}")
        return json.loads(line)

    def complete(self, queue: deque[Attempt]) -> Iterator[Completion]:
        """Write all attempts that wait, and then those that have come."""
        self._ask(forget=True)  # a repetition asks again what the last one asked, and a study never does
        settings = self.generator.settings
        sampling = {
            "temperature": settings.temperature,
            "top_k": settings.top_k,
            "top_p": settings.top_p,
            "max_tokens": settings.max_new_tokens,
            **({"ignore_eos": True} if self.endless else {"stop": ["\n"]}),
        }
        while queue:
            batch = list(queue)
            queue.clear()
            written = self._ask(
                prompts=[tokens.ids for tokens in self.generator.tokens_of(batch)],
                seeds=[attempt.seed % 2**31 for attempt in batch],
                sampling=sampling,
            )
            for attempt, ids in zip(batch, written, strict=True):
                yield completion(self.generator, attempt, ids)


def vllm_interpreter() -> str | None:
    """Return an interpreter that has vLLM: `FAIRLOOP_VLLM_PYTHON`, or that of `.venv-engines`; None without one."""
    interpreter = os.environ.get("FAIRLOOP_VLLM_PYTHON", ".venv-engines/bin/python")
    found = "import importlib.util, sys; sys.exit(importlib.util.find_spec('vllm') is None)"
    try:
        return None if subprocess.run([interpreter, "-c", found], check=False).returncode else interpreter
    except OSError:
        return None


@dataclass(frozen=True)
class Race:
    """Speeds of the generators in one unit, one number per repetition; the last one is Fairloop's."""

    unit: str
    speeds: dict[str, list[float]]

    def ratio(self, name: str) -> float:
        """Return the median over repetitions of Fairloop's speed over another's."""
        *_, ours = self.speeds.values()
        return statistics.median(own / other for own, other in zip(ours, self.speeds[name], strict=True))


def bench_requests(sentences: int) -> list[Request]:
    """Plan requests as the recursion study does: six examples, groups of eight, examples from a seed corpus."""
    from fairloop.corpus.seed import seed_corpus
    from fairloop.lexicon.occupations import occupations

    corpus = [Example(row["occupation"], row["text"]) for row in seed_corpus(0.3, 256, 0.2, 0)]
    names = [occupation.name for occupation in occupations()]
    return plan_requests(corpus, names, sentences=sentences, examples=6, group_size=8, seed=0, stage="bench")


def race_tokens(runners: dict[str, Generator], attempts: list[Attempt], repeats: int) -> Race:
    """Race to the same number of tokens for one batch of prompts; prompts included in the time."""
    speeds: dict[str, list[float]] = {name: [] for name in runners}
    for _ in range(repeats):
        for name, runner in runners.items():
            start = time.perf_counter()
            written = sum(done.tokens for done in runner.complete(deque(attempts)))
            speeds[name].append(written / (time.perf_counter() - start))
    return Race("tokens/s", speeds)


def race_sentences(runners: dict[str, Generator], requests: list[Request], repeats: int) -> tuple[Race, list[float]]:
    """Race to a number of accepted sentences; also return the yields."""
    speeds: dict[str, list[float]] = {name: [] for name in runners}
    yields = dict.fromkeys(runners, 0.0)
    for _ in range(repeats):
        for name, runner in runners.items():
            stats = write_corpus(runner, requests, seed=0, stage="bench").stats
            speeds[name].append(stats.sentences_per_second)
            yields[name] = stats.yield_
    return Race("accepted sentences/s", speeds), list(yields.values())


def compare(settings: ModelSettings, options: argparse.Namespace, engine: str | None) -> None:
    """Run both races for a model and print them."""
    generator = InProcessGenerator.load(settings, options.device)
    print(
        f"{settings.path}, {settings.style}, {str(generator.model.dtype).removeprefix('torch.')}, {options.device}, "
        f"batch {settings.batch_size}, temperature {settings.temperature}, top_k {settings.top_k}, "
        f"top_p {settings.top_p}"
    )
    endless = Endless(
        generator.model, generator.tokenizer, settings.model_copy(update={"max_new_tokens": options.tokens})
    )
    attempts = [Attempt.of(request, 0, 0, "bench") for request in bench_requests(settings.batch_size)]
    generate = FixedBatches(generator)
    with ExitStack() as stack:
        others: dict[str, Any] = {"generate": generate}
        if engine is not None:
            others["vLLM"] = stack.enter_context(Vllm(engine, generator, eager=options.vllm_eager))
        for other in others.values():
            other.generator, other.endless = endless, True
        _print(race_tokens({**others, "fairloop": endless}, attempts, options.repeats))
        for other in others.values():
            other.generator, other.endless = generator, False
        race, yields = race_sentences(
            {**others, "fairloop": generator}, bench_requests(options.sentences), max(1, options.repeats - 2)
        )
        _print(race)
        print(
            f"{'yield':<22} " + "   ".join(f"{name} {one:.2f}" for name, one in zip(race.speeds, yields, strict=True))
        )


def main() -> None:
    """Run both races for each model and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=24, help="tokens per row in the first race")
    parser.add_argument("--sentences", type=int, default=256, help="sentences in the second race")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--vllm-eager", action="store_true", help="vLLM compiles nothing: it starts minutes earlier")
    options = parser.parse_args()
    engine = vllm_interpreter() if options.device == "cpu" else None
    print(f"{processor()}, {torch.get_num_threads()} threads; vLLM: {'takes part' if engine else 'is not installed'}")
    for name in options.models:
        compare(MODELS[name].model_copy(update={"batch_size": options.batch_size}), options, engine)


def _print(race: Race) -> None:
    parts = []
    for name, speeds in race.speeds.items():
        ratio = "" if name == "fairloop" else f" (fairloop {race.ratio(name):.1f} times)"
        parts.append(f"{name} {statistics.median(speeds):.2f}{ratio}")
    print(f"{race.unit:<22} " + "   ".join(parts), flush=True)


if __name__ == "__main__":
    main()
