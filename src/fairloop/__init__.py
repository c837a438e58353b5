"""Fairloop: gender bias in recursively generated text, and debiased pre-trained language models.

In Python, `run` computes one cell, `sweep` a grid of cells, and `load` reads finished ones; importing them is fast, for
torch is loaded when a cell has something to compute.
"""

import os

# Threads that have to wait for others sleep. OpenMP's spin by default, some milliseconds at a time, and hold the cores
# that the others need as soon as anything else computes on the machine. It is read when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# The package `fairloop.sweep` is loaded first: after that the name means the function, and the package's modules are
# imported as before (`from fairloop.sweep.plan import Plan`).
import fairloop.sweep  # noqa: F401
from fairloop.api import Figure, Result, Sweep, SweepFailed, load, run, sweep
from fairloop.errors import FairloopError, Fault, UserError
from fairloop.version import __version__

__all__ = [
    "FairloopError",
    "Fault",
    "Figure",
    "Result",
    "Sweep",
    "SweepFailed",
    "UserError",
    "__version__",
    "load",
    "run",
    "sweep",
]
