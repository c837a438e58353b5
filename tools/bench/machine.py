"""What the tables of `make bench` say about the machine."""

import platform
from pathlib import Path


def processor() -> str:
    """Return the processor's name, its cores, and the units for bfloat16 that torch finds in it."""
    import torch

    from fairloop.sweep.resources import cores

    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    found = torch.cpu.get_capabilities()
    units = [unit for unit in ("avx512_bf16", "amx_bf16", "bf16") if found.get(unit)]
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name} ({cores()} cores, {torch.backends.cpu.get_cpu_capability()}, bfloat16: {', '.join(units) or 'no'})"
