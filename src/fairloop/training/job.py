"""One training as plain data: what a study describes, and what its workers read."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fairloop.files import write_json
from fairloop.training.settings import TrainerSettings


@dataclass(frozen=True)
class Job:
    """One training as plain data."""

    task: str  # "causal_lm", "contrastive", "classifier", or the dotted name of the module that trains a PLM
    model: str  # folder or Hub id; empty for a classifier on vectors
    data: Any
    settings: dict[str, Any]
    trainer: dict[str, Any]
    seed: int
    stage: str
    folder: str
    revision: str | None = None  # of a Hub id

    def write(self) -> Path:
        """Write the job for workers to read."""
        path = Path(self.folder) / "job.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, asdict(self))
        return path

    @classmethod
    def read(cls, path: Path) -> "Job":
        """Read a job that `write` wrote."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))

    @property
    def trainer_settings(self) -> TrainerSettings:
        """Where and how it runs."""
        return TrainerSettings.model_validate(self.trainer)
