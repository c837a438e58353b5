"""Tests against real servers and schedulers: `make test-engines` runs them, `make test` leaves them out."""

import sys
from pathlib import Path

import pytest

_HERE = Path(__file__).parent
sys.path.insert(0, str(_HERE))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder; the limit of time is for what hangs, on a machine that may be busy."""
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.engines)
            item.add_marker(pytest.mark.timeout(3600))


@pytest.fixture(scope="session")
def grid(tmp_path_factory):
    """The overrides of a sweep of six cells that can be met in the middle of their work."""
    import slow_cells

    return slow_cells.grid(tmp_path_factory.mktemp("grid"))


@pytest.fixture(scope="session")
def finished(grid, tmp_path_factory):
    """The results of these cells, computed one after the other in one process, by their names."""
    import slow_cells

    folder = tmp_path_factory.mktemp("finished")
    done = slow_cells.fairloop("-m", *grid, cwd=folder, timeout=900)
    assert done.returncode == 0, done.stderr
    return slow_cells.complete(folder / "runs")
