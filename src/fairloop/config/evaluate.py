"""The study `evaluate`: its settings, and what it declares of itself."""

from typing import ClassVar, Literal

from fairloop.benchmarks.registry import benchmark, contents
from fairloop.benchmarks.settings import BenchmarkSettings
from fairloop.config.choices import Choices
from fairloop.config.study import Models, StudySettings, plm_model, refuse_kind
from fairloop.plm.settings import ServedPlmSettings


class EvaluateSettings(StudySettings):
    """Group `study`, option `evaluate`: a pre-trained language model (`plm`) on a `benchmark`."""

    reads: ClassVar[tuple[str, ...]] = ("plm", "benchmark")
    version: ClassVar[int] = 3

    name: Literal["evaluate"]

    def check(self, cell: Choices) -> None:
        """Refuse a benchmark that cannot measure this kind of PLM, or needs what a server does not return."""
        chosen = benchmark(cell.benchmark.name)
        refuse_kind("benchmark", cell.benchmark.name, chosen.kinds, cell.plm)
        if isinstance(cell.plm, ServedPlmSettings):
            cell.plm.refuse_unserved(cell.benchmark.name, chosen.needs)

    def models(self, cell: Choices) -> Models:
        """The PLM."""
        return plm_model(cell.plm)

    def contents(self, cell: Choices) -> dict[str, str]:
        """The benchmark's data, where it is not the publisher's."""
        return {f"benchmark.{key}": digest for key, digest in contents(cell.benchmark).items()}

    def measured_by(self, cell: Choices) -> dict[str, BenchmarkSettings]:
        """The one benchmark."""
        return {cell.benchmark.name: cell.benchmark}

    def names(self, cell: Choices) -> dict[str, str]:
        """PLM and benchmark."""
        return {"plm_name": cell.plm.name, "benchmark_name": cell.benchmark.name}


STUDY = EvaluateSettings
