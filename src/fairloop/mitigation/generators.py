"""Load the generator of a generation: the model as it is, or as a mitigation adapted it."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fairloop.generation.in_process import InProcessGenerator
    from fairloop.generation.settings import ModelSettings


def load_generator(model: "ModelSettings", adapted: Path | None, device: str = "cpu") -> "InProcessGenerator":
    """Load the generator in this process.

    Args:
        model: the config group `model`.
        adapted: what `Mitigation.generator` returned; None for the model as it is.
        device: a torch device name.

    Raises:
        Fault: if the adapter was trained for another model than `model`.
    """
    import torch

    from fairloop.errors import Fault
    from fairloop.generation.in_process import InProcessGenerator
    from fairloop.numerics import format_of
    from fairloop.plm.loading import load_causal_lm, merge_adapter
    from fairloop.training.causal_lm import base_of

    if adapted is None:
        return InProcessGenerator.load(model, device)
    base = base_of(adapted)
    if base is None:
        whole = model.model_copy(update={"path": str(adapted), "revision": None})
        return InProcessGenerator.load(whole, device)
    if base != model.path:
        raise Fault(f"{adapted}: this adapter was trained for the model {base}, not for {model.path}")
    # Merged in float32: rounding the sum once is better than adding two rounded numbers.
    network, tokenizer = load_causal_lm(model.path, revision=model.revision, dtype="float32", device=device)
    dtype = getattr(torch, format_of(model.dtype, device))
    merged = merge_adapter(network, adapted).requires_grad_(False).eval().to(dtype)
    return InProcessGenerator(merged, tokenizer, model)
