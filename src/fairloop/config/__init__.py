"""The whole configuration of a cell: its schema, and what of it decides the cell's result.

Nothing here imports torch, so that a wrong override is answered at once.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SerializeAsAny, ValidationError, field_validator, model_validator

from fairloop.benchmarks.registry import benchmark, settings_of
from fairloop.benchmarks.settings import BenchmarkSettings
from fairloop.corpus.seed import surplus
from fairloop.debias.registry import method as debias_method
from fairloop.debias.registry import settings_of as debias_settings
from fairloop.debias.settings import MethodSettings, PairMethodSettings
from fairloop.errors import UserError
from fairloop.files import digest_file
from fairloop.generation.server_settings import ServerSettings, settings_class
from fairloop.generation.settings import ModelSettings
from fairloop.mitigation.compose import compose as compose_strategies
from fairloop.mitigation.compose import validate as validate_strategies
from fairloop.pairs.sentence_files import KEY as SENTENCES
from fairloop.pairs.sentence_files import check_sentences
from fairloop.pairs.settings import PairSettings
from fairloop.plm.locate import fingerprint
from fairloop.plm.settings import PlmSettings
from fairloop.settings import Settings, incidental, mistake
from fairloop.tracking.settings import TrackingSettings
from fairloop.training.settings import TrainerSettings

# The version of each study's method. It is part of a cell's name: raise it when a change of the code changes results,
# and cells computed before are no longer taken for finished.
METHODS = {"recursion": 2, "evaluate": 1, "metric_calibration": 1, "fair_gender": 3}

# The groups that decide the result of each study's cells; `model` only where the study asks a generator.
DECIDING = {
    "recursion": ("study", "model", "initial_bias", "mitigation", "seed"),
    "evaluate": ("study", "plm", "benchmark", "seed"),
    "metric_calibration": ("study", "seed"),
    "fair_gender": ("study", "plm", "debias", "model", "seed"),
}


class RecursionSettings(Settings):
    """Group `study`, option `recursion`: an LLM writes data from its own data (arXiv 2511.10689)."""

    name: Literal["recursion"]
    generations: int = Field(ge=1, le=1000, description="rounds after the seed corpus, which is generation 0")
    sentences: int = Field(ge=1, le=1_000_000, description="sentences of each generation")
    examples: int = Field(ge=1, le=100, description="k: sentences of the previous generation that a prompt shows")
    prompt_group: int = Field(ge=1, description="prompts that share the same k examples")
    max_attempts: int = Field(ge=1, le=1000, description="asks for one sentence before its examples are drawn anew")
    min_yield: float = Field(ge=0, le=1, description="share of usable sentences under which the cell ends")
    encoder: str = incidental(min_length=1, description="sentence encoder: embedded:NAME, a Hub id or a folder")
    resamples: int = Field(ge=100, le=1_000_000, description="bootstrap resamples of every interval")


class EvaluateSettings(Settings):
    """Group `study`, option `evaluate`: a pre-trained language model (`plm`) on a `benchmark`."""

    name: Literal["evaluate"]


class FairGenderSettings(Settings):
    """Group `study`, option `fair_gender`: a PLM is debiased (group `debias`) and measured before and after."""

    name: Literal["fair_gender"]
    benchmarks: tuple[str, ...] = Field(min_length=1, strict=False, description="benchmarks, each before and after")
    data: str | None = incidental(
        description="folder with a folder of publishers' files for each benchmark; null: cache"
    )
    resamples: int = Field(ge=100, le=100_000, description="bootstrap resamples of every interval")
    neutral: str | None = incidental(
        description="file of sentences without gendered words to keep; null: packaged ones"
    )
    held_out_neutral: str | None = incidental(description="file of such sentences to measure; null: packaged ones")
    watched: float = Field(gt=0, lt=1, description="share of the neutral sentences that is watched, not learned from")

    @property
    def files(self) -> dict[str, str]:
        """The files of sentences that were given, by the configuration key."""
        given = {"study.neutral": self.neutral, "study.held_out_neutral": self.held_out_neutral}
        return {key: path for key, path in given.items() if path is not None}


NetRate = Annotated[float, Field(ge=-1, le=1)]
Share = Annotated[float, Field(gt=0, le=1)]


class MetricCalibrationSettings(Settings):
    """Group `study`, option `metric_calibration`: every corpus metric on corpora of known net stereotype rate."""

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
    encoder: str = incidental(min_length=1, description="sentence encoder: embedded:NAME, a Hub id or a folder")

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


class InitialBiasSettings(Settings):
    """Group `initial_bias`: the net stereotype rate of the seed corpus."""

    level: float = Field(ge=0, le=1, description="net stereotype rate of generation 0")
    neutral_share: float = Field(ge=0, le=1, description="share of the other sentences that has no gendered words")


class Configuration(Settings):
    """One resolved cell."""

    study: Annotated[
        RecursionSettings | EvaluateSettings | MetricCalibrationSettings | FairGenderSettings,
        Field(discriminator="name"),
    ]
    model: ModelSettings | ServerSettings
    initial_bias: InitialBiasSettings
    mitigation: dict[str, Any] = Field(description="strategies by name, whose order decides nothing; empty for none")
    plm: PlmSettings
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
    objective: str | None = incidental(
        None, min_length=1, description="measure in result.json that a search (hydra/sweeper=optuna) improves"
    )
    gpu_share: float | None = incidental(
        None, gt=0, le=1, description="share of one GPU for each cell beside others on a machine; null: not shared out"
    )

    @field_validator("model", mode="before")
    @classmethod
    def _generator_has_its_own_settings(cls, chosen: Any) -> Any:
        if not isinstance(chosen, dict):
            return chosen
        generator = settings_class(chosen)
        try:
            return generator.model_validate(chosen)
        except ValidationError as error:
            raise UserError(mistake(error, generator, "model.")) from error

    @field_validator("mitigation", mode="before")
    @classmethod
    def _strategies_are_known(cls, chosen: Any) -> Any:
        return validate_strategies(chosen) if isinstance(chosen, dict) else chosen

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

    @model_validator(mode="after")
    def _choices_go_together(self) -> "Configuration":
        study = self.study
        if isinstance(study, FairGenderSettings):
            self._debiasing_goes_together(study)
            return self
        if isinstance(study, EvaluateSettings):
            kinds = benchmark(self.benchmark.name).kinds
            if self.plm.kind not in ("auto", *kinds):
                raise UserError.of(
                    "benchmark",
                    self.benchmark.name,
                    f"measures a model that is {' or '.join(kinds)}; {self.plm.name} is {self.plm.kind}",
                )
            return self
        if isinstance(study, MetricCalibrationSettings):
            return self
        if study.examples > study.sentences:
            raise UserError.of(
                "study.examples",
                study.examples,
                f"at most study.sentences ({study.sentences}), which they are drawn from",
            )
        strategies = compose_strategies(self.mitigation)
        if strategies.trains_generator and isinstance(self.model, ServerSettings):
            raise UserError.of(
                "mitigation",
                strategies.name,
                f"trains the generator, and {self.model.name} runs on a server: choose a model of this process",
            )
        strategies.check(self.model, study.sentences)
        return self

    def _debiasing_goes_together(self, study: FairGenderSettings) -> None:
        debias_method(self.debias).check(self.plm)
        for name in study.benchmarks:
            kinds = benchmark(name).kinds
            if self.plm.kind not in ("auto", *kinds):
                raise UserError.of(
                    "study.benchmarks", name, f"measures a model that is {' or '.join(kinds)}, not {self.plm.kind}"
                )
        debias = self.debias
        judge = debias.screen.fluency if isinstance(debias, PairMethodSettings) and debias.screen.enabled else "none"
        if judge == "generator" and isinstance(self.model, ServerSettings):
            raise UserError.of(
                "debias.screen.fluency",
                "generator",
                f"needs its likelihoods, and {self.model.name} runs on a server: plm or none",
            )
        for key, path in self.files.items():
            if not Path(path).is_file():
                raise UserError.of(key, path, "there is no such file")
        if (swapped := self.files.get(SENTENCES)) is not None:
            check_sentences(swapped)  # before a cell is there that the broken row would end

    @property
    def files(self) -> dict[str, str]:
        """Files of sentences that the study reads, by the configuration key."""
        if not isinstance(self.study, FairGenderSettings):
            return {}
        debias = self.debias
        swapped = isinstance(debias, PairSettings) and debias.source == "swap" and debias.swap_file
        return {**self.study.files, **({SENTENCES: str(swapped)} if swapped else {})}

    @property
    def fair_gender(self) -> FairGenderSettings:
        """The study's settings; only for cells of the study fair_gender."""
        if not isinstance(self.study, FairGenderSettings):
            raise TypeError(f"this is a cell of the study {self.study.name}")
        return self.study

    @property
    def local_model(self) -> ModelSettings:
        """The settings of a generator in this process; only where the generator is one."""
        if not isinstance(self.model, ModelSettings):
            raise TypeError(f"{self.model.name} runs on a server")
        return self.model

    @property
    def generates(self) -> bool:
        """Whether the study asks the generator (group `model`)."""
        if isinstance(self.study, FairGenderSettings):
            debias = self.debias
            return isinstance(debias, PairMethodSettings) and (
                debias.source == "llm" or (debias.screen.enabled and debias.screen.fluency == "generator")
            )
        return isinstance(self.study, RecursionSettings)

    @property
    def recursion(self) -> RecursionSettings:
        """The study's settings; only for cells of the recursion study."""
        if not isinstance(self.study, RecursionSettings):
            raise TypeError(f"this is a cell of the study {self.study.name}")
        return self.study

    @property
    def metric_calibration(self) -> MetricCalibrationSettings:
        """The study's settings; only for cells of the study metric_calibration."""
        if not isinstance(self.study, MetricCalibrationSettings):
            raise TypeError(f"this is a cell of the study {self.study.name}")
        return self.study

    @property
    def strategies(self) -> str:
        """The mitigation as one word for names and tables: `none`, or its strategies joined by `+`."""
        return compose_strategies(self.mitigation).name

    @property
    def models(self) -> dict[str, tuple[str, str | None]]:
        """The models that the study loads: path and revision by the configuration key of the path."""
        loaded = self.generates and not isinstance(self.model, ServerSettings)
        generator = {"model.path": (self.model.path, self.model.revision)} if loaded else {}
        if isinstance(self.study, EvaluateSettings):
            return {"plm.path": (self.plm.path, self.plm.revision)}
        if isinstance(self.study, FairGenderSettings):
            return {"plm.path": (self.plm.path, self.plm.revision), **generator, **self._toxicity_model}
        if isinstance(self.study, MetricCalibrationSettings):
            return {"study.encoder": (self.study.encoder, None)}
        return {**generator, "study.encoder": (self.recursion.encoder, None)}

    @property
    def _toxicity_model(self) -> dict[str, tuple[str, str | None]]:
        screen = self.debias.screen if isinstance(self.debias, PairMethodSettings) else None
        if screen is None or not screen.enabled or screen.toxicity != "classifier" or screen.toxicity_model is None:
            return {}
        return {"debias.screen.toxicity_model": (screen.toxicity_model, None)}

    def deciding(self) -> dict[str, Any]:
        """Return what decides the cell's result.

        Weights are named by their contents, not by where they lie; those behind a server by what it calls them.
        """
        groups = [group for group in DECIDING[self.study.name] if group != "model" or self.generates]
        settings = super().deciding()
        weights = {key: fingerprint(path, revision, key) for key, (path, revision) in self.models.items()}
        if self.generates and isinstance(self.model, ServerSettings):
            weights["model.path"] = self.model.identity
        chosen = {**{group: settings[group] for group in groups}, "weights": weights}
        if self.files:
            chosen["files"] = {key: _contents(Path(path)) for key, path in self.files.items()}
        return chosen


def _contents(path: Path) -> str:
    """Return what names a file of sentences: its digest, and how it is to be read if not as lines."""
    suffix = path.suffix.lower()
    return digest_file(path) + (suffix if suffix in (".csv", ".parquet") else "")


def check(plain: dict[str, Any]) -> Configuration:
    """Check a resolved configuration; the first mistake is a UserError of one line."""
    try:
        return Configuration.model_validate(plain)
    except ValidationError as error:
        raise UserError(mistake(error, Configuration)) from error
