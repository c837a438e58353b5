"""A search for good settings: a Hydra sweeper that chooses (Optuna), with a stored study that goes on after a kill.

The sweeper proposes settings, each proposal is a cell of the run store like any other, and the cell's `objective` is
what it reports back. `hydra.sweeper.n_trials` is the number of trials that the study has in the end: the same command
again does what is missing. Proposals whose process was killed, or that failed, are tried again first.
"""

import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep
from omegaconf import DictConfig

from fairloop import composition, config, console
from fairloop.config import Configuration
from fairloop.errors import UserError, first_line
from fairloop.files import canonical_json, digest_text, writing
from fairloop.settings import suggestion
from fairloop.sweep.compose import Composer
from fairloop.sweep.unread import refuse_unread

OPTUNA = "hydra_plugins.hydra_optuna_sweeper.optuna_sweeper.OptunaSweeper"


@dataclass(frozen=True)
class Search:
    """What is searched.

    Attributes:
        base: a configuration of the search: everything that is not searched is the same in all trials.
        space: the searched keys with their ranges, as they were given.
        overrides: the command's own overrides.
        sweeper: the sweeper's configuration.
    """

    base: Configuration
    space: dict[str, str]
    overrides: tuple[str, ...]
    sweeper: DictConfig

    @property
    def objective(self) -> str:
        """The measure that trials report."""
        return str(self.base.objective)

    @property
    def study_name(self) -> str:
        """The name of the stored study: the given one, or a hash of all that the trials have in common."""
        if self.sweeper.study_name:
            return str(self.sweeper.study_name)
        chosen = sorted(line for line in self.overrides if not line.lstrip("+~").startswith(("hydra", "runs_dir")))
        said = {"overrides": chosen, "space": self.space, "objective": self.objective, "direction": self.direction}
        return f"{self.base.study.name}-{digest_text(canonical_json(said))[:12]}"

    @property
    def direction(self) -> str:
        """`minimize` or `maximize`."""
        return str(self.sweeper.direction)

    @property
    def storage(self) -> str:
        """Where the study is stored, as SQLAlchemy names it."""
        return str(self.sweeper.storage or f"sqlite:///{self.base.runs_dir}/.sweeps/optuna.db")


@dataclass(frozen=True)
class Trial:
    """One finished or failed trial, as the table shows it."""

    number: int
    params: dict[str, Any]
    value: float | None
    state: str


def is_grid(sweeper: DictConfig) -> bool:
    """Tell whether a sweeper takes every combination, as Hydra's own does; any other one chooses."""
    return str(sweeper._target_).endswith(".BasicSweeper")


def read_search(overrides: Sequence[str], params: Mapping[str, Any] | None) -> Search:
    """Check a search before anything is computed: its objective, its fixed settings, and the ends of every range.

    Args:
        overrides: the command's overrides.
        params: ranges that the configuration names (`hydra.sweeper.params`).

    Raises:
        UserError: a mistake in any of them.
    """
    named = [f"{key}={value}" for key, value in (params or {}).items()]
    given = composition.parse_overrides([*named, *overrides])
    searched = {one.key_or_group: one for one in given if one.is_sweep_override()}
    fixed = [str(one.input_line) for one in given if not one.is_sweep_override()]
    if not searched:
        raise UserError("hydra/sweeper=optuna: nothing to search; give a range: 'debias.lambda_r=interval(0.1,10)'")
    ends = {key: _ends(one) for key, one in searched.items()}
    composer, lines = Composer(), []
    for key, values in ends.items():
        others = [f"{other}={choices[0]}" for other, choices in ends.items() if other != key]
        lines += [[*fixed, *others, f"{key}={value}"] for value in values]
    checked = [config.check(composer.compose(line)) for line in lines]
    refuse_unread(lines, checked)
    base = checked[0]
    if base.objective is None:
        raise UserError.of("objective", "null", "a measure in result.json, such as heldout_templates/mean_abs_log_odds")
    sweeper = composition.compose_config(lines[0], with_hydra=True).hydra.sweeper
    _check_sweeper(sweeper)
    space = {key: str(one.input_line).split("=", 1)[1] for key, one in searched.items()}
    return Search(base, space, tuple(overrides), sweeper)


def _check_sweeper(sweeper: DictConfig) -> None:
    if sweeper._target_ != OPTUNA:
        raise UserError.of("hydra/sweeper", sweeper._target_, "basic, which takes a grid, or fairloop_optuna")
    if str(sweeper.direction) not in ("minimize", "maximize"):
        raise UserError.of("hydra.sweeper.direction", sweeper.direction, "minimize or maximize")
    for key in ("n_trials", "n_jobs"):
        if not isinstance(sweeper[key], int) or sweeper[key] < 1:
            raise UserError.of(f"hydra.sweeper.{key}", sweeper[key], "a whole number of at least 1")


def _ends(override: Override) -> list[str]:
    """Return the values of a searched key that show a mistake if any does: its choices, or the ends of its range."""
    value = override.value()
    if isinstance(value, IntervalSweep):
        return [str(value.start), str(value.end)]
    if isinstance(value, RangeSweep):
        steps = [str(step) for step in override.sweep_iterator()]
        return [steps[0], steps[-1]] if steps else []
    if isinstance(value, ChoiceSweep):
        return [str(choice) for choice in override.sweep_iterator()]
    raise UserError(f"{override.input_line}: a search takes choice(...), range(...) or interval(...)")


def objective_value(folder: Path, objective: str) -> float:
    """Return a finished cell's objective.

    Raises:
        UserError: the cell has no such measure, or it is undefined.
    """
    result = json.loads((folder / "result.json").read_bytes())
    if not isinstance(result.get(objective), int | float):
        if objective in result:
            raise UserError.of("objective", objective, f"a measure that is defined; here it is {result[objective]}")
        names = ", ".join(list(result)[:5])
        raise UserError(
            f"objective={objective}: no such measure{suggestion(objective, list(result))}; there are {names}"
        )
    return float(result[objective])


@contextmanager
def stored(search: Search) -> Iterator[Any]:
    """Hold the stored study (an optuna Study): one command at a time drives it; others wait with one line."""
    import optuna
    from filelock import FileLock, Timeout

    optuna.logging.set_verbosity(logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    folder = Path(search.base.runs_dir) / ".sweeps"
    database = search.storage.removeprefix("sqlite:///")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if database != search.storage:
            Path(database).parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{digest_text(search.storage + search.study_name)[:16]}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        console.warn(f"another process is at work on the search {search.study_name}: waiting for it")
        lock.acquire(timeout=-1, poll_interval=0.5)
    try:
        try:
            study = optuna.create_study(
                study_name=search.study_name, storage=search.storage, direction=search.direction, load_if_exists=True
            )
        except Exception as error:
            first = first_line(error)
            if "direction" in first:
                allowed = "the direction that the stored study has"
                raise UserError.of("hydra.sweeper.direction", search.direction, allowed) from error
            raise UserError.of("hydra.sweeper.storage", search.storage, f"a database that opens ({first})") from error
        yield study
    finally:
        lock.release()


def prepare(study: Any, search: Search) -> list[str]:
    """Make a stored study ready to go on and return the overrides for its sweeper; none if all trials are done.

    Trials that say they are running are of a killed command, as this one holds the study: their settings are proposed
    again, first, and so are those of failed trials if `retry_failed`.
    """
    from optuna.trial import TrialState

    trials = study.get_trials(deepcopy=False)
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    missing = int(search.sweeper.n_trials) - len(complete)
    known = [trial.params for trial in complete]
    known += [trial.system_attrs.get("fixed_params") for trial in trials if trial.state == TrialState.WAITING]
    for trial in trials:
        again = trial.state == TrialState.RUNNING or (
            trial.state == TrialState.FAIL and search.base.retry_failed and missing > 0
        )
        if trial.state == TrialState.RUNNING:
            study.tell(trial.number, state=TrialState.FAIL)
        if again and trial.params and trial.params not in known:
            study.enqueue_trial(trial.params)
            known.append(trial.params)
    if missing <= 0:
        return []
    overrides = [
        f"hydra.sweeper.n_trials={missing}",
        f"hydra.sweeper.study_name='{search.study_name}'",
        f"hydra.sweeper.storage='{search.storage}'",
    ]
    seed = search.sweeper.sampler.get("seed")
    if seed is not None:  # a sampler that starts with the same seed would propose the same settings once more
        overrides.append(f"hydra.sweeper.sampler.seed={(int(seed) + len(trials)) % 2**31}")
    return overrides


def trials_of(study: Any) -> list[Trial]:
    """Return the trials that were tried, a failed one only if its settings did not succeed later."""
    from optuna.trial import TrialState

    trials = study.get_trials(deepcopy=False)
    succeeded = [trial.params for trial in trials if trial.state == TrialState.COMPLETE]
    found: list[Trial] = []
    listed: list[dict[str, Any]] = []
    for trial in trials:
        if trial.state == TrialState.COMPLETE:
            found.append(Trial(trial.number, trial.params, trial.value, "complete"))
        elif trial.state == TrialState.FAIL and trial.params and trial.params not in [*succeeded, *listed]:
            listed.append(trial.params)
            found.append(Trial(trial.number, trial.params, None, "failed"))
    return found


def print_trials(search: Search, trials: Sequence[Trial], out: Any) -> None:
    """Print the table of trials, and the best of them.

    Args:
        search: what was searched.
        trials: the trials of its study.
        out: where to print: a rich Console.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(f"Search {search.study_name}: {search.direction} {search.objective}"),
        title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False,
    )  # fmt: skip
    for name in ("trial", *search.space, "status", search.objective):
        table.add_column(Text(name), justify="left" if name == "status" else "right", overflow="fold")
    for trial in trials:
        values = [_shown(trial.params.get(key)) for key in search.space]
        table.add_row(*map(Text, [str(trial.number), *values, trial.state, _shown(trial.value)]))
    out.print(table)
    complete = [trial for trial in trials if trial.value is not None]
    if complete:
        choose = min if search.direction == "minimize" else max
        best = choose(complete, key=lambda trial: trial.value or 0.0)
        settings = " ".join(f"{key}={value}" for key, value in best.params.items())
        out.print(f"best: {_shown(best.value)} with {settings}", markup=False, soft_wrap=True)


def _shown(value: Any) -> str:
    return "" if value is None else f"{value:.5g}" if isinstance(value, float) else str(value)
