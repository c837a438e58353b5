"""SIGKILL at random moments of real commands: the final bytes must be those of an undisturbed run.

    PYTHONPATH=tools python -m faults.kills --kills 100 --out experiments/reliability/kills.csv

Recursion with both packaged generators, Fair-Gender, and a benchmark, each in one process and under joblib, where every
second kill takes one worker and leaves the launcher alive. Two stores, on two file systems where there are two.
"""

import argparse
import csv
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

SMALL = ["tracking=none", "trainer.threads=1", "seed=0,1"]
TINY = ["study.sentences=8", "study.generations=2", "study.prompt_group=4", "study.examples=4", "study.resamples=100"]
STUDIES = {
    "recursion, Gemma 3 270M": [*TINY, "mitigation=augment"],
    "recursion, SmolLM2 135M Instruct": ["model=smollm2_135m_instruct", *TINY],
    "Fair-Gender, minilm": [
        "study=fair_gender", "plm=minilm", "ablation=template", "debias.pairs=16", "debias.steps=8",
        "debias.early_stopping.every=4", "debias.screen.fluency=none", "study.benchmarks=[lpbs]", "study.resamples=100",
        "trainer.checkpoint_every_steps=2",
    ],
    "evaluate, lpbs and perplexity of minilm": ["study=evaluate", "plm=minilm", "benchmark=lpbs,perplexity"],
}  # fmt: skip
LAUNCHERS = {"in process": [], "joblib": ["hydra/launcher=fairloop_joblib", "hydra.launcher.n_jobs=2"]}


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


def main() -> int:
    """Kill, finish, compare; the exit status is 1 if a single file differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="kills in all (100)")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments (0)")
    parser.add_argument("--out", type=Path, default=Path("experiments/reliability/kills.csv"))
    options = parser.parse_args()
    cases = [(study, launcher) for study in STUDIES for launcher in LAUNCHERS]
    rows = []
    for number, (study, launcher) in enumerate(cases):
        kills = options.kills * (number + 1) // len(cases) - options.kills * number // len(cases)
        row = try_one(study, launcher, kills, random.Random(f"{options.seed} {study} {launcher}"))
        rows.append(row)
        print(*asdict(row).values(), sep=", ", flush=True)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        with options.out.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(asdict(row)), lineterminator="\n")
            writer.writeheader()
            writer.writerows(map(asdict, rows))
    return int(any(row.differing for row in rows))


def try_one(study: str, launcher: str, kills: int, moments: random.Random) -> Row:
    """Run a study undisturbed, then once more with kills, in a store on memory where that is another file system."""
    memory = Path("/dev/shm")
    apart = memory.is_dir() and launcher == "joblib"
    with tempfile.TemporaryDirectory() as disk, tempfile.TemporaryDirectory(dir=memory if apart else None) as other:
        command = [sys.executable, "-m", "fairloop", "-m", *SMALL, *STUDIES[study], *LAUNCHERS[launcher]]
        began = time.monotonic()
        finish(command, Path(disk))
        whole = time.monotonic() - began
        done = workers = 0
        while done < kills:
            kind = kill_once(command, Path(other), moments.uniform(0.5, 1.1 * whole), only_worker=done % 2 == 1)
            if kind == "finished":
                shutil.rmtree(Path(other) / "runs", ignore_errors=True)  # begun anew until all kills are spent
            done += kind != "finished"
            workers += kind == "worker"
        finish(command, Path(other))
        expected, found = results(Path(disk)), results(Path(other))
        names = expected.keys() | found.keys()
        differing = sum(expected.get(name) != found.get(name) for name in names)
        cells = len(list(Path(disk).glob("runs/*/*/result.json")))
        return Row(study, launcher, "memory" if apart else "disk", done, workers, cells, len(names), differing)


def finish(command: list[str], folder: Path) -> None:
    """Run a command to its end."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=3600)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-2000:]}")


def kill_once(command: list[str], folder: Path, after: float, *, only_worker: bool) -> str:
    """Start a command and kill it; return `all`, `worker`, or `finished` where it was faster."""
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "stdin": subprocess.DEVNULL}
    process = subprocess.Popen(command, cwd=folder, start_new_session=True, **silent)
    try:
        process.wait(after)
        return "finished"
    except subprocess.TimeoutExpired:
        pass
    workers = [pid for pid in children(process.pid) if "loky" in _command(pid)] if only_worker else []
    if workers:
        os.kill(random.choice(workers), signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            process.wait(600)  # the launcher notices, and goes on with what is left
        kind = "worker"
    else:
        kind = "all"
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return kind


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
