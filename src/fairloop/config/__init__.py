"""The whole configuration of a cell: its schema, and what of it decides the cell's result.

Nothing here imports torch, so that a wrong override is answered at once.
"""

import shutil
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, Union

from pydantic import Field, ValidationError, model_validator

from fairloop.benchmarks.settings import BenchmarkSettings
from fairloop.config.choices import Choices, InitialBiasSettings
from fairloop.config.study import Models, StudySettings, studies
from fairloop.debias.settings import MethodSettings
from fairloop.errors import FairloopError, UserError
from fairloop.generation.server_settings import ServerSettings, settings_class
from fairloop.generation.settings import ModelSettings
from fairloop.numerics import may_have_gpu
from fairloop.plm.locate import fingerprint
from fairloop.plm.settings import PlmSettings, ServedPlmSettings, plm_class
from fairloop.settings import Settings, mistake
from fairloop.tracking.settings import TrackingSettings
from fairloop.training.settings import TrainerSettings

if TYPE_CHECKING:
    AnyStudy = StudySettings
else:  # every study that declares itself in a file beside this one
    AnyStudy = Annotated[Union[tuple(studies().values())], Field(discriminator="name")]  # noqa: UP007

S = TypeVar("S", bound=StudySettings)


class Configuration(Choices):
    """One resolved cell."""

    study: AnyStudy

    @model_validator(mode="after")
    def _choices_go_together(self) -> "Configuration":
        self.study.check(self)
        return self

    def study_as(self, settings: type[S]) -> S:
        """Return the study's settings; only for cells of that study."""
        if not isinstance(self.study, settings):
            raise TypeError(f"this is a cell of the study {self.study.name}")
        return self.study

    @property
    def generates(self) -> bool:
        """Whether the study asks the generator (group `model`)."""
        return self.study.generates(self)

    @property
    def models(self) -> Models:
        """The models that the study loads: path and revision by the configuration key of the path."""
        loaded = self.generates and not isinstance(self.model, ServerSettings)
        generator = {"model.path": (self.model.path, self.model.revision)} if loaded else {}
        return {**self.study.models(self), **generator}

    def check_surroundings(self, *, local: bool) -> None:
        """Refuse a key that is not set and, if the cell runs on this machine (`local`), what it has not.

        That is a GPU, and the command that is to start the workers of a training.
        """
        if self.generates and isinstance(self.model, ServerSettings):
            self.model.check_surroundings()
        asked = {"trainer.accelerator": self.trainer.accelerator == "gpu"}
        if "plm" in self.study.reads and isinstance(self.plm, ServedPlmSettings):
            self.plm.check_surroundings()
        elif "plm" in self.study.reads:
            asked["plm.device"] = "cuda" in self.local_plm.device
        for key, wanted in asked.items():
            if local and wanted and not may_have_gpu():
                value = self.trainer.accelerator if key.startswith("trainer") else self.local_plm.device
                raise UserError.of(key, value, "no GPU on this machine; use cpu or auto")
        launcher = self.trainer.launcher
        if local and launcher and shutil.which(launcher[0]) is None:
            raise UserError.of("trainer.launcher", f"[{','.join(launcher)}]", f"{launcher[0]} is no command here")

    def deciding(self) -> dict[str, Any]:
        """Return what decides the cell's result.

        Weights are named by their contents, not by where they lie, and so are files; weights behind a server by what it
        calls them.
        """
        settings = super().deciding()
        weights = {key: fingerprint(path, revision, key) for key, (path, revision) in self.models.items()}
        if self.generates and isinstance(self.model, ServerSettings):
            weights["model.path"] = self.model.identity
        if "plm" in self.study.reads and isinstance(self.plm, ServedPlmSettings):
            weights["plm.path"] = self.plm.identity
        chosen = {group: settings[group] for group in ("study", *self.study.groups(self), "seed")}
        files = self.study.contents(self)
        return {**chosen, "weights": weights, **({"files": files} if files else {}), **self.study.decides_also(self)}


def check(plain: dict[str, Any]) -> Configuration:
    """Check a resolved configuration; the first mistake is a UserError of one line."""
    try:
        return Configuration.model_validate(plain)
    except ValidationError as error:
        raise UserError(mistake(error, Configuration)) from error


# --- cells that were finished before they kept `deciding.json` -------------------------------------------------------

_UNREAD = {
    "model": ModelSettings.model_construct(name=""),
    "initial_bias": InitialBiasSettings(level=0, neutral_share=0),
    "mitigation": {},
    "metric": {},
    "plm": PlmSettings.model_construct(name=""),
    "benchmark": BenchmarkSettings.model_construct(name=""),
    "debias": MethodSettings.model_construct(name=""),
    "tracking": TrackingSettings.model_construct(),
    "trainer": TrainerSettings.model_construct(),
}
"""What stands in for the groups that a study does not read, whose settings today's schema may no longer know."""


def deciding_of(plain: dict[str, Any]) -> dict[str, Any]:
    """Return what would stand in the `deciding.json` of a cell that has none, rebuilt from its `config.yaml`.

    It is what a cell of today would record. Where today's schema does not take the configuration (a key that is gone, a
    file that is not there any more) it is the groups that the study reads, less the keys that decide nothing.

    Args:
        plain: the resolved configuration of the cell, as plain data.
    """
    study = studies().get(str(_at(plain, "study").get("name")))
    if study is None:
        return plain
    known = {key: value for key, value in plain.items() if key in Configuration.model_fields}
    unread = {group: value for group, value in _UNREAD.items() if group not in study.reads}
    try:
        return {**check({**known, **unread}).deciding(), "version": study.version}
    except FairloopError:
        return _decisive(plain, study)


def _decisive(plain: dict[str, Any], study: type[StudySettings]) -> dict[str, Any]:
    """Return the groups that a study reads without the keys that are known to decide nothing."""
    schemas = {"study": study, "model": settings_class(_at(plain, "model")), "plm": plm_class(_at(plain, "plm"))}
    kept = {
        group: _without_incidental(plain[group], schemas.get(group, BenchmarkSettings))
        for group in ("study", *study.reads, "seed")
        if group in plain
    }
    weights = {f"{group}.path": str(_at(plain, group)["path"]) for group in kept if "path" in _at(plain, group)}
    return {**kept, "weights": weights, "version": study.version}


def _without_incidental(values: Any, schema: type[Settings]) -> Any:
    if not isinstance(values, dict):
        return values
    return {key: value for key, value in values.items() if not schema.marked(key, "incidental")}


def _at(plain: dict[str, Any], group: str) -> dict[str, Any]:
    found = plain.get(group)
    return found if isinstance(found, dict) else {}
