"""Tests against real servers and schedulers: `make test-engines` runs them, `make test` leaves them out."""

from pathlib import Path

import pytest

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder, so that none has to say it itself."""
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.engines)
