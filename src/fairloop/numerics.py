"""What numbers are computed with: the hardware's number formats, and a fingerprint of hardware and libraries.

Two processors round alike only if they have the same units and the same libraries; a text that is sampled from rounded
numbers soon differs.
"""

import hashlib
import shutil
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any


def may_have_gpu() -> bool:
    """Tell whether the driver of a GPU is here, without loading torch; where it is, torch may still find no GPU."""
    return any(Path(place).exists() for place in ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")) or bool(
        shutil.which("nvidia-smi")
    )


def has_bfloat16(device: str) -> bool:
    """Tell whether a device (a torch device name) has units for bfloat16; without them it is slower than float32."""
    import torch

    if torch.device(device).type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return any(torch.cpu.get_capabilities().get(unit, False) for unit in ("avx512_bf16", "amx_bf16", "bf16"))


def format_of(dtype: str, device: str) -> str:
    """Return the number format that a setting means on a device: `auto` is bfloat16 where there are units for it."""
    if dtype != "auto":
        return dtype
    return "bfloat16" if has_bfloat16(device) else "float32"


def fingerprint() -> dict[str, Any]:
    """Return what decides how this process rounds; empty in one that has not loaded torch, and so computed nothing."""
    return _fingerprint() if "torch" in sys.modules else {}


@cache
def _fingerprint() -> dict[str, Any]:
    """Return what decides how this process rounds: capability and format of `auto` by device, libraries, a checksum.

    The checksum is of a fixed small computation (matrix products in float32 and bfloat16, a softmax) on every kind of
    device; two machines may agree in it and still round a larger computation differently.
    """
    import torch

    devices = {"cpu": torch.backends.cpu.get_cpu_capability()}
    if torch.cuda.is_available():
        devices["cuda"] = torch.cuda.get_device_name()
    return {
        "capability": devices,
        "auto": {device: format_of("auto", device) for device in devices},
        "packages": {name: version(name) for name in ("torch", "transformers")},
        "checksum": hashlib.sha256(b"".join(map(_computed, devices))).hexdigest()[:8],
    }


def summary() -> str:
    """Return the fingerprint in one line: `AVX2 float32, torch 2.13.0+cpu, transformers 5.23.0, 1f2e3d4c`; or ``."""
    found = fingerprint()
    if not found:
        return ""
    devices = [f"{name} {found['auto'][device]}" for device, name in found["capability"].items()]
    packages = [f"{name} {version}" for name, version in found["packages"].items()]
    return ", ".join([*devices, *packages, found["checksum"]])


def _computed(device: str) -> bytes:
    """Return the bytes of a fixed computation on a device."""
    import torch

    grid = torch.arange(96 * 96, dtype=torch.float32).reshape(96, 96)
    left, right = torch.sin(grid).to(device), torch.cos(grid * 0.7).to(device)
    product = torch.softmax(left @ right, dim=-1)
    rounded = left.bfloat16() @ right.bfloat16()
    return bytes(product.cpu().numpy().tobytes() + rounded.float().cpu().numpy().tobytes())
