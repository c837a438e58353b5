"""Find and identify models, packaged, in a folder or on the Hub, without loading them."""

import hashlib
import json
from functools import lru_cache
from pathlib import Path

from fairloop.errors import Fault, UserError, first_line
from fairloop.plm.embedded import (
    convert_gguf,
    embedded_model,
    file_sha256,
    is_embedded,
    locate_embedded,
    require_embedded,
)

_WEIGHTS = ("*.safetensors", "*.gguf")


def resolve(path: str, revision: str | None = None, key: str = "path") -> Path | str:
    """Return where `from_pretrained` finds a model: a folder for packaged models and folders, else the Hub id.

    Args:
        path: `embedded:<name>`, a folder, or a Hub id such as `google/gemma-2-2b-it`.
        revision: a Hub revision; refused for anything that does not come from the Hub.
        key: the configuration key of the path, for messages.

    Raises:
        UserError: unknown packaged model, missing extra, a folder that does not exist or holds no safe weights.
        Fault: damaged weights.
    """
    if is_embedded(path) or Path(path).expanduser().is_dir():
        if revision is not None:
            raise UserError.of(
                key.replace("path", "revision"), revision, f"only models from the Hub have revisions, not {path}"
            )
        return locate_embedded(path) if is_embedded(path) else _unpacked(Path(path).expanduser(), key)
    if path.startswith((".", "/", "~")) or path.count("/") > 1 or not path.strip():
        raise UserError.of(key, path, "no such folder (and not a Hub id such as google/gemma-2-2b-it)")
    return path


def _unpacked(folder: Path, key: str) -> Path:
    """Return the folder, or for one that holds a GGUF file that file's conversion in the cache."""
    packed = _model_folder(folder, key)
    return folder if packed is None else convert_gguf(packed)


def _model_folder(folder: Path, key: str) -> Path | None:
    """Check a user's folder; return its GGUF file if there are no other weights."""
    if not (folder / "config.json").is_file() and not any(folder.glob("*.gguf")):
        raise UserError.of(key, folder, "the folder holds no config.json: not a Hugging Face model")
    if not any(file for pattern in _WEIGHTS for file in folder.glob(pattern)):
        raise UserError.of(key, folder, "the folder holds no *.safetensors or *.gguf; other weights are not loaded")
    if _needs_own_code(folder / "config.json"):
        raise UserError.of(key, folder, "it needs the code in its folder, and code of a model is never run")
    if any(folder.glob("*.safetensors")):
        return None
    packed = sorted(folder.glob("*.gguf"))
    if len(packed) > 1:
        names = ", ".join(file.name for file in packed)
        raise UserError.of(key, folder, f"the folder holds several GGUF files ({names}): leave one")
    return packed[0]


def _needs_own_code(config: Path) -> bool:
    """Say whether a model names code of its own (`auto_map`) for a family that transformers does not know."""
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
        if not content.get("auto_map"):
            return False
    except (OSError, ValueError, AttributeError):  # no configuration, or a damaged one: loading says so
        return False
    from transformers import CONFIG_MAPPING

    return content.get("model_type") not in CONFIG_MAPPING


def fingerprint(path: str, revision: str | None = None, key: str = "path") -> str:
    """Return what identifies a model's weights, for the hash of a result.

    Packaged: name and checksum. Folder: a checksum of its configuration, tokenizer and weights, wherever it lies.
    Hub: id and revision (an unpinned revision is called `main`).
    """
    if is_embedded(path):
        model = embedded_model(path, key)
        return f"embedded:{model.name}@{model.sha256}"
    folder = Path(path).expanduser()
    if folder.is_dir():
        stats = [(file, file.stat()) for file in sorted(folder.iterdir()) if file.is_file()]
        return f"folder@{_folder_digest(tuple((file, stat.st_size, stat.st_mtime_ns) for file, stat in stats))}"
    return f"{path}@{revision or 'main'}"


@lru_cache(maxsize=64)
def _folder_digest(files: tuple[tuple[Path, int, int], ...]) -> str:
    """Return the checksum of a model's files; the cells of a sweep ask for the same one again and again.

    Args:
        files: each file with its size and time of change, by which an altered file is told from the one read before.
    """
    digest = hashlib.sha256()
    for file, _, _ in files:
        if file.suffix in {".json", ".safetensors", ".gguf", ".model", ".txt", ".jinja"}:
            digest.update(f"{file.name} {file_sha256(file)}\n".encode())
    return digest.hexdigest()


def require(path: str, revision: str | None = None, key: str = "path") -> None:
    """Refuse a model that cannot be here, before anything is loaded or converted; quick, and without torch.

    Raises:
        UserError: as `resolve`.
    """
    if is_embedded(path) and revision is None:
        require_embedded(path, key)
    elif Path(path).expanduser().is_dir() and revision is None:
        _model_folder(Path(path).expanduser(), key)
    elif isinstance(resolve(path, revision, key), str):
        _require_hub(path, revision, key)


def _require_hub(path: str, revision: str | None, key: str) -> None:
    """Refuse a model of the Hub that is not in the local cache if the Hub cannot be reached: loading tries for long."""
    from huggingface_hub import constants, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        if isinstance(try_to_load_from_cache(path, "config.json", revision=revision), str):
            return
    except HFValidationError:
        return  # the loader says what is wrong with the name
    if constants.HF_HUB_OFFLINE or no_answer(constants.ENDPOINT):
        raise hub_out_of_reach(path, key)


PROBE_SECONDS = 10.0


def no_answer(address: str) -> str:
    """Return why an address does not answer, or nothing if it does, whatever it says."""
    import urllib.error
    import urllib.request

    try:
        with urllib.request.urlopen(address, timeout=PROBE_SECONDS):
            return ""
    except urllib.error.HTTPError:
        return ""
    except (OSError, ValueError) as error:
        return first_line(getattr(error, "reason", error), type(error).__name__)


def hub_out_of_reach(path: str, key: str) -> Fault:
    """Return the line for a model that is neither in the cache nor to be had."""
    packaged = {"plm": "plm=minilm", "model": "model=gemma_3_270m"}.get(key.partition(".")[0])
    return Fault(
        f"{key}={path}: cannot reach huggingface.co, and it is not in the local cache: check the network, or give a "
        f"folder as {key}" + (f", or use the packaged {packaged}" if packaged else "")
    )


def torch_device(accelerator: str) -> str:
    """Return the torch device of an accelerator setting: `cpu`, `gpu`, or `auto` for a GPU where there is one.

    Raises:
        UserError: a GPU is asked for and there is none.
    """
    import torch

    if accelerator == "cpu" or (accelerator == "auto" and not torch.cuda.is_available()):
        return "cpu"
    if not torch.cuda.is_available():
        raise UserError.of("trainer.accelerator", accelerator, "this machine has no CUDA device; use cpu or auto")
    return "cuda"
