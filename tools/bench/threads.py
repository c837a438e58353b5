"""How fast the in-process generator is while something else computes: `python -m bench.threads`.

Threads that wait for others spin by default, for milliseconds; Fairloop has them spin for a moment and then sleep.
Processes with the same model take turns, one of each kind and one whose threads sleep at once, first alone and then
beside a load that this program starts: a process that multiplies matrices with as many threads as there are cores, its
own threads spinning. A fair share is half of what a process writes alone. On a machine that is busy anyway, "alone" is
beside that, and a batch can take minutes: with `--layers` the work is, for some seconds at a time, the matrix products
of a small model's layers instead.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from bench.machine import processor
from fairloop.generation.requests import Attempt
from fairloop.generation.settings import ModelSettings
from fairloop.sweep.resources import cores

#: What libgomp does without a policy is 300,000 turns of a loop, some three milliseconds.
SPINNING = {"GOMP_SPINCOUNT": "300000", "KMP_BLOCKTIME": "200"}
#: `fairloop` sets what it likes best where nothing is set.
WAYS = {"spin": SPINNING, "sleep at once": {"OMP_WAIT_POLICY": "PASSIVE"}, "fairloop": {}}
SITUATIONS = ("alone", "beside a load")
MODEL = ModelSettings(
    name="bench", path="embedded:smollm2-135m-instruct", style="chat", temperature=0.7, max_new_tokens=48
)

Speeds = dict[str, dict[str, list[float]]]  # tokens per second by situation and way


def work(batch_size: int, tokens: int) -> None:
    """Write a batch for every line of the standard input, and print the tokens per second of each."""
    from bench.generation import Endless, bench_requests

    settings = MODEL.model_copy(update={"batch_size": batch_size, "max_new_tokens": tokens})
    generator = Endless.load(settings)
    attempts = [Attempt.of(request, 0, 0, "bench") for request in bench_requests(batch_size)]
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        written = sum(done.tokens for done in generator.complete(deque(attempts)))
        print(written / (time.perf_counter() - start), flush=True)


def work_on_layers(seconds: float = 4.0) -> None:
    """Compute layers of SmolLM2's width for 64 tokens at a time, as `work` does batches; print tokens per second."""
    import torch

    tokens, layers = 64, 30
    states = torch.randn(tokens, 576).bfloat16()
    wide, narrow = torch.randn(1536, 576).bfloat16(), torch.randn(576, 1536).bfloat16()

    @torch.inference_mode()
    def step() -> None:
        hidden = states
        for _ in range(layers):
            inner = torch.nn.functional.silu(torch.nn.functional.linear(hidden, wide))
            hidden = torch.nn.functional.rms_norm(torch.nn.functional.linear(inner, narrow), (576,))

    print("ready", flush=True)
    for _ in sys.stdin:
        start, steps = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            step()
            steps += 1
        print(steps * tokens / (time.perf_counter() - start), flush=True)


def burden(threads: int) -> None:
    """Multiply matrices without end."""
    import torch

    torch.set_num_threads(threads)
    matrix = torch.randn(512, 512)
    print("ready", flush=True)
    while True:
        torch.mm(matrix, matrix)


@contextmanager
def started(*options: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Start this program in another role, and end it with the block."""
    names = ("OMP_WAIT_POLICY", *SPINNING)
    kept = {name: value for name, value in os.environ.items() if name not in names}
    command = [sys.executable, "-m", "bench.threads", *options]
    process = subprocess.Popen(
        command, env=kept | environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        _answer(process)
        yield process
    finally:
        process.kill()
        process.wait()


def _answer(process: subprocess.Popen[str]) -> str:
    line = process.stdout.readline() if process.stdout else ""
    if not line:
        raise SystemExit(f"{process.args!r} ended with status {process.wait()}")
    return line


def speed(process: subprocess.Popen[str]) -> float:
    """Have a worker write one batch; return its tokens per second."""
    print(file=process.stdin, flush=True)
    return float(_answer(process))


def race(sizes: Sequence[str], repeats: int) -> Speeds:
    """Measure all ways by turns, alone and beside a load; `sizes` are a worker's options."""
    found: Speeds = {situation: {way: [] for way in WAYS} for situation in SITUATIONS}
    with ExitStack() as stack:
        workers = {
            way: stack.enter_context(started("--worker", *sizes, **variables)) for way, variables in WAYS.items()
        }
        for worker in workers.values():
            speed(worker)  # what is set up once is not measured
        for _ in range(repeats):
            for way, worker in workers.items():
                found["alone"][way].append(speed(worker))
            with started("--load", **SPINNING):
                for way, worker in workers.items():
                    found["beside a load"][way].append(speed(worker))
    return found


def report(found: Speeds) -> str:
    """Return the table: medians, and medians of the ratios of neighbours."""
    lines = [f"{'tokens/s':24} {SITUATIONS[0]:>14} {SITUATIONS[1]:>14} {'share kept':>11}"]
    for way in WAYS:
        alone, beside = (found[situation][way] for situation in SITUATIONS)
        lines.append(
            f"{way:24} {statistics.median(alone):14.1f} {statistics.median(beside):14.1f} {_ratio(beside, alone):11.2f}"
        )
    for way in list(WAYS)[:-1]:
        ratios = [_ratio(found[situation]["fairloop"], found[situation][way]) for situation in SITUATIONS]
        lines.append(f"{f'fairloop over {way}':24} {ratios[0]:14.2f} {ratios[1]:14.2f}")
    return "\n".join(lines)


def _ratio(ours: list[float], theirs: list[float]) -> float:
    return statistics.median(one / other for one, other in zip(ours, theirs, strict=True))


def main() -> None:
    """Measure and print the table, or play one of its parts."""
    parser = argparse.ArgumentParser(prog="python -m bench.threads", description="Threads that wait, on a busy machine")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=8, help="tokens per row")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--layers", action="store_true", help="products of layers in place of a model that writes")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--load", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker and options.layers:
        work_on_layers()
    elif options.worker:
        work(options.batch_size, options.tokens)
    elif options.load:
        burden(cores())
    else:
        what = "layers of 576 by 1536" if options.layers else f"{MODEL.path}, batch {options.batch_size}"
        average = ", ".join(f"{load:.1f}" for load in os.getloadavg())
        print(f"{what}, {processor()}; load average before: {average}", flush=True)
        sizes = ["--batch-size", str(options.batch_size), "--tokens", str(options.tokens)]
        print(report(race([*sizes, *(["--layers"] if options.layers else [])], options.repeats)))


if __name__ == "__main__":
    main()
