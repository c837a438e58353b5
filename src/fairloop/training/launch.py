"""Start the workers of a training that runs on several devices, and listen to the first of them."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import fairloop
from fairloop.errors import FairloopError, Fault, UserError
from fairloop.training.hook import Training
from fairloop.training.job import TrainingJob
from fairloop.training.settings import TrainerSettings
from fairloop.training.trainer import resolve_accelerator


def launch(job: TrainingJob) -> None:
    """Run a job in as many processes as `trainer` says and return when all of them have ended.

    On one machine the processes are started here; on several, `trainer.launcher` starts them (for SLURM
    `srun --nodes=N --ntasks-per-node=D`), and the job's folder must lie on a file system that all of them share.

    Raises:
        UserError, Fault: what a worker raised, or that one died.
    """
    trainer = job.trainer
    if not trainer.launcher:
        resolve_accelerator(trainer)
    command = [sys.executable, "-m", "fairloop.training.worker", str(job.write())]
    with tempfile.TemporaryDirectory(prefix="fairloop-workers-") as logs:
        workers = _start(command, trainer, Path(logs))
        for worker in workers[1:]:
            threading.Thread(target=_end_together, args=(worker, workers[0]), daemon=True).start()
        try:
            _listen(workers[0], job.training)
            _wait(workers, Path(logs), trainer.timeout_seconds)
        finally:
            for worker in workers:
                if worker.poll() is None:
                    worker.kill()
                worker.wait()


def _start(command: list[str], trainer: TrainerSettings, logs: Path) -> list[subprocess.Popen[str]]:
    environment = dict(os.environ) | {"FAIRLOOP_WORKER": "1"}
    source = str(Path(fairloop.__file__).parents[1])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH", "")]))
    if trainer.launcher:
        with (logs / "0.log").open("w") as log:
            return [_popen([*trainer.launcher, *command], environment, log.fileno(), subprocess.PIPE)]
    environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "NODE_RANK": "0"}
    if trainer.accelerator == "cpu" and trainer.threads is None:
        environment["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // trainer.devices))
    workers = []
    for rank in range(trainer.devices):
        output = subprocess.PIPE if rank == 0 else subprocess.DEVNULL
        with (logs / f"{rank}.log").open("w") as log:
            workers.append(_popen(command, environment | {"LOCAL_RANK": str(rank)}, log.fileno(), output))
    return workers


def _popen(command: list[str], environment: dict[str, str], log: int, output: int) -> subprocess.Popen[str]:
    return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=log, text=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _end_together(worker: subprocess.Popen[str], first: subprocess.Popen[str]) -> None:
    """End the first worker when another one fails: it would wait for it until a timeout."""
    if worker.wait() != 0 and first.poll() is None:
        first.kill()


def _listen(worker: subprocess.Popen[str], told: Training) -> None:
    """Pass on what the first worker reports, until it closes its output."""
    for line in worker.stdout or ():
        try:
            kind, *values = json.loads(line)
        except ValueError:
            continue  # something a library printed
        if kind == "progress" and told.on_progress is not None:
            told.on_progress(*values)
        elif kind == "logged" and told.on_logged is not None:
            told.on_logged(*values)
        elif kind in ("UserError", "Fault"):
            error: type[FairloopError] = UserError if kind == "UserError" else Fault
            raise error(values[0])


def _wait(workers: list[subprocess.Popen[str]], logs: Path, seconds: int) -> None:
    statuses = []
    for rank, worker in enumerate(workers):
        try:
            statuses.append(worker.wait(timeout=seconds))
        except subprocess.TimeoutExpired as error:
            raise Fault(f"training: process {rank} did not end within {seconds} s of the first one") from error
    # A process that ended by itself tells more than those that were ended because of it.
    for rank in sorted(range(len(workers)), key=lambda rank: statuses[rank] < 0):
        if statuses[rank] != 0:
            lines = (logs / f"{rank}.log").read_text(errors="replace").strip().splitlines() or ["no message"]
            if statuses[rank] == UserError.exit_status:  # its last line is the message
                raise UserError(lines[-1])
            raise Fault(f"training: process {rank} ended with status {statuses[rank]}: {lines[-1]}")
