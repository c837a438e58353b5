"""The study `metric_calibration`: its settings, and what it declares of itself."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from fairloop.config.choices import Choices
from fairloop.config.metrics import MetricStudySettings
from fairloop.corpus.seed import surplus
from fairloop.errors import UserError

NetRate = Annotated[float, Field(ge=-1, le=1)]
Share = Annotated[float, Field(gt=0, le=1)]


class MetricCalibrationSettings(MetricStudySettings):
    """Group `study`, option `metric_calibration`: every corpus metric on corpora of known net stereotype rate."""

    version: ClassVar[int] = 4
    reads: ClassVar[tuple[str, ...]] = ("metric",)

    name: Literal["metric_calibration"]
    levels: list[NetRate] = Field(min_length=3, description="net stereotype rates of the corpora, all different")
    reference: float = Field(description="the level at which local slope and sensitivity are taken")
    sizes: list[Annotated[int, Field(ge=1, le=1_000_000)]] = Field(min_length=1, description="sentences of a corpus")
    replicates: list[Annotated[int, Field(ge=2, le=10_000)]] = Field(
        min_length=1, description="corpora at each level, one number for each size"
    )
    neutral_share: float = Field(ge=0, le=1, description="share of the other sentences that has no gendered words")
    augment_rates: list[Share] = Field(description="shares of gendered sentences whose swapped variant is added")
    augment_size: int = Field(description="the size at which corpora are also augmented")

    @model_validator(mode="after")
    def _choices_go_together(self) -> "MetricCalibrationSettings":
        for key in ("levels", "sizes", "augment_rates"):
            values = getattr(self, key)
            if len(set(values)) < len(values):
                raise UserError.of(f"study.{key}", values, "each value once")
        if len(self.replicates) != len(self.sizes):
            raise UserError.of("study.replicates", self.replicates, f"one number for each of study.sizes {self.sizes}")
        if self.reference not in self.levels:
            raise UserError.of("study.reference", self.reference, f"one of study.levels {self.levels}")
        if self.augment_rates and self.augment_size not in self.sizes:
            raise UserError.of("study.augment_size", self.augment_size, f"one of study.sizes {self.sizes}")
        for size in self.sizes:
            if len({surplus(level, size) for level in self.levels}) < len(self.levels):
                raise UserError.of("study.sizes", size, f"enough sentences to tell the levels {self.levels} apart")
        return self

    def names(self, cell: Choices) -> dict[str, str]:
        """The sentence encoder."""
        return {"encoder_name": self.encoder}


STUDY = MetricCalibrationSettings
