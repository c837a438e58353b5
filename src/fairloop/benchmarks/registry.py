"""Find a benchmark by the name of its file, and measure a model with it."""

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairloop.console import OnProgress
from fairloop.errors import UserError

if TYPE_CHECKING:
    from fairloop.benchmarks.result import Benchmark, BenchmarkResult
    from fairloop.benchmarks.settings import BenchmarkSettings
    from fairloop.plm.model import LanguageModel, ScoreMemory
    from fairloop.training.settings import TrainerSettings


@cache
def benchmarks() -> "dict[str, Benchmark]":
    """Return every benchmark: each module of this package that has a `BENCHMARK`."""
    import fairloop.benchmarks as package

    found = {}
    for module in pkgutil.iter_modules(package.__path__):
        benchmark = getattr(importlib.import_module(f"{package.__name__}.{module.name}"), "BENCHMARK", None)
        if benchmark is not None:
            found[module.name] = benchmark
    return found


def benchmark(name: str) -> "Benchmark":
    """Return the benchmark of that name; `UserError` if there is none."""
    if name not in benchmarks():
        raise UserError.of("benchmark", name, f"choose one of {', '.join(sorted(benchmarks()))}")
    return benchmarks()[name]


def settings_of(values: Mapping[str, Any]) -> "BenchmarkSettings":
    """Validate the config group `benchmark` with the settings class of the benchmark that its `name` names.

    Raises:
        UserError: if no benchmark has that name.
        pydantic.ValidationError: if a key or a value is wrong.
    """
    return benchmark(str(values.get("name"))).settings.model_validate(dict(values))


def contents(settings: "BenchmarkSettings") -> dict[str, str]:
    """Return what names the contents of the user's files that a benchmark reads, by the key that leads to them.

    Nothing stands for the publisher's own data: a folder that holds it and the cache are the same.

    Raises:
        UserError: a file or folder that was given is not there.
    """
    from fairloop.benchmarks import data

    chosen, read = benchmark(settings.name), dict[str, str]()
    if chosen.given is not None:
        paths = chosen.given(settings)
        named = {f"{place} {path.name}": data.file_digest(path) for place, path in enumerate(paths)}
        read |= {"data": data.digest_files(named)} if paths else {}
    elif (files := chosen.reads(settings)) is not None and (found := data.contents(files, settings.data)) is not None:
        read["data"] = found
    for key in type(settings).model_fields:
        if settings.marked(key, "by_contents") and (path := getattr(settings, key)) is not None:
            if not Path(path).expanduser().is_file():
                raise UserError.of(f"benchmark.{key}", path, "there is no such file")
            read[key] = data.file_digest(Path(path).expanduser())
    return read


def provide(settings: "BenchmarkSettings") -> None:
    """Have a benchmark's data on this machine, fetched if need be, before anything is computed; without torch.

    Raises:
        UserError: the given folder does not exist or lacks the files.
        Fault: a checksum is wrong, or the publisher cannot be reached.
    """
    from fairloop.benchmarks.data import find

    chosen = benchmark(settings.name)
    if chosen.provide is not None:
        chosen.provide(settings)
    elif (files := chosen.reads(settings)) is not None:
        find(files, settings.data, verify=settings.verify)


def measure(
    plm: "LanguageModel",
    settings: "BenchmarkSettings",
    *,
    seed: int = 0,
    on_progress: "OnProgress | None" = None,
    memory: "ScoreMemory | None" = None,
    scratch: Path | None = None,
    trainer: "TrainerSettings | None" = None,
    on_logged: "Callable[[str, int, dict[str, float]], None] | None" = None,
) -> "BenchmarkResult":
    """Measure a model with a benchmark.

    Args:
        plm: The model.
        settings: The benchmark and its protocol.
        seed: Decides bootstrap resamples and sampled permutations; a score only where the benchmark trains (GLUE).
        on_progress: Called with (inputs done, inputs in all).
        memory: Keeps finished scores, so that a killed benchmark goes on where it was.
        scratch: A folder for checkpoints, so that a killed training goes on too; a benchmark that does not train has
            no use for it.
        trainer: Where and how a benchmark trains.
        on_logged: Called with each point of a loss curve: the curve, the steps done, the values by name.

    Raises:
        UserError: if the benchmark or its protocol cannot measure this kind of model, or the data folder is wrong.
        Fault: if data is damaged or cannot be had, or a score is not a number.
    """
    from fairloop.benchmarks.data import find
    from fairloop.benchmarks.result import Task

    chosen = benchmark(settings.name)
    if plm.kind not in chosen.kinds:
        allowed = " or ".join(chosen.kinds)
        raise UserError(f"benchmark={settings.name} measures a model that is {allowed}; plm={plm.name} is {plm.kind}")
    files = chosen.reads(settings)
    data = find(files, settings.data, verify=settings.verify) if files is not None else None
    from fairloop.training.settings import TrainerSettings

    return chosen.run(
        Task(plm, data, seed, on_progress, memory, scratch, trainer or TrainerSettings(), on_logged), settings
    )
