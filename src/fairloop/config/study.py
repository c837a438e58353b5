"""What a study declares of itself: its settings and version, what it reads, and how its runs are called.

A study is two files: its declaration beside this one, found by its file and free of torch, and its script
`studies/<name>.py`.
"""

import importlib
import pkgutil
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from fairloop.benchmarks.settings import BenchmarkSettings
from fairloop.config.choices import Choices
from fairloop.errors import UserError
from fairloop.files import digest_file
from fairloop.plm.settings import PlmSettings, ServedPlmSettings
from fairloop.settings import Settings

Models = dict[str, tuple[str, str | None]]
"""Models by the configuration key of their path: path and revision."""


class StudySettings(Settings):
    """Group `study`: the settings of one study, and what it declares of itself.

    Attributes:
        version: the version of its method, part of a cell's name. Raise it when a change of the code changes results,
            and cells computed before are no longer taken for finished.
        reads: the config groups that it reads; a choice of any other is refused.
    """

    version: ClassVar[int] = 1
    reads: ClassVar[tuple[str, ...]] = ()

    name: str

    def check(self, cell: Choices) -> None:
        """Raise UserError, before anything is loaded, for choices that do not go together."""

    def generates(self, cell: Choices) -> bool:
        """Tell whether the cell asks the generator (group `model`)."""
        return "model" in self.reads

    def groups(self, cell: Choices) -> tuple[str, ...]:
        """Return the groups whose settings decide the cell's result."""
        return self.reads

    def unread(self, cell: Choices, group: str, *, in_sweep: bool) -> str:
        """Say why a choice of a config group changes nothing in this cell; empty if it is read.

        `in_sweep` tells that the command has other cells, which may read what this one does not.
        """
        if group in self.reads:
            return ""
        return f"study={self.name} does not read the group {group}; it reads {', '.join(self.reads) or 'none of them'}"

    def decides_also(self, cell: Choices) -> dict[str, Any]:
        """Return what decides the cell's result beside these groups, by a name that no group has."""
        return {}

    def models(self, cell: Choices) -> Models:
        """Return the models that the cell loads beside the generator."""
        return {}

    def contents(self, cell: Choices) -> dict[str, str]:
        """Return what names the contents of the files that the cell reads, by the configuration key of their path."""
        return {}

    def measured_by(self, cell: Choices) -> dict[str, BenchmarkSettings]:
        """Return the benchmarks that the cell measures a PLM with, by their names."""
        return {}

    def names(self, cell: Choices) -> dict[str, str]:
        """Return the names of the choices by which runs are grouped and found."""
        return {}


@cache
def studies() -> dict[str, type[StudySettings]]:
    """Return the settings of every study by its name: each module beside this one that has a `STUDY`."""
    package = __name__.rpartition(".")[0]
    modules = [importlib.import_module(f"{package}.{found.name}") for found in pkgutil.iter_modules([_folder()])]
    return {module.__name__.rpartition(".")[2]: module.STUDY for module in modules if hasattr(module, "STUDY")}


def _folder() -> str:
    return str(Path(__file__).parent)


def plm_model(plm: PlmSettings | ServedPlmSettings) -> Models:
    """Return the PLM as one of the models that a study loads; one behind a server is not."""
    return {} if isinstance(plm, ServedPlmSettings) else {"plm.path": (plm.path, plm.revision)}


def file_contents(path: str) -> str:
    """Return what names a file of sentences: its digest, and how it is to be read if not as lines."""
    suffix = Path(path).suffix.lower()
    return digest_file(Path(path)) + (suffix if suffix in (".csv", ".parquet") else "")


def refuse_kind(key: str, name: str, kinds: tuple[str, ...], plm: PlmSettings | ServedPlmSettings) -> None:
    """Raise UserError if a benchmark cannot measure this kind of PLM."""
    if plm.kind not in ("auto", *kinds):
        raise UserError.of(key, name, f"measures a model that is {' or '.join(kinds)}; {plm.name} is {plm.kind}")
