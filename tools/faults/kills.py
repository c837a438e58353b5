"""SIGKILL at random moments of real commands: the final bytes must be those of an undisturbed run.

    PYTHONPATH=tools python -m faults.kills --kills 100 --out experiments/reliability/kills.csv

Recursion with both packaged generators, Fair-Gender, and a benchmark, each in one process and under joblib, where every
second kill takes one worker first and leaves the launcher alive for a random while. Two stores, on two file systems
where there are two: the killed store of joblib is in memory, and the store that it is compared with on disk. A command
that comes to its end before its kill has its results compared as well, and is begun anew.

Each command is forked off this process, which has imported what a study imports: so kills fall into the work, and not
into the imports, and a hundred of them take an hour of one core. Workers of joblib are processes of their own.

A row that `--out` has is not tried again, so that the command may itself be killed; `--log` gets a line for each kill.
"""

import argparse
import csv
import hashlib
import os
import random
import runpy
import shutil
import signal
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from importlib import import_module
from pathlib import Path

LOG = "command.log"
IMPORTED = (
    "fairloop.app",
    "fairloop.studies.runner",
    "fairloop.report.cli",
    "torch",
    "transformers",
    "matplotlib.pyplot",
)
SMALL = ["tracking=none", "trainer.threads=1", "seed=0,1"]
TINY = [
    "study.sentences=4", "study.prompt_group=4", "study.examples=4", "study.resamples=100",
    "study.metrics=[rule_based,embedding,diversity]",
]  # fmt: skip
STUDIES = {
    "recursion, Gemma 3 270M": [*TINY, "study.generations=2", "mitigation=augment"],
    "recursion, SmolLM2 135M Instruct": ["model=smollm2_135m_instruct", *TINY, "study.generations=1"],
    "Fair-Gender, minilm": [
        "study=fair_gender", "plm=minilm", "ablation=template", "debias.pairs=16", "debias.steps=8",
        "debias.early_stopping.every=4", "debias.screen.fluency=none", "study.benchmarks=[lpbs]", "study.resamples=100",
        "trainer.checkpoint_every_steps=2",
    ],
    "evaluate, lpbs and perplexity of minilm": ["study=evaluate", "plm=minilm", "benchmark=lpbs,perplexity"],
}  # fmt: skip
LAUNCHERS = {"in process": [], "joblib": ["hydra/launcher=fairloop_joblib", "hydra.launcher.n_jobs=2"]}

MOMENT = 0.4
"""A kill comes within this share of the time of an undisturbed run: the next command goes on, and so gets further."""


@dataclass
class Row:
    """What came of one study under one launcher."""

    study: str
    launcher: str
    file_system: str
    kills: int
    of_workers: int
    cells: int
    files: int
    differing: int
    stores: int
    """Whole stores that were compared; `files` and `differing` count over all of them."""


def main() -> int:
    """Kill, finish, compare; the exit status is 1 if a single file differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="kills in all (100)")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments (0)")
    parser.add_argument("--out", type=Path, default=Path("experiments/reliability/kills.csv"))
    parser.add_argument("--log", type=Path, default=Path(os.devnull), help="a line for each kill and each comparison")
    parser.add_argument("--only", default="", help="only studies and launchers with this in `STUDY, LAUNCHER`")
    options = parser.parse_args()
    cases = [(study, launcher) for study in STUDIES for launcher in LAUNCHERS]
    rows = _kept(options.out)
    for name in IMPORTED:
        import_module(name)
    for number, (study, launcher) in enumerate(cases):
        kills = options.kills * (number + 1) // len(cases) - options.kills * number // len(cases)
        wanted = options.only in f"{study}, {launcher}"
        if wanted and not any((row.study, row.launcher) == (study, launcher) for row in rows):
            moments = random.Random(f"{options.seed} {study} {launcher}")
            rows.append(try_one(study, launcher, kills, moments, options.log))
            print(*asdict(rows[-1]).values(), sep=", ", flush=True)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        with options.out.open("w", newline="") as file:
            writer = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
            writer.writeheader()
            writer.writerows(map(asdict, rows))
    return int(any(row.differing for row in rows))


def _kept(out: Path) -> list[Row]:
    """Return the rows that an earlier start has written."""
    read = csv.DictReader(out.read_text().splitlines()) if out.exists() else []
    return [Row(**{field.name: field.type(row[field.name]) for field in fields(Row)}) for row in read]


def try_one(study: str, launcher: str, kills: int, moments: random.Random, log: Path) -> Row:
    """Run a study undisturbed, then once more with kills, in a store on memory where that is another file system."""
    memory = Path("/dev/shm")
    apart = memory.is_dir() and launcher == "joblib"
    with tempfile.TemporaryDirectory() as disk, tempfile.TemporaryDirectory(dir=memory if apart else None) as other:
        command = ["-m", *SMALL, *STUDIES[study], *LAUNCHERS[launcher]]
        began = time.monotonic()
        finish(command, Path(disk))
        whole = time.monotonic() - began
        row = Row(study, launcher, "memory" if apart else "disk", 0, 0, len(_cells(Path(disk))), 0, 0, 0)
        _note(log, f"{study}, {launcher}: undisturbed in {whole:.0f} s, {row.cells} cells")
        while row.kills < kills:
            after = moments.uniform(0.5, max(1.0, MOMENT * whole))
            grace = moments.uniform(0.5, max(1.0, MOMENT * whole))
            killed = kill_once(command, Path(other), after, grace, moments if row.kills % 2 else None)
            what = " and ".join(killed) or "finished"
            _note(log, f"{study}, {launcher}: after {after:.1f} s: {what}, {len(_cells(Path(other)))} cells whole")
            row.kills += len(killed)
            row.of_workers += killed.count("worker")
            if not killed:
                compare(row, Path(disk), Path(other), log)
                shutil.rmtree(Path(other) / "runs")  # begun anew until all kills are spent
        finish(command, Path(other))
        compare(row, Path(disk), Path(other), log)
        return row


def compare(row: Row, undisturbed: Path, killed: Path, log: Path) -> None:
    """Add to `row` the files of a store that came to its end, and those that are not what they should be."""
    expected, found = results(undisturbed), results(killed)
    names = expected.keys() | found.keys()
    differing = sorted(name for name in names if expected.get(name) != found.get(name))
    row.stores += 1
    row.files += len(names)
    row.differing += len(differing)
    _note(log, f"{row.study}, {row.launcher}: {len(names)} files compared, differing: {differing}")


def _cells(folder: Path) -> list[Path]:
    return list(folder.glob("runs/*/*/result.json"))


def _note(log: Path, text: str) -> None:
    with log.open("a") as file:
        file.write(f"{time.strftime('%H:%M:%S')} {text}\n")


def finish(words: list[str], folder: Path) -> None:
    """Run a command to its end."""
    process = start(words, folder)
    status = wait(process, 3600)
    if status != 0:
        raise SystemExit(f"fairloop {' '.join(words)} ended with {status}: {(folder / LOG).read_text()[-2000:]}")


def start(words: list[str], folder: Path) -> int:
    """Start `python -m fairloop` in a process that leads its own group; return its number."""
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        os.setsid()
        os.chdir(folder)
        nowhere, log = os.open(os.devnull, os.O_RDONLY), os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for number, stream in enumerate((nowhere, log, log)):
            os.dup2(stream, number)
        sys.argv[1:] = words
        runpy.run_module("fairloop", run_name="__main__", alter_sys=True)
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    finally:
        shut_down_workers()
        sys.stdout.flush()
        os._exit(status)


def shut_down_workers() -> None:
    """Do what the end of a process does for joblib's workers; `os._exit` would leave them."""
    from joblib.externals.loky import reusable_executor

    if reusable_executor._executor is not None:
        reusable_executor._executor.shutdown(wait=True, kill_workers=True)


def wait(process: int, seconds: float) -> int | None:
    """Return the exit status of a process, as `subprocess` has it; None if it has not come to its end in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    return None


def kill_once(words: list[str], folder: Path, after: float, grace: float, moments: random.Random | None) -> list[str]:
    """Start a command and kill it.

    Args:
        words: the command.
        folder: where it runs.
        after: seconds before it is killed.
        grace: seconds that a command has to go on whose worker was killed, before it is killed itself.
        moments: chooses the worker that is killed; None: the whole command is.

    Returns:
        What was killed, `worker` or `all`; nothing where the command was faster.
    """
    process = start(words, folder)
    status = wait(process, after)
    if status is not None:
        if status:
            raise SystemExit(f"fairloop {' '.join(words)} ended with {status}: {(folder / LOG).read_text()[-2000:]}")
        return []
    workers = [pid for pid in children(process) if "popen_loky" in _command(pid)] if moments else []
    killed = []
    if workers:
        os.kill(moments.choice(workers), signal.SIGKILL)
        killed.append("worker")
        status = wait(process, grace)  # the launcher notices, and goes on with what is left
    with suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)
    if status is None:
        os.waitpid(process, 0)
        killed.append("all")
    return killed


def children(parent: int) -> list[int]:
    """Return the processes whose parent is `parent` (Linux)."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[1]) == parent:
                found.append(int(stat.parent.name))
    return found


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def results(folder: Path) -> dict[str, str]:
    """Return the checksum of everything that a cell's result consists of: what says times and paths is left out."""
    left_out = {"stage.json", "status.json", "environment.json", "config.yaml", ".lock", "lock"}
    kept = [path for path in sorted(folder.glob("runs/*/*/**/*")) if path.is_file() and path.name not in left_out]
    kept = [
        path for path in kept if not path.relative_to(folder).parts[1].startswith(".") and "report" not in path.parts
    ]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in kept}


if __name__ == "__main__":
    sys.exit(main())
