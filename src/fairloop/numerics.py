"""What the hardware computes with: which number formats it has units for.

Two processors round alike only if they have the same units and the same libraries; a text that is sampled from rounded
numbers soon differs.
"""


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
