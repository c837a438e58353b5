import os
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "plm"))
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def benchmark_data():
    """The publishers' data, which is no part of the project."""
    folder = Path(os.environ.get("FAIRLOOP_BENCHMARK_DATA") or ROOT.parent / "shared" / "benchmarks")
    if not folder.is_dir():
        pytest.skip(f"no benchmark data: FAIRLOOP_BENCHMARK_DATA names no folder, and {folder} does not exist")
    return folder


@pytest.fixture
def tiny_plm():
    """Build a LanguageModel over a random model of one family."""
    from plm_models import tiny

    from fairloop.plm.model import LanguageModel

    def build(family, *, batch_tokens=2048, window=64):
        model, tokenizer, kind = tiny(family, window)
        return LanguageModel(model, tokenizer, kind, name=family, path=None, batch_tokens=batch_tokens)

    return build


@pytest.fixture
def write(tmp_path):
    """Write files into a folder and return the folder."""

    def files(contents):
        for name, content in contents.items():
            (tmp_path / name).write_text(content, encoding="utf-8")
        return tmp_path

    return files
