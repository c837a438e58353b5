"""What one cell may use of the machine while others run beside it: processor threads and a share of a GPU."""

import math
import os
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from fairloop import console
from fairloop.errors import UserError
from fairloop.words import counted

if TYPE_CHECKING:
    from filelock import FileLock

RAY_ADDRESS = "hydra.launcher.ray.init.address"

# Read by OpenMP, the linear algebra libraries and the tokenisers when they are loaded.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")


@dataclass(frozen=True)
class Share:
    """What the launcher gives each cell.

    Attributes:
        cells: how many cells are worked on at the same time; None if a scheduler decides.
        threads: processor threads for each; None leaves it to torch (one cell at a time, or a scheduler's limit).
        waves: whether the launcher starts all it is given at once, so that it must be given `cells` at a time.
        here: whether the cells run on this machine.
    """

    cells: int | None
    threads: int | None
    waves: bool = False
    here: bool = True


def share_of(launcher: DictConfig, jobs: int) -> Share:
    """Return what each of `jobs` cells gets from the chosen launcher (`hydra/launcher`).

    Cells that run beside each other share the processor's cores out evenly; a scheduler's own numbers are taken.
    """
    name = str(launcher.get("_target_", "")).rsplit(".", 1)[-1]
    if name == "JoblibLauncher":
        wanted = int(launcher.n_jobs)
        cells = wanted if wanted > 0 else max(1, cores() + 1 + wanted)  # joblib's rule: -1 is one for each core
        cells = max(1, min(cells, jobs))
        return Share(cells, max(1, cores() // cells))
    if name == "LocalLauncher":
        threads = launcher.cpus_per_task
        cells = max(1, min(jobs, cores() // threads if threads else cores()))
        return Share(cells, threads or max(1, cores() // cells), waves=True)
    if name == "SlurmLauncher":
        return Share(launcher.array_parallelism, launcher.cpus_per_task, here=False)
    if name in ("RayLauncher", "RayAWSLauncher"):
        threads = max(1, math.ceil(launcher.ray.remote.get("num_cpus") or 1))
        if launcher.ray.init.get("address"):
            return Share(None, threads, here=False)
        return Share(max(1, min(jobs, (launcher.ray.init.get("num_cpus") or cores()) // threads)), threads)
    return Share(1, None)


def runs_here(launcher: DictConfig) -> bool:
    """Say whether the chosen launcher runs cells in the process of the command, one after the other."""
    return str(launcher.get("_target_", "")).endswith(".BasicLauncher")


def cores() -> int:
    """Return the processor cores that this process may use, container limits included."""
    import joblib

    return int(joblib.cpu_count())


def limit_threads(threads: int | None) -> None:
    """Keep libraries that are not loaded yet, and processes that this one starts, to so many threads."""
    if threads is not None:
        for variable in THREAD_VARIABLES:
            os.environ[variable] = str(threads)


# --- a share of a GPU ------------------------------------------------------------------------------------------------

# The lock on this process's share. A process that has used a GPU cannot change to another, so it keeps it to its end.
_held: list["FileLock"] = []


def gpus() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; found without torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name.strip() and name.strip() != "-1"]
    folder = Path("/proc/driver/nvidia/gpus")
    return [str(number) for number in range(len(list(folder.iterdir())))] if folder.is_dir() else []


def check_gpu_share(gpu_share: float | None, launcher: DictConfig, share: Share) -> None:
    """Refuse more cells at once than there are shares of GPUs, where cells run beside each other on this machine."""
    name = str(launcher.get("_target_", "")).rsplit(".", 1)[-1]
    if gpu_share is None or name not in ("JoblibLauncher", "LocalLauncher") or not gpus():
        return
    slots = len(gpus()) * _cells_of_one_gpu(gpu_share)
    if share.cells is not None and share.cells > slots:
        raise UserError.of(
            "gpu_share",
            gpu_share,
            f"a share that lets {share.cells} cells run at once on {counted(len(gpus()), 'GPU')}, or fewer at once",
        )


def check_ray(launcher: DictConfig) -> None:
    """Refuse the address of a Ray cluster where nobody answers: Ray itself would try for minutes.

    `auto` is left to Ray, which looks for a cluster on this machine.
    """
    address = os.environ.get("RAY_ADDRESS") or str(launcher.ray.init.get("address") or "local")
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if address in ("auto", "local"):
        return
    if not host or not port.isdecimal():
        raise UserError.of(RAY_ADDRESS, address, "must be auto or host:port")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise UserError.of(
            RAY_ADDRESS, address, f"nobody answers there ({error}); is `ray start --head` running?"
        ) from None


def take_gpu_share(gpu_share: float | None, launcher: DictConfig) -> None:
    """Reserve a share of one GPU for this process until it ends, and let it see no other.

    Shares are counted over all processes of this user on the machine. Ray and SLURM give GPUs out themselves.

    Args:
        gpu_share: the share; None leaves every GPU to every cell.
        launcher: the launcher's configuration.
    """
    name = str(launcher.get("_target_", "")).rsplit(".", 1)[-1]
    if gpu_share is None or not gpus():
        return
    if name in ("JoblibLauncher", "LocalLauncher") and not _held:
        from filelock import FileLock

        folder = Path(tempfile.gettempdir()) / f"fairloop-gpus-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        slots = [(gpu, part) for part in range(_cells_of_one_gpu(gpu_share)) for gpu in gpus()]
        gpu, lock = _first_free([(gpu, FileLock(folder / f"{gpu}-{part}", timeout=0)) for gpu, part in slots])
        _held.append(lock)
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    if gpu_share < 1:
        import torch

        if torch.cuda.is_available():
            torch.cuda.set_per_process_memory_fraction(gpu_share)


def _cells_of_one_gpu(gpu_share: float) -> int:
    return int(1 / gpu_share + 1e-9)


def _first_free(slots: list[tuple[str, Any]]) -> tuple[str, Any]:
    """Return the first slot whose lock could be taken; wait, with one line, while there is none."""
    import time

    from filelock import Timeout

    waiting = False
    while True:
        for gpu, lock in slots:
            try:
                lock.acquire()
                return gpu, lock
            except Timeout:
                continue
        if not waiting:
            console.warn("every share of a GPU is taken by another cell: waiting for one")
            waiting = True
        time.sleep(0.5)
