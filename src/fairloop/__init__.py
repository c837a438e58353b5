"""Fairloop: gender bias in recursively generated text, and debiased pre-trained language models.

In Python, `run` computes one cell, `sweep` a grid of cells, and `load` reads finished ones; importing them is fast, for
torch is loaded when a cell has something to compute.
"""

import os

# Threads that have to wait spin for 0.3 milliseconds and then sleep. OpenMP's spin ten times as long, and hold the
# cores that the others need as soon as anything else computes on the machine; without a moment of spinning, waking them
# costs a fifth of the speed on a quiet one (docs/speed.md). Other OpenMPs than GNU's know the policy alone, by which
# threads sleep at once. Both are read when torch is loaded.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ.setdefault("GOMP_SPINCOUNT", "30000")

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
