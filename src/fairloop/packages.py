"""Optional packages: what the extras of pyproject.toml bring, and the command that installs one here.

Fairloop may run from a checkout, from a wheel that no index knows, or in an environment without pip. So a hint names
the packages themselves, and the interpreter that lacks them.
"""

import importlib.util
import os
import shlex
import sys
import tomllib
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement

NAME = "fairloop"
CHECKOUT = Path(__file__).parents[2]
"""The folder of the checkout, if this is one."""


def is_installed(module: str) -> bool:
    """Tell whether a module can be imported, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ModuleNotFoundError, ValueError):
        return False


def needs(extra: str, *packages: str) -> str:
    """Return what a message says of packages that are missing: their names, the extra, and how to install it here."""
    return f"needs {' and '.join(packages)}, of the extra {extra}: {install_command(extra, packages)}"


def install_command(extra: str, otherwise: Sequence[str] = ()) -> str:
    """Return the command that installs an extra's packages into the environment of this process.

    `otherwise`: the packages to name where nothing tells what the extra has (the sources alone, on a path).
    """
    try:
        wanted = requirements(extra)
    except KeyError:
        wanted = list(otherwise)
    return " ".join([installer(), *map(shlex.quote, wanted)])


def uninstall_command(package: str) -> str:
    """Return the command that removes a package from the environment of this process."""
    words = installer().split(" --constraint ")[0]
    return words.replace("pip install", "pip uninstall") + f" {shlex.quote(package)}"


def requirements(extra: str) -> list[str]:
    """Return an extra's packages with their bounds; an extra that is made of others has theirs, too.

    Raises:
        KeyError: there is no such extra.
    """
    found: list[str] = []
    for one in _declared()[extra]:
        wanted = Requirement(one)
        found += [line for inner in wanted.extras for line in requirements(inner)] if wanted.name == NAME else [one]
    return list(dict.fromkeys(found))


def _declared() -> dict[str, list[str]]:
    """Return the extras: in a checkout those of pyproject.toml, for installed metadata may be older than that."""
    project = CHECKOUT / "pyproject.toml"
    if is_checkout():
        extras: dict[str, list[str]] = tomllib.loads(project.read_text(encoding="utf-8"))["project"][
            "optional-dependencies"
        ]
        return extras
    found: dict[str, list[str]] = {}
    try:
        lines = requires(NAME) or []
    except PackageNotFoundError:
        lines = []
    for line in map(Requirement, lines):
        extra = str(line.marker).partition("extra == ")[2].strip("\"'") if line.marker else ""
        line.marker = None
        if extra:
            found.setdefault(extra, []).append(str(line))
    return found


def is_checkout() -> bool:
    """Tell whether Fairloop runs from its source tree."""
    project = CHECKOUT / "pyproject.toml"
    return project.is_file() and f'name = "{NAME}"' in project.read_text(encoding="utf-8")


def installer() -> str:
    """Return the beginning of a command that installs packages into the environment of this process."""
    python = _shown(Path(sys.executable))
    found = [python, "-m", "pip", "install"] if is_installed("pip") else ["uv", "pip", "install", "--python", python]
    # The environment that the Makefile made has the versions that Fairloop was tested with.
    constraints = CHECKOUT / "constraints.txt"
    made = Path(sys.prefix) == CHECKOUT / ".venv" and constraints.is_file()
    return " ".join([*found, "--constraint", _shown(constraints)] if made else found)


def _shown(path: Path) -> str:
    """Return a path as it is typed from the current folder, quoted for a shell."""
    try:
        return shlex.quote(os.fspath(path.relative_to(Path.cwd())))
    except (ValueError, OSError):
        return shlex.quote(os.fspath(path))
