"""Fairloop in Python: run one cell, run a sweep, read finished cells.

A call does what the command of the same name does, with the same bytes in the run store. A mistake is the exception
`UserError`, a fault outside the configuration `Fault`; each says the one line that the command prints, and nothing ends
the interpreter. Hydra's global state, the limits on threads and the working folder are afterwards what they were.
"""

import io
import os
import sys
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairloop.errors import Fault, UserError
from fairloop.words import counted

if TYPE_CHECKING:
    import pandas as pd
    from datasets import Dataset

    from fairloop.sweep.jobs import Outcome
    from fairloop.sweep.plan import Plan

Overrides = str | Iterable[str] | Mapping[str, Any]
"""What is chosen: one override (`"seed=1"`), several, or a mapping of keys to values (`{"seed": 1}`)."""


@dataclass(frozen=True)
class Figure:
    """A figure of the report; a notebook shows it.

    Attributes:
        name: what it shows, as in the names of the report's files.
        files: its bytes by format: `png`, `svg`, and what else the report writes.
    """

    name: str
    files: Mapping[str, bytes] = field(repr=False)

    def save(self, path: str | Path) -> Path:
        """Write the figure in the format that the path ends with, and return the path.

        Raises:
            UserError: the figure has no such format.
        """
        kind = Path(path).suffix.removeprefix(".")
        if kind not in self.files:
            raise UserError.of("path", path, f"a name that ends with one of .{', .'.join(sorted(self.files))}")
        Path(path).write_bytes(self.files[kind])
        return Path(path)

    def _repr_png_(self) -> bytes | None:
        return self.files.get("png")


@dataclass(frozen=True)
class Result:
    """One finished cell.

    Attributes:
        folder: where it lies in the run store.
    """

    folder: Path

    @property
    def name(self) -> str:
        """The cell's name: a hash of what decides its result."""
        return self.folder.name

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved configuration."""
        from fairloop.files import read_yaml

        return dict(read_yaml((self.folder / "config.yaml").read_text(encoding="utf-8")))

    @cached_property
    def metrics(self) -> "pd.DataFrame":
        """Every measure with its 95% interval.

        Columns `generation` (missing for a measure of the whole cell), `metric`, `value`, `low`, `high`, `n`, `units`;
        what is undefined is missing.
        """
        columns = ["generation", "metric", "value", "low", "high", "n", "units"]
        return load([self])[columns]

    @cached_property
    def values(self) -> dict[str, float]:
        """The flat form: `{"rule/net_stereotype_rate@3": 0.12, …}`, without what is undefined."""
        import json

        return dict(json.loads((self.folder / "result.json").read_text(encoding="utf-8")))

    @cached_property
    def corpora(self) -> "dict[str, Dataset]":
        """The tables of sentences that the cell keeps, by stage: `generation-1`, `mitigated-1`, `filter` (of pairs)."""
        from datasets import Dataset

        found: dict[str, Dataset] = {}
        for path in sorted(self.folder.glob("stages/*/*.parquet")):
            stage = path.parent.name.partition("-")[2]
            name = stage if stage not in found else f"{stage}/{path.stem}"
            found[name] = Dataset.from_parquet(str(path), keep_in_memory=True)
        return found

    @property
    def model(self) -> Path | None:
        """The folder of the debiased model, for `from_pretrained`; None where the cell made none."""
        from fairloop.debias.hub import model_folder

        return model_folder(self.folder)

    @cached_property
    def figures(self) -> dict[str, Figure]:
        """The figures that the report draws of this cell alone, by name."""
        return _figures([self])

    def __repr__(self) -> str:
        return f"Result({str(self.folder)!r}, {counted(len(self.values), 'value')})"


@dataclass(frozen=True)
class Sweep:
    """The finished cells of a sweep.

    Attributes:
        results: its cells, in the order of the grid.
        failures: a line for each cell that is not finished.
    """

    results: tuple[Result, ...]
    failures: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Result]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)

    @cached_property
    def metrics(self) -> "pd.DataFrame":
        """Every measure of every cell, as `load` returns them."""
        return load(self.results)

    @cached_property
    def figures(self) -> dict[str, Figure]:
        """The figures of the report that compares these cells, by name."""
        return _figures(self.results)

    def report(self, folder: str | Path) -> Path:
        """Write the report that compares these cells (page, figures, tables), and return the path of its page."""
        return _report(self.results, Path(folder))


class SweepFailed(Fault):
    """Some cells of a sweep failed.

    Attributes:
        sweep: the cells that are finished, and a line for each of the others.
    """

    def __init__(self, finished: Sweep) -> None:
        self.sweep = finished
        others = f" ({len(finished)} finished)"
        super().__init__(f"{counted(len(finished.failures), 'cell')} failed{others}; the first: {finished.failures[0]}")


def run(overrides: Overrides = (), *, quiet: bool = False) -> Result:
    """Compute one cell, or find it finished, and return it.

    Args:
        overrides: choices as on the command line: `["initial_bias=high", "seed=1"]` or
            `{"initial_bias": "high", "seed": 1}`.
        quiet: print nothing.

    Raises:
        UserError: a mistake; nothing was computed.
        Fault: the cell failed for something outside the configuration; the same call goes on after its last stage.
    """
    from fairloop.app import compute_cell, push_models
    from fairloop.composition import composer, parse_overrides

    chosen = _lines(overrides)
    with _as_before(quiet):
        parse_overrides(chosen)
        with composer():
            plan, outcomes = compute_cell(chosen)
            _warn(push_models(plan))
    _raise_for(plan, outcomes)
    return Result(plan.jobs[0].cell.folder)


def sweep(overrides: Overrides, *, quiet: bool = False) -> Sweep:
    """Compute every cell of a grid that is not finished yet, and return all of them.

    Args:
        overrides: choices as on the command line after `fairloop -m`: `["seed=0,1,2", "mitigation=none,augment"]`, or a
            mapping in which a list has the values to sweep: `{"seed": [0, 1, 2], "mitigation": ["none", "augment"]}`;
            a value that is a list is a list in it: `{"study.metrics": [["rule_based", "diversity"]]}`.
            `hydra/launcher` and its settings choose where the cells run.
        quiet: print nothing; processes of a launcher still print.

    Raises:
        UserError: a mistake in any cell; nothing was computed.
        SweepFailed: some cells failed, after all others were computed.
    """
    from fairloop.app import compute_sweep, of_the_command, push_models
    from fairloop.composition import compose_config, composer, parse_overrides
    from fairloop.sweep.launch import check_plugins
    from fairloop.sweep.search import is_grid

    chosen = _lines(overrides, swept=True)
    with _as_before(quiet):
        parse_overrides(chosen)
        check_plugins(chosen)
        with composer():
            own = compose_config(of_the_command(chosen), with_hydra=True).hydra
            if not is_grid(own.sweeper):
                raise UserError(
                    "hydra/sweeper: the command `fairloop` runs searches; `fairloop.load` reads their cells"
                )
            plan, outcomes = compute_sweep(chosen, own.sweeper.params)
            _warn(push_models(plan))
    return _finished(plan, outcomes)


def load(
    runs: str | Path | Result | Sweep | Iterable[Result | str | Path] = "runs", keys: Sequence[str] = ()
) -> "pd.DataFrame":
    """Read the measures of finished cells: one line for each cell, generation and metric.

    Args:
        runs: a run store, a cell's folder, results, or several folders of cells.
        keys: keys of the configuration that become columns, such as `debias.lambda_r`.

    Returns:
        Columns `study`, `cell`, `model` (the model that the cell is about), `mitigation`, `level` (the initial bias),
        `seed`, then `keys`, then `generation`, `metric`, `value`, the 95% interval `low` and `high`, `n`, and `units`
        (the independent groups behind the interval). What a cell does not have is missing.

    Raises:
        UserError: there is no such folder, no finished cell in it, or no such key in any cell.
    """
    from fairloop.report.read import read_cells, read_runs

    folders = _cell_folders(runs)
    if folders is None:
        assert isinstance(runs, str | Path)  # noqa: S101 - what else has folders
        cells = read_runs(runs).cells
    else:
        cells = read_cells(folders[0].parent if folders else Path("runs"), folders).cells
    return _frame(cells, keys)


# --- what was chosen, as the command line says it ---------------------------------------------------------------------


def _lines(overrides: Overrides, *, swept: bool = False) -> list[str]:
    """Return overrides as lines `key=value`; in a sweep a list in a mapping has several values."""
    if isinstance(overrides, str):
        return [overrides]
    if not isinstance(overrides, Mapping):
        return [str(line) for line in overrides]
    return [f"{key}={_values(key, value) if swept else _value(key, value)}" for key, value in overrides.items()]


def _values(key: str, value: Any) -> str:
    if not isinstance(value, list | tuple | range):
        return _value(key, value)
    if not value:
        raise UserError.of(key, value, "has no values")
    return ",".join(_value(key, one) for one in value)


def _value(key: str, value: Any) -> str:
    """Return a value in Hydra's grammar."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple | range):
        return f"[{','.join(_value(key, one) for one in value)}]"
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{name}:{_value(key, one)}' for name, one in value.items())}}}"
    text = str(value)
    if isinstance(value, int | float) or (text and all(one.isalnum() or one in "_-./:@%+*?|" for one in text)):
        return text
    if text.startswith(("${", "glob(", "range(", "interval(", "choice(", "tag(")):
        return text
    quoted = text.replace("\\", "\\\\") if text.endswith("\\") else text
    return "'" + quoted.replace("'", "\\'") + "'"


# --- a process as it was ----------------------------------------------------------------------------------------------


@contextmanager
def _as_before(quiet: bool) -> Iterator[None]:
    """Leave the process as it was: the limits on threads (of libraries that are loaded, too) and the working folder.

    A cell limits the threads of its process by `trainer.threads`; without this the next call would inherit them.
    """
    from fairloop import console
    from fairloop.sweep.resources import THREAD_VARIABLES
    from fairloop.tracking.wandb_service import SETTLED

    names = (*THREAD_VARIABLES, SETTLED)
    before = {name: os.environ.get(name) for name in names}
    folder, torch = Path.cwd(), sys.modules.get("torch")
    threads = torch.get_num_threads() if torch else None
    was_quiet = console.stdout.quiet
    console.stdout.quiet = was_quiet or quiet  # in a notebook it displays, past the standard output
    with redirect_stdout(io.StringIO()) if quiet else nullcontext(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="IProgress not found")  # of a notebook without ipywidgets
        try:
            yield
        finally:
            console.stdout.quiet = was_quiet
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value
            torch = sys.modules.get("torch")
            if torch is not None:
                torch.set_num_threads(threads or _default_threads())
            os.chdir(folder)


def _default_threads() -> int:
    """Return how many threads torch would have taken, had no cell limited them before it was loaded."""
    from fairloop.sweep.resources import cores

    return int(os.environ.get("OMP_NUM_THREADS") or cores())


# --- what came out ----------------------------------------------------------------------------------------------------


def _warn(lines: Sequence[str]) -> None:
    """Warn of models that could not be uploaded: their cells are finished all the same."""
    for line in lines:
        warnings.warn(line, stacklevel=3)


def _raise_for(plan: "Plan", outcomes: "Sequence[Outcome]") -> None:
    """Raise what kept the only cell of a command from being finished."""
    for outcome in outcomes:
        if outcome.state == "failed":
            raise (UserError if outcome.exit_status == UserError.exit_status else Fault)(outcome.line)
    for job, status in plan.given_up:
        raise Fault(f"failed before, not tried again (retry_failed=false): {job.cell.key}: {status.reason}")


def _finished(plan: "Plan", outcomes: "Sequence[Outcome]") -> Sweep:
    """Return the finished cells; raise if some are not."""
    failed = {outcome.cell: outcome.line for outcome in outcomes if outcome.state == "failed"}
    failed |= {job.cell.folder: f"not tried again: {status.reason}" for job, status in plan.given_up}
    finished = []
    for job in plan.jobs:
        state = job.status().state
        if state == "complete":
            finished.append(Result(job.cell.folder))
        else:
            failed.setdefault(job.cell.folder, "not started")
    left = {folder: line for folder, line in failed.items() if Result(folder) not in finished}
    found = Sweep(tuple(finished), tuple(f"{folder.name}: {line}" for folder, line in left.items()))
    if found.failures:
        raise SweepFailed(found)
    return found


# --- reading ----------------------------------------------------------------------------------------------------------


def _cell_folders(runs: Any) -> list[Path] | None:
    """Return the folders of single cells; None for a run store as a whole."""
    if isinstance(runs, Result):
        return [runs.folder]
    if isinstance(runs, str | Path):
        return [Path(runs)] if (Path(runs) / "status.json").is_file() else None
    return [one.folder if isinstance(one, Result) else Path(one) for one in runs]


def _frame(cells: "Sequence[Any]", keys: Sequence[str]) -> "pd.DataFrame":
    """Return the measures of cells as a table; its first columns are those of the report's `cells.csv`."""
    import pandas as pd

    from fairloop.report.export import cells_csv

    table = pd.read_csv(
        io.StringIO(cells_csv(cells)),
        float_precision="round_trip",
        dtype={"generation": "Int64", "n": "Int64", "units": "Int64", "cell": "str", "level": "float64"},
        keep_default_na=False,
        na_values={name: [""] for name in ("mitigation", "level", "generation", "value", "low", "high", "n", "units")},
    )
    first = list(table.columns).index("generation")
    for place, key in enumerate(keys, start=first):
        found = {cell.name: _configured(cell.config, key) for cell in cells}
        if all(value is None for value in found.values()):
            raise UserError.of("keys", key, "no cell has this key in its configuration")
        table.insert(place, key, table["cell"].map(found))
    return table


def _configured(config: Mapping[str, Any], key: str) -> Any:
    """Return what a configuration has under a dotted key; None for nothing."""
    found: Any = config
    for name in key.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


# --- figures ----------------------------------------------------------------------------------------------------------


def _figures(results: Sequence[Result]) -> dict[str, Figure]:
    """Return the figures of the report of these cells, by name."""
    found: dict[str, dict[str, bytes]] = {}
    with tempfile.TemporaryDirectory() as folder:
        _report(results, Path(folder))
        for path in sorted(Path(folder).rglob("*")):
            if path.suffix in (".png", ".svg", ".pdf"):
                found.setdefault(path.stem, {})[path.suffix.removeprefix(".")] = path.read_bytes()
    return {name: Figure(name, files) for name, files in found.items()}


def _report(results: Sequence[Result], folder: Path) -> Path:
    """Write the report of these cells into a folder, and return the path of its page."""
    from fairloop.report.write import write_report

    if not results:
        raise UserError("a report needs a finished cell")
    return write_report(results[0].folder.parents[1], folder, [one.folder for one in results]).page
