import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
torch.set_num_threads(1)


@pytest.fixture
def tiny_plm():
    """Build a LanguageModel over a random model of one family."""
    from plm_models import tiny

    from fairloop.plm.model import LanguageModel

    def build(family, *, batch_tokens=2048, window=64):
        model, tokenizer, kind = tiny(family, window)
        return LanguageModel(model, tokenizer, kind, name=family, path=family, batch_tokens=batch_tokens)

    return build
