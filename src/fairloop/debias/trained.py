"""The way from a loss to a folder, for the methods that train weights of a PLM."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from fairloop.debias.start import longest
from fairloop.errors import UserError
from fairloop.training.settings import BudgetSettings

if TYPE_CHECKING:
    from fairloop.plm.settings import PlmSettings
    from fairloop.training.hook import Training
    from fairloop.training.job import TrainingTask
    from fairloop.training.train import TrainingResult

Budget = TypeVar("Budget", bound=BudgetSettings)


def within_window(settings: Budget, plm: "PlmSettings") -> Budget:
    """Return the settings with sentences of no more tokens than the PLM takes."""
    return settings.model_copy(update={"max_length": longest(plm, settings.max_length)})


def train_into(
    folder: Path, task: "TrainingTask", plm: "PlmSettings", training: "Training", *, stage: str
) -> "TrainingResult":
    """Train the PLM with the loss of a task and write it into `folder`; `stage` names the random numbers.

    Raises:
        UserError: `debias.batch_size` is more than there is to train on.
    """
    from fairloop.plm.locate import resolve
    from fairloop.training.train import train

    where = resolve(plm.path, plm.revision)
    try:
        trained = train(task, where, training, stage=stage, revision=plm.revision)
    except UserError as error:
        raise UserError(f"debias.{error}" if str(error).startswith("batch_size") else str(error)) from error
    shutil.copytree(trained.folder, folder, dirs_exist_ok=True)
    return trained
