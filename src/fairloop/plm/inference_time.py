"""Debiasing that acts while a model is used: the file that asks for it, and what it does to a loaded model.

A folder with `fairloop_debias.json` is an ordinary Hugging Face folder of the untouched weights. Loaded by
`plm.loading.load_model`, the model acts as the file says, so that every benchmark runs on it unchanged:

- `projection`: every token's final hidden state h becomes h − B·Bᵀ·h, with the orthonormal basis B [width, k] of
  `fairloop_debias.safetensors`: before the language-model head, before pooling, before a task's own head.
- `self_debias`: the probabilities of tokens are rescaled; `plm.self_debias` does it, hidden states stay as they are.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fairloop.errors import Fault
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


def write_projection(folder: Path, basis: Any) -> None:
    """Write an orthonormal basis [width, k] of what is taken out, as float32."""
    import numpy as np
    from safetensors.numpy import save_file

    save_file({"basis": np.ascontiguousarray(basis, dtype=np.float32)}, folder / TENSORS)


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
    """Return `model`, loaded from `where`, with the projection that the folder asks for on its final hidden states.

    Raises:
        Fault: if the projection is damaged or of another width; the line names the file.
    """
    record = read_record(where)
    if record is None or record.kind != "projection":
        return model
    base = model.base_model
    # A buffer follows the model to its device and into its copies; it is not saved with the weights.
    base.register_buffer("fairloop_basis", _read_basis(record.folder, model), persistent=False)
    base.register_forward_hook(_project)
    return model


def _read_basis(folder: Path, model: Any) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / TENSORS
    try:
        basis = load_file(path)["basis"]
    except (OSError, SafetensorError, KeyError) as error:
        raise Fault(f"{path}: missing or damaged; debias the model again") from error
    width = int(model.config.get_text_config().hidden_size)
    if basis.ndim != 2 or len(basis) != width:
        raise Fault(f"{path}: a basis {tuple(basis.shape)} for a model of width {width}")
    return basis


def _project(module: Any, inputs: Any, output: Any) -> Any:
    """Project the last hidden state of a base model's output, and what its pooler makes of it.

    A projection applied twice is the projection: the scoring engine passes hidden states through the base
    model's hooks a second time when it runs the head alone.
    """
    basis, hidden = module.fairloop_basis, output.last_hidden_state
    wide = hidden.float()  # with a basis rounded to bfloat16 it would be no projection
    projected = (wide - (wide @ basis) @ basis.T).to(hidden.dtype)
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
