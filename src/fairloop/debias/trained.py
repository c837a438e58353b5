"""What the methods that train all weights of a PLM share: the budget, and the way from a loss to a folder."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import Field

from fairloop.debias import settings
from fairloop.errors import UserError
from fairloop.training.settings import OptimizationSettings

if TYPE_CHECKING:
    from fairloop.plm.settings import PlmSettings
    from fairloop.training.hook import Training

Loss = TypeVar("Loss", bound=OptimizationSettings)


class TrainedSettings(settings.MethodSettings):
    """The budget of a training: AdamW, linear warm-up, linear decay to zero."""

    steps: int = Field(200, ge=1, le=1_000_000, description="training steps; as many passes over the data as they take")
    batch_size: int = Field(32, ge=1, le=65536, description="items in one step, over all devices together")
    learning_rate: float = Field(5e-5, gt=0, le=10, description="highest learning rate, reached after the warm-up")
    warmup_share: float = Field(0.1, ge=0, lt=1, description="share of the steps over which the rate rises")
    weight_decay: float = Field(0.0, ge=0, le=1, description="AdamW's decay of matrices (not of biases or norms)")
    clip_norm: float = Field(1.0, ge=0, description="gradients are scaled down to this norm; 0: never")
    max_length: int = Field(128, ge=4, le=32768, description="tokens of a sentence; what is longer is cut")

    def optimization(self, loss: type[Loss], **own: Any) -> Loss:
        """Return the settings of a loss under this budget; `own` are the loss's own fields."""
        budget = self.model_dump(include=set(OptimizationSettings.model_fields))
        return loss(**budget, epochs=self.steps, max_steps=self.steps, **own)


def train(
    task: str,
    data: dict[str, Any],
    loss: OptimizationSettings,
    plm: "PlmSettings",
    folder: Path,
    training: "Training",
) -> None:
    """Train the PLM with the loss of `training.<task>` and write it into `folder`.

    Raises:
        UserError: `debias.batch_size` is more than there is to train on.
    """
    from fairloop.plm.locate import resolve
    from fairloop.training.tasks import train_plm

    try:
        trained = train_plm(
            task,
            str(resolve(plm.path, plm.revision)),
            data,
            loss,
            training.trainer,
            training.work,
            seed=training.seed,
            stage=f"debias {task}",
            revision=plm.revision,
            on_progress=training.on_progress,
            on_saved=training.on_saved,
        )
    except UserError as error:
        raise UserError(f"debias.{error}" if str(error).startswith("batch_size") else str(error)) from error
    shutil.copytree(trained.folder, folder, dirs_exist_ok=True)
