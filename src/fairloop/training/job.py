"""One training, described: a study makes it, and with several devices the workers read it from a file."""

import importlib
import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from fairloop.files import write_json
from fairloop.settings import Settings
from fairloop.training.hook import Training
from fairloop.training.settings import StepSettings, TrainerSettings

if TYPE_CHECKING:
    from fairloop.training.data import TrainingData
    from fairloop.training.module import TrainingModule


@dataclass(frozen=True)
class Components:
    """What a training consists of: its module and data, and the tokenizer where there is one."""

    module: "TrainingModule"
    data: "TrainingData"
    tokenizer: Any = None


@dataclass(frozen=True)
class TrainingTask:
    """What is trained on: the settings and the data of one loss, and how its training is set up.

    A loss has a frozen dataclass of this kind. Its fields are declared, plain types (numbers, texts, tuples, settings
    and dataclasses of these): a worker gets them as JSON. A field with the metadata `incidental` decides no weight.
    """

    settings: StepSettings

    def components(self, job: "TrainingJob") -> Components:
        """Return module and data, equal in every process that sets the job up."""
        raise NotImplementedError

    def save(self, components: Components, folder: Path, job: "TrainingJob") -> None:
        """Write the trained model as a Hugging Face folder: the whole model, adapters merged, and its tokenizer."""
        trained: Any = components.module.model
        whole = trained.merge_and_unload() if hasattr(trained, "merge_and_unload") else trained
        whole.save_pretrained(folder)
        components.tokenizer.save_pretrained(folder)

    def plain(self) -> dict[str, Any]:
        """Return the task as JSON has it."""
        plain: dict[str, Any] = TypeAdapter(type(self)).dump_python(self, mode="json")
        return plain

    def identity(self) -> dict[str, Any]:
        """Return, as plain data, what decides the weights: what a checkpoint belongs to."""
        plain = self.plain()
        for field in fields(self):
            value = getattr(self, field.name)
            if field.metadata.get("incidental"):
                del plain[field.name]
            elif isinstance(value, Settings):
                plain[field.name] = value.deciding()
        return plain


@dataclass(frozen=True)
class TrainingJob:
    """One training.

    Attributes:
        task: what is trained on.
        model: folder or Hub id of the model to start from; empty for a classifier of vectors.
        training: where it trains, its seed and its folder, and whom it tells.
        stage: names its random numbers.
        revision: of a Hub id; None is the newest.
    """

    task: TrainingTask
    model: str
    training: Training
    stage: str
    revision: str | None = None

    @property
    def seed(self) -> int:
        """The study's seed."""
        return self.training.seed

    @property
    def trainer(self) -> TrainerSettings:
        """Where and how it runs."""
        return self.training.trainer

    @property
    def folder(self) -> Path:
        """Where its checkpoints and its result lie."""
        return self.training.work

    def write(self) -> Path:
        """Write the job for workers to read: all but whom it tells."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "job.json"
        plain = {
            "class": f"{type(self.task).__module__}:{type(self.task).__qualname__}",
            "task": self.task.plain(),
            "trainer": self.trainer.model_dump(mode="json"),
            **{name: getattr(self, name) for name in ("model", "seed", "stage", "revision")},
        }
        write_json(path, plain)
        return path

    @classmethod
    def read(cls, path: Path, **told: Any) -> "TrainingJob":
        """Read a job that `write` wrote beside its checkpoints; `told` are the callbacks of `Training`."""
        plain = json.loads(path.read_text(encoding="utf-8"))
        module, name = plain["class"].split(":")
        task = TypeAdapter(getattr(importlib.import_module(module), name)).validate_json(json.dumps(plain["task"]))
        trainer = TrainerSettings.model_validate_json(json.dumps(plain["trainer"]))
        training = Training(trainer, plain["seed"], path.parent, **told)
        return cls(task, plain["model"], training, plain["stage"], plain["revision"])
