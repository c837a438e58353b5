"""What a cell was computed with: package versions, git revision, hardware. No host name and no path."""

import importlib.metadata
import os
import platform
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any


@cache
def environment() -> dict[str, Any]:
    """Return the environment as plain data: python, platform, packages, git, hardware. Does not import torch."""
    return {
        "python": platform.python_version(),
        "platform": {"system": platform.system(), "release": platform.release(), "machine": platform.machine()},
        "packages": _packages(),
        "git": _revision(Path(__file__).resolve().parent),
        "hardware": {"processor": _processor(), "cores": _cores(), "memory_gib": _memory(), "gpus": _gpus()},
    }


def _packages() -> dict[str, str]:
    found = {dist.metadata["Name"]: dist.version for dist in importlib.metadata.distributions()}
    return {name: found[name] for name in sorted(found, key=str.lower) if name}


def _revision(folder: Path) -> dict[str, Any] | None:
    """Return the commit of the source checkout and whether it was changed since; None for an installed package."""
    # From an installed wheel, git would answer for whatever repository encloses the virtual environment.
    if "site-packages" in folder.parts:
        return None
    commit = _output("git", "-C", str(folder), "rev-parse", "HEAD")
    if not commit:
        return None
    changes = _output("git", "-C", str(folder), "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "changed": bool(changes)}


def _processor() -> str:
    try:
        match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        match = None
    return match[1].strip() if match else platform.processor() or platform.machine()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None


def _gpus() -> list[str]:
    # Asked of the driver: torch is not imported for it.
    names = _output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
    return names.splitlines() if names else []


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
