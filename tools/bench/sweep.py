"""How the cost of a finished sweep grows with its cells: `python -m bench.sweep [CELLS …]` (make bench-scale).

Synthetic complete cells are written as the store keeps them, and then, each in a process of its own:

    plan     compose and check every cell of the grid, and name it
    skip     look every cell up in the store: complete, and its files untouched
    lock     take and release every cell's lock, as a worker does that finds it finished
    report   read all cells and write the whole report: tables, figures, page

The steps are in processor seconds of their process (its own and the system's for it), which other work on the machine
does not lengthen; seconds by the clock of all of them are beside. Peak memory is that of the process that plans, skips
and reports. Torch is not imported.
"""

import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from fairloop import composition, console
from fairloop.files import digest_file
from fairloop.measures.measurement import Measurement
from fairloop.seeding import random_generator
from fairloop.sweep.jobs import Job, jobs_of
from fairloop.sweep.plan import Plan
from fairloop.tracking.results import metrics_csv, result_json

SIZES = (10, 100, 1000, 10_000, 100_000)
STRATEGIES = ("none", "prompt", "augment", "contrastive", "finetune")
LEVELS = ("low", "high")
GENERATIONS = 3
METRICS = (
    "rule/net_stereotype_rate", "rule/gendered_share", "rule/net_rate_among_gendered", "rule/male_share",
    "embedding/effect_size", "downstream/bias", "downstream/accuracy", "downstream/tpr_gap", "downstream/flip_rate",
    "diversity/distinct_1", "diversity/distinct_2", "diversity/duplicates", "diversity/mean_length", "generation/yield",
)  # fmt: skip


def grid(cells: int, first: int = 0) -> list[str]:
    """Return the overrides of a sweep of so many cells, a multiple of ten, with seeds from a first one on."""
    kinds = len(LEVELS) * len(STRATEGIES)
    if cells % kinds:
        raise ValueError(f"{cells} cells do not make a grid of {kinds} kinds")
    seeds = f"seed=range({first},{first + cells // kinds})"
    return [f"initial_bias={','.join(LEVELS)}", f"mitigation={','.join(STRATEGIES)}", seeds, "tracking=none"]


def plan(overrides: list[str]) -> list[Job]:
    """Compose, check and name every cell of a sweep."""
    with composition.composer():
        return jobs_of(composition.expand_sweep(overrides, None))


def plan_all(cells: int, runs_dir: str) -> list[Job]:
    """Return every cell of a store of so many, by as many sweeps as one command takes cells of."""
    most = composition.MOST_CELLS
    parts = [(min(most, cells - start), start // (len(LEVELS) * len(STRATEGIES))) for start in range(0, cells, most)]
    return [job for part in parts for job in plan([*grid(*part), f"runs_dir={runs_dir}"])]


def write_cell(job: Job) -> None:
    """Write a complete cell of plausible numbers: without stages, but with everything that is read of it."""
    folder, chance = job.cell.folder, random_generator(job.configuration.seed, "bench", job.cell.key)
    folder.mkdir(parents=True)
    start, slope = job.configuration.initial_bias.level, 0.5
    results: dict[int | None, Any] = {}
    for generation in range(GENERATIONS + 1):
        level = 0.2 + (start - 0.2) * slope**generation
        values = [level + float(chance.normal(0, 0.02)) for _ in METRICS]
        results[generation] = [
            Measurement(metric, value, value - 0.05, value + 0.05, 256)
            for metric, value in zip(METRICS, values, strict=True)
        ]
    (folder / "metrics.csv").write_text(metrics_csv(results))
    (folder / "result.json").write_text(result_json(results))
    (folder / "config.yaml").write_text(yaml.dump(job.cell.config, Dumper=yaml.CSafeDumper, sort_keys=False))
    paths = [folder / name for name in ("metrics.csv", "result.json")]
    seal = {path.name: [digest_file(path), path.stat().st_size, path.stat().st_mtime_ns] for path in paths}
    moment = "2026-01-01T00:00:00+00:00"
    status = {"status": "complete", "study": "recursion", "cell": job.cell.key, "reason": "", "seal": seal}
    (folder / "status.json").write_text(json.dumps({**status, "started": moment, "ended": moment}))


def measure(runs_dir: str, cells: int) -> dict[str, float]:
    """Return the seconds of each step on a store of complete cells, and this process's peak memory in MiB."""
    from rich.console import Console

    from fairloop.report.cli import show_report

    seconds: dict[str, float] = {}
    clock = time.perf_counter()

    @contextmanager
    def timed(step: str) -> Iterator[None]:
        began = time.process_time()
        yield
        seconds[step] = time.process_time() - began
        print(f"{cells} cells: {step} {seconds[step]:.1f} s", file=sys.stderr, flush=True)  # the largest takes long

    with timed("plan"):
        jobs = plan_all(cells, runs_dir)
    with timed("skip"):
        states = Plan.of(jobs)
    assert not states.missing  # noqa: S101 - else this would measure something else
    with timed("lock"):
        for job in jobs:
            with job.cell.working() as unfinished:
                assert not unfinished  # noqa: S101
    with timed("report"):
        show_report(runs_dir, cells=[job.cell.folder for job in jobs], console=Console(file=io.StringIO()))
    seconds["clock"] = time.perf_counter() - clock
    seconds["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    assert "torch" not in sys.modules  # noqa: S101
    return seconds


def main(arguments: list[str]) -> None:
    """Measure stores of the given sizes, or of 10 to 100,000 cells, and print the table."""
    if arguments[:1] == ["--measure"]:
        console.stdout.print(json.dumps(measure(arguments[1], int(arguments[2]))), markup=False, soft_wrap=True)
        return
    console.say(
        f"{'cells':>7} {'plan s':>8} {'skip s':>8} {'lock s':>8} {'report s':>9} {'all, clock':>11} {'peak MiB':>9}"
    )
    for cells in [int(argument) for argument in arguments] or SIZES:
        with tempfile.TemporaryDirectory() as folder:
            for job in plan_all(cells, str(Path(folder) / "runs")):
                write_cell(job)
            command = [sys.executable, "-m", "bench.sweep", "--measure", f"{folder}/runs", str(cells)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        steps = " ".join(f"{found[step]:8.2f}" for step in ("plan", "skip", "lock"))
        console.say(f"{cells:7d} {steps} {found['report']:9.2f} {found['clock']:11.2f} {found['memory']:9.0f}")


if __name__ == "__main__":
    main(sys.argv[1:])
