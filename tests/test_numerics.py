"""Number formats: `auto` asks the hardware, and everything that loads or trains asks the same function."""

import pytest
import torch

from fairloop import numerics
from fairloop.training.settings import TrainerSettings
from fairloop.training.trainer import uses_bfloat16


@pytest.mark.parametrize(("units", "wanted"), [({"avx512_bf16": True}, "bfloat16"), ({"avx2": True}, "float32")])
def test_auto_is_bfloat16_only_where_the_processor_has_units_for_it(monkeypatch, units, wanted):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: units)
    assert numerics.format_of("auto", "cpu") == wanted
    assert uses_bfloat16(TrainerSettings(accelerator="cpu")) == (wanted == "bfloat16")


def test_a_named_format_is_taken_whatever_the_hardware_has(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    assert numerics.format_of("bfloat16", "cpu") == "bfloat16"
