"""One place that finds, identifies and loads causal language models: packaged, in a folder, or on the Hub."""

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairloop.errors import Fault, UserError
from fairloop.plm.embedded import (
    convert_gguf,
    embedded_model,
    file_sha256,
    is_embedded,
    locate_embedded,
    require_embedded,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

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
    if any(folder.glob("*.safetensors")):
        return None
    packed = sorted(folder.glob("*.gguf"))
    if len(packed) > 1:
        names = ", ".join(file.name for file in packed)
        raise UserError.of(key, folder, f"the folder holds several GGUF files ({names}): leave one")
    return packed[0]


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
    else:
        resolve(path, revision, key)


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


def load_causal_lm(
    path: str, *, revision: str | None = None, dtype: str = "auto", device: str = "cpu"
) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    """Load a causal language model for inference, with its tokenizer.

    Code from a model's repository is never run, and only safetensors or GGUF weights are read.

    Args:
        path: see `resolve`.
        revision: Hub revision, or None for the newest.
        dtype: `auto` is bfloat16; or `bfloat16`, `float16`, `float32`.
        device: a torch device name.

    Raises:
        UserError: no such model, no safe weights, no such device.
        Fault: no network, no access, or damaged files.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    where = str(resolve(path, revision))
    _require_device(device)
    options: dict[str, Any] = {"revision": revision, "trust_remote_code": False}
    precision: torch.dtype = torch.bfloat16 if dtype == "auto" else getattr(torch, dtype)
    bars = logging.is_progress_bar_enabled()
    if Path(where).is_dir():
        logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(where, **options)
        model = AutoModelForCausalLM.from_pretrained(where, dtype=precision, **_attention(where, options), **options)
    except Exception as error:
        raise explain(error, path, revision) from error
    finally:
        if bars:
            logging.enable_progress_bar()
    model.requires_grad_(False)
    return model.eval().to(device), tokenizer


def _attention(where: str, options: dict[str, Any]) -> dict[str, Any]:
    """Choose attention: SDPA cannot soften its scores as Gemma 2 does (`attn_logit_softcapping`)."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(where, **options)
    capped = getattr(config.get_text_config(), "attn_logit_softcapping", None) is not None
    return {"attn_implementation": "eager" if capped else "sdpa", "use_safetensors": True}


def _require_device(device: str) -> None:
    import torch

    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise UserError.of("device", device, "use cpu, cuda or cuda:<number>") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise UserError.of("device", device, "this machine has no CUDA device")


def explain(error: BaseException, path: str, revision: str | None = None) -> Fault | UserError:
    """Turn what `from_pretrained` raised into one line that tells what is wrong and what helps."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    chain = list(_causes(error))
    text = " ".join(str(link) for link in chain)

    def caused_by(*kinds: type[BaseException]) -> bool:
        return any(isinstance(link, kinds) for link in chain)

    if caused_by(GatedRepoError) or "gated repo" in text:
        return Fault(f"{path} asks for consent: accept its terms on huggingface.co and set HF_TOKEN")
    if caused_by(RevisionNotFoundError):
        return UserError.of("revision", revision, f"{path} has no such revision")
    if caused_by(RepositoryNotFoundError, HFValidationError) or "is not a valid model identifier" in text:
        return UserError.of(
            "path", path, "no such model on the Hub (or it is private: set HF_TOKEN), and no such folder"
        )
    if Path(path).expanduser().is_dir() or is_embedded(path):
        return Fault(f"cannot load the model in {path}: {_short(error)}")
    if caused_by(LocalEntryNotFoundError, OfflineModeIsEnabled, ConnectionError) or "couldn't connect" in text.lower():
        return Fault(
            f"cannot reach huggingface.co for {path}, and it is not in the local cache: check the network, give a "
            "folder as model.path, or use the packaged model=gemma_3_270m"
        )
    if "safetensors" in text:
        return UserError.of("path", path, "it has no safetensors weights; other formats are not loaded")
    if "trust_remote_code" in text:
        return UserError.of("path", path, "it needs code from its repository to run, which is never allowed")
    return Fault(f"cannot load {path}: {_short(error)}")


def _causes(error: BaseException | None) -> Any:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _short(error: BaseException) -> str:
    first = str(error).strip().splitlines()
    return f"{type(error).__name__}: {first[0][:200] if first else ''}"
