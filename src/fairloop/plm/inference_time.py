"""Debiasing that acts while a model is used: the file that asks for it, and what it does to a loaded model.

A folder with `fairloop_debias.json` is an ordinary Hugging Face folder of the untouched weights. Loaded by
`plm.loading.load_model`, the model acts as the file says, so that every benchmark runs on it unchanged:

- `projection`: every token's final hidden state h becomes h − L·Rᵀ·(h − m), with the tensors of
  `fairloop_debias.safetensors` (`Projection`): before the language-model head, before pooling, before a task's own
  head. The file may hold one projection for each layer; then each layer's states are projected as they leave it.
- `self_debias`: the probabilities of tokens are rescaled; `plm.self_debias` does it, hidden states stay as they are.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fairloop.errors import Fault, UserError
from fairloop.files import write_json

RECORD, TENSORS = "fairloop_debias.json", "fairloop_debias.safetensors"


@dataclass(frozen=True)
class Record:
    """What a folder asks for.

    Attributes:
        folder: the folder.
        kind: which of the two.
        method: the debias method that wrote it.
        settings: of that method; `prompts`, `decay` and `epsilon` are those of self-debiasing.
    """

    folder: Path
    kind: Literal["projection", "self_debias"]
    method: str
    settings: dict[str, Any]


def write_record(folder: Path, kind: str, method: str, settings: dict[str, Any]) -> None:
    """Write the file that makes Fairloop load the folder with inference-time debiasing."""
    write_json(folder / RECORD, {"kind": kind, "method": method, "settings": settings})


@dataclass(frozen=True)
class Projection:
    """An affine projection of hidden states, h − L·Rᵀ·(h − m) with Rᵀ·L = 1: applied twice it is the same.

    Attributes:
        left: L [width, k], what is taken out.
        right: R [width, k], how much of it a state has; L itself for an orthogonal projection.
        mean: m [width], a state that stays as it is.
    """

    left: Any
    right: Any
    mean: Any


def write_projection(folder: Path, basis: Any) -> None:
    """Write the orthonormal basis [width, k] of what is taken out of the final hidden states, as float32."""
    _write(folder, {"basis": basis})


def write_projections(folder: Path, projections: Sequence[Projection]) -> None:
    """Write a projection of the final hidden states, or one for each layer in order, as float32."""
    named = {f"{number}.{name}": tensor for number, one in enumerate(projections) for name, tensor in vars(one).items()}
    _write(folder, named)


def _write(folder: Path, tensors: dict[str, Any]) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    as_written = {name: np.ascontiguousarray(tensor, dtype=np.float32) for name, tensor in tensors.items()}
    save_file(as_written, folder / TENSORS)


def read_record(where: Path | str) -> Record | None:
    """Return what a folder asks for; None if it asks for nothing, or is no folder.

    Raises:
        Fault: if the file is damaged; the line names it.
    """
    path = Path(where) / RECORD
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        record = Record(path.parent, content["kind"], str(content["method"]), dict(content["settings"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Fault(f"{path}: damaged; debias the model again") from error
    if record.kind not in ("projection", "self_debias"):
        raise Fault(f"{path}: written by another version of fairloop (kind {record.kind!r}); debias the model again")
    return record


def attach(model: Any, where: Path | str) -> Any:
    """Return `model`, loaded from `where`, with the projections that the folder asks for on its hidden states.

    Raises:
        Fault: if a projection is damaged or does not fit the model; the line names the file.
    """
    record = read_record(where)
    if record is None or record.kind != "projection":
        return model
    *inner, final = _read_projections(record.folder, model)
    for layer, projection in zip(layers(model) if inner else (), inner, strict=False):
        project_layer(layer, projection)
    _keep(model.base_model, final)
    model.base_model.register_forward_hook(_project)
    return model


def layers(model: Any) -> list[Any]:
    """Return the model's layers in order.

    Raises:
        UserError: if its family has no module for each layer (ALBERT, whose layers share one).
    """
    from torch.nn import ModuleList

    count = int(model.config.get_text_config().num_hidden_layers)
    for module in model.base_model.modules():
        if isinstance(module, ModuleList) and len(module) == count:
            return list(module)
    raise UserError(f"{model.config.model_type}: this family has no module of its own for each layer")


def project_layer(layer: Any, projection: Projection) -> Any:
    """Project the hidden states that leave a layer; the returned handle removes that again."""
    _keep(layer, projection)

    def project(module: Any, inputs: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (_projected(module, output[0]), *output[1:])
        return _projected(module, output)

    return layer.register_forward_hook(project)


def _read_projections(folder: Path, model: Any) -> list[Projection]:
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / TENSORS
    width = int(model.config.get_text_config().hidden_size)
    try:
        tensors = load_file(path)
        if "basis" in tensors:
            found = [Projection(tensors["basis"], tensors["basis"], torch.zeros(width))]
        else:
            found = [
                Projection(*(tensors[f"{number}.{name}"] for name in ("left", "right", "mean")))
                for number in range(len(tensors) // 3)
            ]
    except (OSError, SafetensorError, KeyError) as error:
        raise Fault(f"{path}: missing or damaged; debias the model again") from error
    count = len(layers(model)) if len(found) > 1 else 1
    if len(found) != count:
        raise Fault(f"{path}: projections of {len(found)} layers for a model of {count}")
    for one in found:
        if one.left.ndim != 2 or one.left.shape != one.right.shape or not len(one.left) == len(one.mean) == width:
            raise Fault(f"{path}: a basis {tuple(one.left.shape)} for a model of width {width}")
    return found


def _keep(module: Any, projection: Projection) -> None:
    """Keep a projection with a module: a buffer follows it to its device and into its copies, and is not saved."""
    import torch

    device = next(module.parameters()).device
    for name, tensor in vars(projection).items():
        values = torch.as_tensor(tensor, dtype=torch.float32, device=device)
        module.register_buffer(f"fairloop_{name}", values, persistent=False)


def _projected(module: Any, hidden: Any) -> Any:
    wide = hidden.float()  # with a basis rounded to bfloat16 it would be no projection
    return (wide - ((wide - module.fairloop_mean) @ module.fairloop_right) @ module.fairloop_left.T).to(hidden.dtype)


def _project(module: Any, inputs: Any, output: Any) -> Any:
    """Project the last hidden state of a base model's output, and what its pooler makes of it.

    A projection applied twice is the projection: the scoring engine passes hidden states through the base
    model's hooks a second time when it runs the head alone.
    """
    projected = _projected(module, output.last_hidden_state)
    output.last_hidden_state = projected
    if output.get("hidden_states") is not None:
        output.hidden_states = (*output.hidden_states[:-1], projected)
    if output.get("pooler_output") is not None:
        output.pooler_output = module.pooler(projected)
    return output


def rescale(plain: Any, prompted: Sequence[Any], decay: float, epsilon: float) -> Any:
    """Return the self-debiased log probabilities [rows, vocabulary] of Schick et al. 2021, equations 2 and 3.

    p̃(w) ∝ α(Δ(w))·p(w), where Δ(w) = p(w) − p(w | prompt), the smallest over the prompts, and α(Δ) is 1 for Δ ≥ 0 and
    otherwise exp(λ·Δ), but at least ε (their implementation; it keeps every log probability finite).

    Args:
        plain: log probabilities of the input as it is, [rows, vocabulary].
        prompted: those behind each prompt.
        decay: λ.
        epsilon: ε.
    """
    import math

    import torch

    biased = torch.stack([one.exp() for one in prompted]).amax(dim=0)
    excess = (biased - plain.exp()).clamp(min=0)
    return torch.log_softmax(plain + (-decay * excess).clamp(min=math.log(epsilon)), dim=-1)
