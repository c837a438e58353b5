"""The study `fair_gender`: its settings, and what it declares of itself."""

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, ValidationError

from fairloop.benchmarks.registry import benchmark, contents, settings_of
from fairloop.benchmarks.settings import BenchmarkSettings
from fairloop.config.choices import Choices
from fairloop.config.study import Models, StudySettings, file_contents, plm_model, refuse_kind
from fairloop.debias.registry import method
from fairloop.debias.settings import PairMethodSettings
from fairloop.errors import UserError
from fairloop.generation.server_settings import ServerSettings
from fairloop.pairs.sentence_files import KEY as SENTENCES
from fairloop.pairs.sentence_files import check_sentences
from fairloop.pairs.settings import PairSettings
from fairloop.plm.settings import ServedPlmSettings
from fairloop.settings import incidental, mistake

HELD_OUT_NEUTRAL = "study.held_out_neutral"
FEWEST = {"study.neutral": 2, HELD_OUT_NEUTRAL: 2, SENTENCES: 1}
"""Sentences that a file has at least: neutral ones to learn from and to evaluate; or no interval has a width."""


class FairGenderSettings(StudySettings):
    """Group `study`, option `fair_gender`: a PLM is debiased (group `debias`) and measured before and after."""

    version: ClassVar[int] = 7
    reads: ClassVar[tuple[str, ...]] = ("plm", "debias", "model", "benchmark", "ablation")

    name: Literal["fair_gender"]
    benchmarks: tuple[str | dict[str, Any], ...] = Field(
        min_length=1, strict=False, description="benchmarks, each before and after: a name, or {name: …, key: value}"
    )
    data: str | None = incidental(
        description="folder with a folder of publishers' files for each benchmark; null: cache"
    )
    resamples: int = Field(ge=100, le=100_000, description="bootstrap resamples of the benchmarks' intervals")
    neutral: str | None = incidental(
        description="file of sentences without gendered words to keep; null: packaged ones"
    )
    held_out_neutral: str | None = incidental(description="file of such sentences to measure; null: packaged ones")
    watched: float = Field(
        gt=0, lt=1, description="share of the neutral sentences for early stopping, not learned from"
    )

    def deciding(self) -> dict[str, Any]:
        """Return what decides a result; of each benchmark its name, and what it sets in `decides_also`."""
        return {**super().deciding(), "benchmarks": [_name(given) for given in self.benchmarks]}

    def decides_also(self, cell: Choices) -> dict[str, Any]:
        """Return what benchmarks set unlike their defaults."""
        changed: dict[str, Any] = {}
        for name, settings in self.measured_by(cell).items():
            usual = settings_of({"name": name} | self._resamples(name)).deciding()
            own = {key: value for key, value in settings.deciding().items() if value != usual.get(key)}
            changed |= {name: own} if own else {}
        return {"benchmarks": changed} if changed else {}

    def _resamples(self, name: str) -> dict[str, int]:
        """Return what decides the resamples of a benchmark; nothing where its intervals need none."""
        return {"resamples": self.resamples} if "resamples" in benchmark(name).settings.model_fields else {}

    def groups(self, cell: Choices) -> tuple[str, ...]:
        """The PLM, the method and, where it is asked, the generator; of `benchmark` only what one of ours takes."""
        return ("plm", "debias", "model") if self.generates(cell) else ("plm", "debias")

    def measured_by(self, cell: Choices) -> dict[str, BenchmarkSettings]:
        """Return the settings of each benchmark, in the order of the list.

        The group `benchmark` counts for the benchmark that it chooses, in what it sets unlike the default; what stands
        in the list itself goes before it.
        """
        chosen: dict[str, BenchmarkSettings] = {}
        of_group = cell.benchmark.model_dump(exclude_defaults=True)
        for given in self.benchmarks:
            name = _name(given)
            if name in chosen:
                raise UserError.of("study.benchmarks", name, "each benchmark once")
            values: dict[str, Any] = {"name": name, "data": self.data} | self._resamples(name)
            values |= of_group if name == cell.benchmark.name else {}
            values |= given if isinstance(given, dict) else {}
            if name == "perplexity" and values.get("text") is None:
                values["text"] = self.held_out_neutral
            try:
                chosen[name] = settings_of(values)
            except ValidationError as error:
                wrong = mistake(error, benchmark(name).settings, f"study.benchmarks.{name}.")
                raise UserError(wrong) from error
        return chosen

    def check(self, cell: Choices) -> None:
        """Refuse a method or a benchmark that this PLM does not allow, and files that are not there."""
        if isinstance(cell.plm, ServedPlmSettings):
            raise UserError.of("plm", cell.plm.name, "runs on a server, and study=fair_gender changes weights")
        method(cell.debias).check(cell.plm)
        for name in self.measured_by(cell):
            refuse_kind("study.benchmarks", name, benchmark(name).kinds, cell.plm)
        screen = cell.debias.screen if isinstance(cell.debias, PairMethodSettings) else None
        asks_generator = screen is not None and screen.enabled and screen.fluency == "generator"
        if asks_generator and isinstance(cell.model, ServerSettings):
            raise UserError.of(
                "debias.screen.fluency",
                "generator",
                f"needs its likelihoods, and {cell.model.name} runs on a server: plm or none",
            )
        files = self._files(cell)
        for key, path in files.items():
            if not Path(path).is_file():
                raise UserError.of(key, path, "there is no such file")
        for key, path in files.items():  # before a cell is there that a broken row would end
            if key in FEWEST:  # a file of the method's own it has read itself
                check_sentences(path, key, FEWEST[key])

    def unread(self, cell: Choices, group: str, *, in_sweep: bool) -> str:
        """As of every study; `benchmark` counts if it is in the list, and `model` in a sweep that asks a generator.

        A cell by itself may name a generator that it does not ask: it is one of a sweep that W&B's agent runs.
        """
        names = [_name(given) for given in self.benchmarks]
        if group == "benchmark" and cell.benchmark.name not in names:
            return f"{cell.benchmark.name} is not in study.benchmarks=[{','.join(names)}], and no other is measured"
        if group == "model" and in_sweep and not self.generates(cell):
            return f"no generator is asked for the pairs of debias={cell.debias.name}"
        return super().unread(cell, group, in_sweep=in_sweep)

    def generates(self, cell: Choices) -> bool:
        """Tell whether pairs are written or judged by the generator."""
        debias = cell.debias
        return (
            isinstance(debias, PairMethodSettings)
            and method(debias).uses_pairs
            and (debias.source == "llm" or (debias.screen.enabled and debias.screen.fluency == "generator"))
        )

    def models(self, cell: Choices) -> Models:
        """The PLM, and the classifier of toxicity where one is used."""
        screen = cell.debias.screen if isinstance(cell.debias, PairMethodSettings) else None
        if screen is None or not screen.enabled or screen.toxicity != "classifier" or screen.toxicity_model is None:
            return plm_model(cell.plm)
        return {**plm_model(cell.plm), "debias.screen.toxicity_model": (screen.toxicity_model, None)}

    def contents(self, cell: Choices) -> dict[str, str]:
        """The files of sentences, and of each benchmark the files that are not its publisher's."""
        read = {key: file_contents(path) for key, path in self._files(cell).items()}
        for name, settings in self.measured_by(cell).items():
            own = contents(settings)
            if getattr(settings, "text", None) == self.held_out_neutral:
                own.pop("text", None)  # named as what it is
            read |= {f"study.benchmarks.{name}.{key}": digest for key, digest in own.items()}
        return read

    def names(self, cell: Choices) -> dict[str, str]:
        """PLM, method and, where it is asked, the generator."""
        generator = {"model_name": cell.model.name} if self.generates(cell) else {}
        return {"plm_name": cell.plm.name, "debias_name": cell.debias.name, **generator}

    def _files(self, cell: Choices) -> dict[str, str]:
        """Return the files that are read, by the configuration key: of sentences, and those of the method's own."""
        debias, given = cell.debias, {"study.neutral": self.neutral, HELD_OUT_NEUTRAL: self.held_out_neutral}
        own = [key for key in type(debias).model_fields if debias.marked(key, "by_contents")]
        given |= {f"debias.{key}": getattr(debias, key) for key in own}
        if isinstance(debias, PairSettings) and debias.source != "swap":
            del given[SENTENCES]
        return {key: path for key, path in given.items() if path is not None}


def _name(given: str | dict[str, Any]) -> str:
    """Return the name of a benchmark in the list."""
    return given if isinstance(given, str) else str(given.get("name"))


STUDY = FairGenderSettings
