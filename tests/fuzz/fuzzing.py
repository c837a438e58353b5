"""Fuzzing: short and the same each time in `make test`; `make fuzz` tries for minutes, and keeps what it finds.

What hypothesis finds is kept in tests/fuzz/found, tried first the next time, and printed as a line to reproduce it.
Each target counts its inputs; `make fuzz` adds the counts to FUZZ_COUNTS, which docs/reliability.md reports.
"""

import json
import os
import time
from functools import wraps
from pathlib import Path

import pytest
from counts import tried
from hypothesis import HealthCheck, given, settings
from hypothesis.database import DirectoryBasedExampleDatabase

MINUTES = float(os.environ.get("FUZZ_MINUTES", "0"))
SHORT, LONG = 25, 1_000
FOUND = DirectoryBasedExampleDatabase(Path(__file__).parent / "found")
CALM = {"deadline": None, "suppress_health_check": list(HealthCheck), "print_blob": True, "database": FOUND}

settings.register_profile("short", max_examples=SHORT, derandomize=True, **{**CALM, "database": None})
settings.register_profile("long", max_examples=LONG, **CALM)


@pytest.fixture(scope="session")
def share():
    """Seconds that each of the targets has."""
    return MINUTES * 60 / 7


def _anew(target):
    """Return a function like `target`: hypothesis decorates one only once, and keeps what it finds by its name."""

    @wraps(target)
    def again(**drawn):
        target(**drawn)

    return again


@pytest.fixture
def fuzz(share):
    """Run a property of what strategies draw: once and short, or again and again until its share of the time is spent.

    The first run tries what was found before; each draws anew.
    """

    ended = []

    def run(target, *strategies):
        profile = settings.get_profile("long" if MINUTES else "short")
        began = time.monotonic()
        while True:
            profile(given(*strategies)(_anew(target)))()
            if time.monotonic() - began >= share:
                break
        ended.append(target)

    previous = dict(tried)
    yield run
    counts = os.environ.get("FUZZ_COUNTS")
    found = {} if ended else {tried.latest: 1}  # hypothesis tries the smallest input that fails last of all
    if counts:
        new = {name: number - previous.get(name, 0) for name, number in tried.items() if number > previous.get(name, 0)}
        with Path(counts).open("a") as file:
            file.writelines(json.dumps([name, number, found.get(name, 0)]) + "\n" for name, number in new.items())
