"""The config groups of a cell, checked each by its own schema. Nothing here imports torch."""

from typing import Annotated, Any, Literal

from pydantic import Field, SerializeAsAny, ValidationError, ValidationInfo, field_validator

from fairloop.benchmarks.registry import benchmark, settings_of
from fairloop.benchmarks.settings import BenchmarkSettings
from fairloop.debias.registry import settings_of as debias_settings
from fairloop.debias.settings import MethodSettings
from fairloop.errors import UserError
from fairloop.generation.server_settings import ServerSettings, settings_class
from fairloop.generation.settings import ModelSettings
from fairloop.metrics.registry import metric as metric_of
from fairloop.metrics.registry import settings_of as metric_settings
from fairloop.mitigation.compose import compose as compose_strategies
from fairloop.mitigation.compose import validate as validate_strategies
from fairloop.plm.settings import PlmSettings, ServedPlmSettings, plm_class
from fairloop.settings import Settings, incidental, mistake
from fairloop.tracking.settings import TrackingSettings
from fairloop.training.settings import TrainerSettings


class InitialBiasSettings(Settings):
    """Group `initial_bias`: the net stereotype rate of the seed corpus."""

    level: float = Field(ge=0, le=1, description="net stereotype rate of generation 0")
    neutral_share: float = Field(ge=0, le=1, description="share of the other sentences that has no gendered words")


class Choices(Settings):
    """What is chosen in every config group: what a study is given to declare itself of a cell."""

    study: Settings
    model: ModelSettings | ServerSettings
    initial_bias: InitialBiasSettings
    mitigation: dict[str, Any] = Field(description="strategies by name, whose order decides nothing; empty for none")
    metric: dict[str, Any] = Field({}, description="settings of metrics by name; empty: their defaults")
    plm: PlmSettings | ServedPlmSettings
    benchmark: SerializeAsAny[BenchmarkSettings]
    debias: SerializeAsAny[MethodSettings]
    trainer: TrainerSettings = incidental()
    tracking: TrackingSettings = incidental()
    seed: int = Field(ge=0, lt=2**31, description="seed of every random number of the cell")
    runs_dir: str = incidental(min_length=1, description="folder of the run store")
    on_failure: Literal["continue", "stop"] = incidental(
        "continue", description="after a cell failed: continue with the others, or stop and start no other"
    )
    retry_failed: bool = incidental(True, description="true: failed cells are tried again; false: they are listed")
    objective: (
        Annotated[str, Field(min_length=1)]
        | Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1, strict=False)]
        | None
    ) = incidental(None, description="measure in result.json, or a list of several, that a search improves")
    gpu_share: float | None = incidental(
        None, gt=0, le=1, description="share of one GPU for each cell beside others on a machine; null: not shared out"
    )
    lease_seconds: float | None = incidental(
        None,
        ge=1,
        le=3600,
        description="seconds without a sign after which a cell's process counts as gone; null: flock",
    )

    @field_validator("model", "plm", mode="before")
    @classmethod
    def _served_models_have_their_own_settings(cls, chosen: Any, field: ValidationInfo) -> Any:
        if not isinstance(chosen, dict):
            return chosen
        settings = settings_class(chosen) if field.field_name == "model" else plm_class(chosen)
        try:
            return settings.model_validate(chosen)
        except ValidationError as error:
            raise UserError(mistake(error, settings, f"{field.field_name}.")) from error

    @field_validator("mitigation", mode="before")
    @classmethod
    def _strategies_are_known(cls, chosen: Any) -> Any:
        return validate_strategies(chosen) if isinstance(chosen, dict) else chosen

    @field_validator("metric", mode="before")
    @classmethod
    def _metrics_have_their_own_settings(cls, chosen: Any) -> Any:
        if not isinstance(chosen, dict):
            return chosen
        settings: dict[str, Settings] = {}
        for name, values in sorted(chosen.items(), key=str):
            try:
                settings[name] = metric_settings(name, values or {})
            except ValidationError as error:
                raise UserError(mistake(error, metric_of(name).settings or Settings, f"metric.{name}.")) from error
        return settings

    @field_validator("benchmark", mode="before")
    @classmethod
    def _benchmark_has_its_own_settings(cls, chosen: Any) -> Any:
        if not isinstance(chosen, dict):
            return chosen
        try:
            return settings_of(chosen)
        except ValidationError as error:
            chosen_class = benchmark(chosen["name"]).settings
            raise UserError(mistake(error, chosen_class, "benchmark.")) from error

    @field_validator("debias", mode="before")
    @classmethod
    def _method_has_its_own_settings(cls, chosen: Any) -> Any:
        return debias_settings(chosen) if isinstance(chosen, dict) else chosen

    @property
    def local_model(self) -> ModelSettings:
        """The settings of a generator in this process; only where the generator is one."""
        if not isinstance(self.model, ModelSettings):
            raise TypeError(f"{self.model.name} runs on a server")
        return self.model

    @property
    def local_plm(self) -> PlmSettings:
        """The settings of a PLM in this process; only where it is one."""
        if not isinstance(self.plm, PlmSettings):
            raise TypeError(f"{self.plm.name} runs on a server")
        return self.plm

    @property
    def strategies(self) -> str:
        """The mitigation as one word for names and tables: `none`, or its strategies joined by `+`."""
        return compose_strategies(self.mitigation).name
