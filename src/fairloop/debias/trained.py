"""The way from a loss to a folder, for the methods that train weights of a PLM."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairloop.debias.start import longest
from fairloop.errors import UserError
from fairloop.training.settings import OptimizationSettings

if TYPE_CHECKING:
    from fairloop.plm.settings import PlmSettings
    from fairloop.training.hook import Training


def train(
    task: str,
    stage: str,
    data: dict[str, Any],
    loss: OptimizationSettings,
    plm: "PlmSettings",
    folder: Path,
    training: "Training",
) -> None:
    """Train the PLM with the loss of the module `task` and write it into `folder`.

    Raises:
        UserError: `debias.batch_size` is more than there is to train on.
    """
    from fairloop.plm.locate import resolve
    from fairloop.training.tasks import train_plm

    loss = loss.model_copy(update={"max_length": longest(plm, loss.max_length)})
    try:
        trained = train_plm(
            task,
            str(resolve(plm.path, plm.revision)),
            data,
            loss,
            training.trainer,
            training.work,
            seed=training.seed,
            stage=stage,
            revision=plm.revision,
            on_progress=training.on_progress,
            on_logged=training.on_logged,
        )
    except UserError as error:
        raise UserError(f"debias.{error}" if str(error).startswith("batch_size") else str(error)) from error
    shutil.copytree(trained.folder, folder, dirs_exist_ok=True)
