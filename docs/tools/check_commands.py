"""Run the documents' commands, as far as a processor and the packaged models go; validate the others.

`make docs-check` runs it. A command is run, in a scratch folder and with small numbers appended, if all its models are
packaged, its benchmarks need no downloaded data and it trains on the processor. Of a sweep of more than a few cells, or
of cells that are made small in different ways, one is run. What is validated only is listed with the reason.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from commands import Command, Plan, commands_in, documents, named_files, plan, problem

from fairloop.benchmarks.registry import benchmark
from fairloop.config import Configuration
from fairloop.generation.server_settings import ServerSettings

MOST_CELLS = 3
"""A sweep of more cells is run for one only."""

RAN, VALIDATED, FAILED = "ran", "validated", "FAILED"

LAUNCHERS = {"BasicLauncher", "JoblibLauncher", "LocalLauncher", "RayLauncher"}
"""Those that start jobs on this machine."""
SMALL = {
    "recursion": {
        "study.sentences": 16,
        "study.generations": 1,
        "study.examples": 3,
        "study.prompt_group": 4,
        "study.resamples": 100,
    },
    "evaluate": {"benchmark.resamples": 100},
    "metric_calibration": {
        "study.levels": "[0,0.25,0.5]",
        "study.sizes": "[100]",
        "study.replicates": "[2]",
        "study.augment_rates": "[]",
    },
    "fair_gender": {"study.resamples": 100, "study.benchmarks": "[perplexity]"},
}
SMALL_METHOD = {
    "pairs": 24,
    "examples": 2,
    "counterpart_examples": 3,
    "attempts": 3,
    "steps": 2,
    "batch_size": 4,
    "neighbours": 2,
    "tolerance": 100,
    "classifiers": 2,
    "beam": 2,
    "prompt_length": 1,
    "candidates": 20,
    "gendered_words": 2,
}


@dataclass(frozen=True)
class Trial:
    """What is done with a command: run with these words, or not run, for a reason."""

    words: tuple[str, ...] = ()
    reason: str = ""


def trial(command: Command, folder: Path) -> Trial:
    """Decide whether a command is run in a folder of runs, and how."""
    program, *arguments = command.words
    if command.marker:
        return Trial(reason=command.reason)
    if command.answer:
        return Trial(reason="an example of a mistake: its answer was compared")
    if program in ("fairloop-report", "fairloop-pairs"):
        return _on_runs(program, arguments, folder)
    if program == "fairloop":
        return _small(plan(arguments), arguments)
    return Trial(reason="installs, downloads, develops or measures time")


def _small(planned: Plan, arguments: Sequence[str]) -> Trial:
    """Return a `fairloop` command with small numbers, or what it needs that is not here."""
    if planned.question:
        return Trial(tuple(arguments))
    if planned.launcher not in LAUNCHERS or any("address=" in line for line in arguments):
        return Trial(reason=f"needs what {planned.launcher} starts jobs on")
    if named_files(arguments):
        return Trial(reason="reads a file of yours")
    for cell in planned.cells:
        if lacking := _lacking(cell):
            return Trial(reason=f"needs {lacking}")
    reductions = [_reductions(cell) for cell in planned.cells]
    alike = all(one.keys() == reductions[0].keys() for one in reductions)
    if len(planned.lines) <= MOST_CELLS and alike:
        chosen, common = list(arguments), reductions[0]
    else:  # one cell, of those that can be made small the first
        number = max(range(len(reductions)), key=lambda n: (len(reductions[n]), -n))
        chosen, common = [*planned.lines[number], "hydra.mode=RUN"], reductions[number]
    if any(line.startswith("hydra/sweeper=") for line in arguments):
        common["hydra.sweeper.n_trials"] = 2
    if any(line.startswith("objective=") for line in arguments):
        common.pop("study.benchmarks", None)
    if not any(line.startswith("tracking") for line in arguments):
        common["tracking.mode"] = "none"
    return Trial((*chosen, *(f"{key}={value}" for key, value in common.items())))


def _lacking(cell: Configuration) -> str:
    """Return what a cell needs beyond a processor and the packages; empty for nothing."""
    for key, (path, _) in cell.models.items():
        if not path.startswith("embedded:"):
            return f"{key}={path}"
    if cell.generates and isinstance(cell.model, ServerSettings):
        return f"a server at {cell.model.url}"
    if cell.trainer.accelerator == "gpu" or cell.trainer.nodes > 1:
        return f"trainer={cell.trainer.name}"
    if cell.study.name == "evaluate" and benchmark(cell.benchmark.name).dataset is not None:
        return f"the data of {cell.benchmark.name}"
    return ""


def _reductions(cell: Configuration) -> dict[str, object]:
    """Return the overrides that make a cell small."""
    chosen: dict[str, object] = {**SMALL[cell.study.name], "trainer.threads": 1}
    if cell.study.name == "fair_gender":
        fields = type(cell.debias).model_fields
        chosen |= {f"debias.{key}": value for key, value in SMALL_METHOD.items() if key in fields}
        if "alignment" in fields:
            chosen["debias.alignment.rank"] = 1_000_000
    return chosen


def _on_runs(program: str, arguments: Sequence[str], folder: Path) -> Trial:
    """Return a command on what was run before, a cell that exists in the place of the documented one."""
    words = [program]
    for place, word in enumerate(arguments):
        if "<cell>" in word:
            found = sorted(folder.glob(word.replace("<cell>", "*")))
            if not found:
                return Trial(reason=f"no {word} was run")
            word = str(found[0].relative_to(folder))
        elif place and arguments[place - 1] == "--cell" and not list(folder.glob(f"{words[1]}/*/{word}*")):
            cells = sorted(path.parent.name for path in folder.glob(f"{words[1]}/*/*/status.json"))
            word = cells[0] if cells else word
        words.append(word)
    if not all((folder / word).exists() for word in words[1:2]):
        return Trial(reason=f"no {words[1]} was run")
    return Trial(tuple(words))


def run(words: Sequence[str], folder: Path, seconds: float) -> str:
    """Run a command in a folder; return what went wrong, or nothing."""
    program = [sys.executable, "-m", "fairloop"]
    if words and words[0] in ("fairloop-report", "fairloop-pairs"):
        module = {"fairloop-report": "cli", "fairloop-pairs": "pairs.command"}[words[0]]
        program = [sys.executable, "-c", f"from fairloop.report.{module} import main; main()"]
        words = words[1:]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
    with contextlib.suppress(subprocess.TimeoutExpired):
        done = subprocess.run(
            [*program, *words],
            cwd=folder,
            env=environment | {"HF_HUB_OFFLINE": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
        )
        last = (done.stderr.strip().splitlines() or ["no word"])[-1]
        return "" if done.returncode == 0 else f"status {done.returncode}: {last}"
    return f"not done after {seconds:.0f} seconds"


def main() -> int:
    """Check every command and print what was done with it; return the exit status."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, help="documents (default: all)")
    parser.add_argument("--validate", action="store_true", help="run nothing")
    parser.add_argument("--timeout", type=float, default=600, help="seconds for one command")
    options = parser.parse_args()
    chosen = [command for path in options.files or documents() for command in commands_in(path.absolute())]
    counts = Counter[str]()
    with tempfile.TemporaryDirectory() as scratch:
        check = Check(Path(scratch), options.timeout, validate_only=options.validate)
        for command in chosen:
            begun = time.monotonic()
            what, note = check.outcome(command)
            counts[what] += 1
            print(f"{what:<9} {time.monotonic() - begun:5.0f} s  {command}", flush=True)
            if note:
                print(f"{'':19}{note}", flush=True)
    print(", ".join(f"{counts[what]} {what}" for what in (RAN, VALIDATED, FAILED)))
    return 1 if counts[FAILED] else 0


class Check:
    """Validates commands and runs what can be run, each once, all in one folder."""

    def __init__(self, folder: Path, seconds: float, *, validate_only: bool) -> None:
        self.folder, self.seconds, self.validate_only = folder, seconds, validate_only
        self._done: dict[tuple[str, ...], str] = {}

    def outcome(self, command: Command) -> tuple[str, str]:
        """Return what was done with a command, and how it was run, why it was not, or what is wrong."""
        if wrong := problem(command):
            return FAILED, wrong
        if self.validate_only:
            return VALIDATED, command.reason
        chosen = trial(command, self.folder)
        if chosen.reason:
            return VALIDATED, chosen.reason
        if chosen.words not in self._done:
            self._done[chosen.words] = run(chosen.words, self.folder, self.seconds)
        wrong = self._done[chosen.words]
        return (FAILED, wrong) if wrong else (RAN, shorter(chosen.words))


def shorter(words: Sequence[str]) -> str:
    """Return words as one line of bounded length."""
    line = " ".join(words)
    return line if len(line) <= 160 else f"{line[:157]}..."


if __name__ == "__main__":
    sys.exit(main())
