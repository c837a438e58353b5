"""One place that finds, identifies and loads causal language models: packaged, in a folder, or on the Hub."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairloop.errors import Fault, UserError
from fairloop.plm.embedded import embedded_model, file_sha256, is_embedded, locate_embedded

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_WEIGHTS = ("*.safetensors", "*.gguf")


def resolve(path: str, revision: str | None = None) -> Path | str:
    """Return where `from_pretrained` finds a model: a folder for packaged models and folders, else the Hub id.

    Args:
        path: `embedded:<name>`, a folder, or a Hub id such as `google/gemma-2-2b-it`.
        revision: a Hub revision; refused for anything that does not come from the Hub.

    Raises:
        UserError: unknown packaged model, missing extra, a folder that does not exist or holds no safe weights.
        Fault: damaged weights.
    """
    if is_embedded(path) or Path(path).expanduser().is_dir():
        if revision is not None:
            raise UserError.of("revision", revision, f"only models from the Hub have revisions, not {path}")
        return locate_embedded(path) if is_embedded(path) else _model_folder(Path(path).expanduser())
    if path.startswith((".", "/", "~")) or path.count("/") > 1 or not path.strip():
        raise UserError.of("path", path, "no such folder (and not a Hub id such as google/gemma-2-2b-it)")
    return path


def _model_folder(folder: Path) -> Path:
    if not (folder / "config.json").is_file() and not any(folder.glob("*.gguf")):
        raise UserError.of("path", folder, "the folder holds no config.json: not a Hugging Face model")
    if not any(file for pattern in _WEIGHTS for file in folder.glob(pattern)):
        raise UserError.of("path", folder, "the folder holds no *.safetensors or *.gguf; other weights are not loaded")
    return folder


def fingerprint(path: str, revision: str | None = None) -> str:
    """Return what identifies a model's weights, for the hash of a result.

    Packaged: name and checksum. Folder: a checksum of its configuration, tokenizer and weights, wherever it lies.
    Hub: id and revision (an unpinned revision is called `main`).
    """
    if is_embedded(path):
        model = embedded_model(path)
        return f"embedded:{model.name}@{model.sha256}"
    folder = Path(path).expanduser()
    if folder.is_dir():
        digest = hashlib.sha256()
        for file in sorted(folder.iterdir()):
            if file.is_file() and file.suffix in {".json", ".safetensors", ".gguf", ".model", ".txt", ".jinja"}:
                digest.update(f"{file.name} {file_sha256(file)}\n".encode())
        return f"folder@{digest.hexdigest()}"
    return f"{path}@{revision or 'main'}"


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
    packed = sorted(Path(where).glob("*.gguf")) if Path(where).is_dir() else []
    if packed and not any(Path(where).glob("*.safetensors")):
        options["gguf_file"] = packed[0].name
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

    if "gguf_file" in options:
        from transformers import GgufConfig

        return {"quantization_config": GgufConfig(dequantize=True)}
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
