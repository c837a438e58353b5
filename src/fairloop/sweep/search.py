"""What a search is: the ranges, what is to improve, and how; every mistake in it is found before anything is computed.

`hydra/sweeper=fairloop_optuna` proposes settings instead of taking every combination. Each proposal is a cell of the
run store like any other, and the cell's objectives are what it reports back (`trials.py`).
"""

import importlib
import itertools
import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep, Transformer
from omegaconf import DictConfig, OmegaConf

from fairloop import composition, config
from fairloop.catalogue import catalogue
from fairloop.config import Configuration
from fairloop.errors import UserError, first_line
from fairloop.files import canonical_json, digest_text
from fairloop.packages import is_installed, needs
from fairloop.settings import suggestion
from fairloop.sweep.compose import Composer
from fairloop.sweep.unread import refuse_unread

TARGET = "fairloop.sweep.trials.run_trials"
DIRECTIONS = ("minimize", "maximize")
KEY = "hydra.sweeper"
NO_PRUNER = "optuna.pruners.NopPruner"


@dataclass(frozen=True)
class Search:
    """What is searched.

    Attributes:
        base: a configuration of the search: everything that is not searched is the same in all trials.
        space: the searched keys with their ranges, as they were given.
        distributions: the same as Optuna's distributions.
        fixed: the overrides that all trials have.
        overrides: the command's own overrides.
        sweeper: the group `hydra.sweeper` as plain data.
    """

    base: Configuration
    space: dict[str, str]
    distributions: dict[str, Any]
    fixed: tuple[str, ...]
    overrides: tuple[str, ...]
    sweeper: dict[str, Any]

    @property
    def objectives(self) -> tuple[str, ...]:
        """The measures that trials report."""
        return objectives_of(self.base)

    @property
    def directions(self) -> tuple[str, ...]:
        """`minimize` or `maximize`, for each objective."""
        given = self.sweeper["direction"]
        if given is None:
            return tuple(
                "maximize" if catalogue().of(one).goal == "maximize" else "minimize" for one in self.objectives
            )
        return tuple(given) if isinstance(given, list) else (str(given),) * len(self.objectives)

    @property
    def study_name(self) -> str:
        """The name of the stored study: the given one, or a hash of all that the trials have in common."""
        if self.sweeper["study_name"]:
            return str(self.sweeper["study_name"])
        chosen = sorted(line for line in self.overrides if not line.lstrip("+~").startswith(("hydra", "runs_dir")))
        one = len(self.objectives) == 1  # then the name is what it was when there was only ever one
        said = {
            "overrides": chosen,
            "space": self.space,
            "objective": self.objectives[0] if one else self.objectives,
            "direction": self.directions[0] if one else self.directions,
        }
        return f"{self.base.study.name}-{digest_text(canonical_json(said))[:12]}"

    @property
    def folder(self) -> Path:
        """Where searches keep what belongs to them, beside the store's cells."""
        return Path(self.base.runs_dir) / ".sweeps"

    @property
    def n_trials(self) -> int:
        """How many trials the study has in the end; a grid has no more than its points."""
        wanted = int(self.sweeper["n_trials"])
        return min(wanted, len(self.grid)) if self.grid else wanted

    @cached_property
    def grid(self) -> list[dict[str, Any]]:
        """The points of a grid, in order; empty for a sampler that draws."""
        if not self.is_grid:
            return []
        axes = [_points(key, one, self.space[key]) for key, one in self.distributions.items()]
        return [dict(zip(self.distributions, values, strict=True)) for values in itertools.product(*axes)]

    @property
    def is_grid(self) -> bool:
        """Whether the sampler takes every combination."""
        return str(self.sweeper["sampler"]["_target_"]).endswith(".GridSampler")

    @property
    def prunes(self) -> bool:
        """Whether cells may be ended before their last generation."""
        return str(self.sweeper["pruner"]["_target_"]) != NO_PRUNER

    def sampler(self, trials: int = 0) -> Any:
        """Return the chosen sampler of Optuna.

        Args:
            trials: the trials that there are: one that starts with the same seed would propose the same once more.
        """
        import optuna

        chosen = dict(self.sweeper["sampler"])
        if self.is_grid:  # its points are given to it
            return optuna.samplers.RandomSampler(seed=chosen.get("seed"))
        if chosen.get("seed") is not None:
            chosen["seed"] = (int(chosen["seed"]) + trials) % 2**31
        return _made(f"{KEY}.sampler", chosen, "optuna.samplers", optuna.samplers.BaseSampler)

    def pruner(self) -> Any:
        """Return the chosen pruner of Optuna."""
        import optuna

        return _made(f"{KEY}.pruner", dict(self.sweeper["pruner"]), "optuna.pruners", optuna.pruners.BasePruner)


def _made(key: str, chosen: dict[str, Any], package: str, kind: type) -> Any:
    """Return an object of a class of Optuna's, made with the settings that were chosen for it."""
    target = str(chosen.pop("_target_", None))
    found = getattr(importlib.import_module(package), target.removeprefix(f"{package}."), None)
    if not (isinstance(found, type) and issubclass(found, kind)):
        options = ", ".join(sorted(composition.options_of(key.replace(".", "/"))))
        raise UserError.of(f"{key}._target_", target, f"a class of {package}; {key.replace('.', '/')} offers {options}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return found(**chosen)
    except (TypeError, ValueError) as error:
        settings = ",".join(f"{name}:{value}" for name, value in chosen.items())
        raise UserError.of(key, f"{{{settings}}}", f"not what {target} takes ({first_line(error)})") from error


def objectives_of(configuration: Configuration) -> tuple[str, ...]:
    """Return the measures that a configuration names as `objective`."""
    chosen = configuration.objective
    return () if chosen is None else (chosen,) if isinstance(chosen, str) else tuple(chosen)


def is_grid(sweeper: DictConfig) -> bool:
    """Tell whether a sweeper takes every combination, as Hydra's own does; any other one chooses."""
    return str(sweeper._target_).endswith(".BasicSweeper")


def read_search(overrides: Sequence[str], params: Mapping[str, Any] | None) -> Search:
    """Check a search before anything is computed: its objectives, its settings, and the ends of every range.

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
    sweeper: Any = OmegaConf.to_container(
        composition.compose_config(lines[0], with_hydra=True).hydra.sweeper, resolve=True
    )
    space = {key: str(one.input_line).split("=", 1)[1] for key, one in searched.items()}
    if sweeper.get("_target_") != TARGET:
        raise UserError.of("hydra/sweeper", sweeper.get("_target_"), "basic, which takes a grid, or fairloop_optuna")
    distributions = {key: _distribution(one) for key, one in searched.items()}
    search = Search(base, space, distributions, tuple(fixed), tuple(overrides), sweeper)
    check(search)
    return search


def check(search: Search) -> None:
    """Refuse settings of the search itself that cannot be, or cannot go together."""
    sweeper, several = search.sweeper, len(search.objectives) > 1
    for key in ("n_trials", "n_jobs"):
        if not isinstance(sweeper[key], int) or isinstance(sweeper[key], bool) or sweeper[key] < 1:
            raise UserError.of(f"{KEY}.{key}", sweeper[key], "a whole number of at least 1")
    if len(search.directions) != len(search.objectives) or not set(search.directions) <= set(DIRECTIONS):
        shown = sweeper["direction"]
        shown = f"[{','.join(map(str, shown))}]" if isinstance(shown, list) else shown
        each = f", or a list of them for {len(search.objectives)} objectives" if several else ""
        raise UserError.of(f"{KEY}.direction", shown, f"minimize or maximize{each}")
    name = str(sweeper["sampler"].get("_target_")).rpartition(".")[2]
    if name == "CmaEsSampler":
        if not is_installed("cmaes"):
            raise UserError(f"hydra/sweeper/sampler=cmaes: {needs('optuna', 'cmaes')}")
        if several:
            raise UserError("hydra/sweeper/sampler=cmaes: takes one objective; for several: tpe, nsgaii or random")
        if sum(not hasattr(one, "choices") for one in search.distributions.values()) < 2:
            raise UserError("hydra/sweeper/sampler=cmaes: needs at least two numeric ranges; for fewer: tpe or random")
    search.sampler()
    search.pruner()
    if search.is_grid:
        _ = search.grid
    if search.prunes:
        _check_pruning(search)


def _check_pruning(search: Search) -> None:
    chosen = f"hydra/sweeper/pruner={search.sweeper['pruner']['_target_']}"
    if search.base.study.name != "recursion":
        raise UserError(f"{chosen}: cells are pruned by their generations, which study=recursion alone has")
    if len(search.objectives) > 1:
        raise UserError(f"{chosen}: takes one objective; Optuna compares no several ones before a cell's end")
    if "@" not in search.objectives[0]:
        raise UserError.of("objective", search.objectives[0], "with a pruner, a generation's measure, such as …@3")


def _ends(override: Override) -> list[str]:
    """Return the values of a searched key that show a mistake if any does: its choices, or the ends of its range."""
    value = override.value()
    if isinstance(value, IntervalSweep):
        return [str(value.start), str(value.end)]
    if isinstance(value, RangeSweep):
        steps = _steps(override)
        return [str(steps[0]), str(steps[-1])]
    if isinstance(value, ChoiceSweep):
        return [str(choice) for choice in override.sweep_iterator(transformer=Transformer.encode)]
    raise UserError(f"{override.input_line}: a search takes choice(...), range(...) or interval(...)")


def _steps(override: Override) -> list[Any]:
    steps = list(override.sweep_iterator())
    if not steps:
        raise UserError(f"{override.input_line}: has no values (an empty range)")
    return steps


def _distribution(override: Override) -> Any:
    """Return a range of Hydra's grammar as a distribution of Optuna's; a range has its steps, without its end."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    value = override.value()
    try:
        if isinstance(value, ChoiceSweep):
            return CategoricalDistribution(tuple(override.sweep_iterator(transformer=Transformer.encode)))
        if isinstance(value, RangeSweep):
            low, *_, high = sorted(_steps(override) * 2)
            number = IntDistribution if isinstance(low, int) and isinstance(high, int) else FloatDistribution
            return number(low, high, step=abs(value.step))
        assert isinstance(value, IntervalSweep)  # noqa: S101 - `_ends` refused all others
        whole = isinstance(value.start, int) and isinstance(value.end, int)
        return (IntDistribution if whole else FloatDistribution)(value.start, value.end, log="log" in value.tags)
    except ValueError as error:
        raise UserError(f"{override.input_line}: not a range that can be searched ({first_line(error)})") from error


def _points(key: str, distribution: Any, given: str) -> list[Any]:
    """Return every value of a searched key, for a grid."""
    if hasattr(distribution, "choices"):
        return list(distribution.choices)
    if distribution.step is None or distribution.log:
        raise UserError(f"{key}={given}: hydra/sweeper/sampler=grid takes choice(...) and range(...)")
    count = math.floor((distribution.high - distribution.low) / distribution.step + 1e-9) + 1
    if count > composition.MOST_CELLS:
        raise UserError(f"{key}={given}: more than {composition.MOST_CELLS} values")
    return [distribution.low + place * distribution.step for place in range(count)]


def objective_values(folder: Path, objectives: Sequence[str]) -> list[float]:
    """Return a finished cell's objectives.

    Raises:
        UserError: the cell has no such measure, or it is undefined.
    """
    result = json.loads((folder / "result.json").read_bytes())
    for objective in objectives:
        if objective not in result:
            names = ", ".join(list(result)[:5])
            hint = suggestion(objective, list(result))
            raise UserError(f"objective={objective}: no such measure{hint}; there are {names}")
        if not isinstance(result[objective], int | float):
            raise UserError.of("objective", objective, f"a measure that is defined; here it is {result[objective]}")
    return [float(result[objective]) for objective in objectives]
