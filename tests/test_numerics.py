"""Number formats: `auto` asks the hardware, and everything that loads or trains asks the same function."""

import os
import re
import subprocess
import sys
from pathlib import Path

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


def test_the_fingerprint_names_capability_format_libraries_and_a_computation():
    found = numerics.fingerprint()
    assert found["capability"]["cpu"] == torch.backends.cpu.get_cpu_capability()
    assert found["auto"]["cpu"] == numerics.format_of("auto", "cpu")
    assert found["packages"]["torch"] == torch.__version__
    assert numerics.summary().endswith(found["checksum"])


def test_the_checksum_sees_another_rounding(monkeypatch):
    before = numerics._computed("cpu")
    softmax = torch.softmax
    monkeypatch.setattr(torch, "softmax", lambda values, dim: softmax(values.double(), dim).float())
    assert numerics._computed("cpu") != before


def test_a_process_without_torch_has_no_fingerprint_and_does_not_load_it():
    code = "import sys; from fairloop import numerics; print(numerics.fingerprint(), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["{}", "False"]


@pytest.mark.parametrize(
    ("chosen", "policy", "turns"),
    [
        ({}, "PASSIVE", 30_000),
        ({"OMP_WAIT_POLICY": "PASSIVE"}, "PASSIVE", 0),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE", 30_000_000_000),
        ({"GOMP_SPINCOUNT": "7"}, "PASSIVE", 7),
    ],
)
def test_threads_that_wait_soon_sleep_unless_the_user_says_otherwise(chosen, policy, turns):
    kept = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    assert threads_wait("import fairloop, torch", {**kept, **chosen}) == (policy, turns)


def test_benches_and_the_check_of_a_device_measure_threads_that_wait_as_a_users_do():
    kept = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    kept["PYTHONPATH"] = str(Path(__file__).parents[1] / "tools")
    assert threads_wait("import bench.generation", kept) == ("PASSIVE", 30_000)
    assert threads_wait("import device.parts", kept) == ("PASSIVE", 30_000)


def threads_wait(code, variables):
    """Return policy and turns of waiting threads, as the OpenMP says them that torch loads."""
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**variables, "OMP_DISPLAY_ENV": "verbose"},
        capture_output=True,
        text=True,
        check=True,
    )
    found = {name: re.search(rf"{name} = '(\w+)'", run.stderr)[1] for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    return found["OMP_WAIT_POLICY"], int(found["GOMP_SPINCOUNT"])
