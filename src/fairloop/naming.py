"""What a cell's choices are called: the one place for the names, the condition and the tags that tell cells apart.

A condition is everything that decides a result but the seed: the chosen options by their names, and whatever was set
unlike those options. Options are recognised by what they set and not by how it was said, so that a number which is the
level of an option has its name, and so has a cell that was computed long ago.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

from fairloop.benchmarks.registry import settings_of as benchmark_settings
from fairloop.composition import conf_dir
from fairloop.config import Configuration
from fairloop.debias.registry import settings_of
from fairloop.errors import FairloopError
from fairloop.files import digest_text, read_yaml
from fairloop.mitigation.compose import name_of, validate
from fairloop.settings import Settings
from fairloop.tracking.wandb_artifacts import debiased_model

ABLATED = "fair_gender"
"""The debias method whose components the group `ablation` changes."""

FULL = "full"
LONGEST = 100
"""Characters of a condition; a longer one is cut and ends with the beginning of its digest."""

_PLACES = (
    *("plm_name", "debias_name", "ablation_name", "benchmark_name"),
    *("model_name", "strategies", "initial_bias_name", "encoder_name"),
)
"""The order of the names in a condition."""

NO_CONDITION = {"study.metrics", "study.benchmarks", "study.resamples", "benchmark.resamples"}
"""What decides which measures there are and how exact their intervals, and not what they are of."""

_SHORTENED = ("study.", "debias.", "mitigation.", "initial_bias.")
"""Groups whose keys are clear without the group's name."""


@dataclass(frozen=True)
class Naming:
    """What a cell is called.

    Attributes:
        names: the chosen options, by the key under which W&B groups and filters runs (`initial_bias_name`), in the
            order in which they stand in a name.
        changes: what was set unlike the chosen options, as `key=value`.
        study: the study's name.
        seed: the cell's seed.
    """

    names: dict[str, str]
    changes: tuple[str, ...]
    study: str
    seed: int

    @property
    def condition(self) -> str:
        """Everything that decides the result but the seed: cells of one condition are repetitions of each other."""
        words = [f"level {name}" if key == "initial_bias_name" else name for key, name in self.names.items()]
        of_no_model = not {"model_name", "plm_name"} & self.names.keys()
        whole = " ".join([*([self.study] if of_no_model else []), *words, *self.changes])
        if len(whole) <= LONGEST:
            return whole
        return f"{whole[: LONGEST - 10]}… {digest_text(whole)[:8]}"

    @property
    def run_name(self) -> str:
        """The name of the cell's run."""
        return f"{self.condition} seed {self.seed}"

    @property
    def tags(self) -> tuple[str, ...]:
        """The words by which the cell's run is found, each once; one that says nothing by itself has its group."""
        groups = {"initial_bias_name": "initial_bias", "ablation_name": "ablation"}
        if self.names.get("strategies") == "none":
            groups["strategies"] = "mitigation"
        if self.names.get("debias_name") == "none":
            groups["debias_name"] = "debias"
        chosen = [f"{groups[key]}:{name}" if key in groups else name for key, name in self.names.items()]
        return tuple(dict.fromkeys([self.study, *chosen, f"seed:{self.seed}"]))


def naming_of(configuration: Configuration) -> Naming:
    """Return what the cell of a configuration is called.

    Options of the user's own are known while a command that has them (`--config-dir`) is at work.
    """
    study, plain = configuration.study, Settings.deciding(configuration)
    groups = study.groups(configuration)
    names = study.names(configuration)
    if "initial_bias" in groups:
        names["initial_bias_name"] = level_name(plain["initial_bias"])
    if "mitigation" in groups:
        names["strategies"] = mitigation_name(plain["mitigation"])
    if "debias" in groups and (ablation := ablation_name(plain["debias"])):
        names["ablation_name"] = ablation
    places = {key: place for place, key in enumerate(_PLACES)}
    ordered = {key: names[key] for key in sorted(names, key=lambda key: places.get(key, len(places)))}
    changes = [change for group in ("study", *groups) for change in _changes(configuration, group)]
    return Naming(ordered, tuple(changes), study.name, configuration.seed)


def level_name(initial_bias: Mapping[str, Any]) -> str:
    """Return what an initial level is called: the option that has it, as `high`, else the number.

    Args:
        initial_bias: the group's settings, as plain data.
    """
    level, options = initial_bias.get("level"), _options("initial_bias")
    alike = [name for name, one in options.items() if one.get("level") == level]
    exact = [name for name in alike if options[name].items() <= initial_bias.items()]
    return next(iter([*exact, *alike]), f"{level:g}" if isinstance(level, int | float) else str(level))


def mitigation_name(mitigation: Mapping[str, Any]) -> str:
    """Return what strategies are called: each by the option that sets it so, as `finetune_brief`, else by its own name.

    Args:
        mitigation: the group's settings, as plain data.
    """
    return name_of(_strategy_option(name, settings) for name, settings in mitigation.items())


def ablation_name(debias: Mapping[str, Any]) -> str:
    """Return which component of Fair-Gender is changed: the option of the group `ablation`, as `no_filter`, or `full`.

    Args:
        debias: the group's settings, as plain data.

    Returns:
        Of the options whose changes were all made, the one with the most; empty for another method.
    """
    if debias.get("name") != ABLATED:
        return ""
    settings, usual = _flat(debias), _flat(settings_of({"name": ABLATED}).deciding())
    changed = {
        name: {key: value for key, value in _flat(one).items() if usual.get(key) != value}
        for name, one in _options("ablation").items()
    }
    made = [name for name, one in changed.items() if one and one.items() <= settings.items()]
    return max(made, key=lambda name: len(changed[name]), default=FULL)


# --- what was set unlike the options --------------------------------------------------------------------------------


def _changes(configuration: Configuration, group: str) -> Iterator[str]:
    """Yield what a group sets unlike the option that it is called by, and models that lie elsewhere, as `key=value`."""
    usual = _usual(configuration, group)
    for key, (path, _) in configuration.models.items():
        if key.startswith(f"{group}.") and key in usual and path != usual[key]:
            yield f"{_short(key)}={_model_in_words(path)}"
    for key, value in _flat(Settings.deciding(configuration)[group], f"{group}.").items():
        if key in usual and usual[key] != value and key not in NO_CONDITION:
            yield f"{_short(key)}={_value_in_words(value)}"


def _usual(configuration: Configuration, group: str) -> dict[str, Any]:
    """Return what the options set by which a group is called, by dotted key; nothing for one that is not known."""
    chosen, plain = getattr(configuration, group), Settings.deciding(configuration)[group]
    try:
        if group == "debias":
            found = _flat(settings_of({"name": plain["name"]}).deciding()) | _flat(_ablated(plain))
        elif group == "benchmark":
            found = _flat(benchmark_settings({"name": plain["name"]}).deciding())
        elif group == "mitigation":
            options = {name: _options(group).get(_strategy_option(name, one), {}) for name, one in plain.items()}
            found = _flat({name: one for option in options.values() for name, one in _strategies(option).items()})
        elif group == "initial_bias":
            found = {**plain, **_options(group).get(level_name(plain), {})}
        else:
            option = _option_called(group, chosen.name)
            found = _flat(type(chosen).model_validate(option).deciding() if option else {}) | _paths(option)
    except (FairloopError, ValueError, KeyError):  # pydantic's errors are ValueErrors
        return {}
    return {f"{group}.{key}": value for key, value in found.items()}


def _paths(option: Mapping[str, Any]) -> dict[str, Any]:
    """Return where an option's models lie: what decides is their weights, but the path is what a reader knows."""
    return {key: option[key] for key in ("path", "encoder") if key in option}


def _ablated(debias: Mapping[str, Any]) -> dict[str, Any]:
    return _options("ablation").get(ablation_name(debias), {})


def _strategy_option(strategy: str, settings: Mapping[str, Any]) -> str:
    """Return the option that sets a strategy so; the strategy's own name if none does."""
    exact = [name for name, one in _options("mitigation").items() if _strategies(one) == {strategy: settings}]
    return strategy if strategy in exact or not exact else exact[0]


def _strategies(option: Mapping[str, Any]) -> dict[str, Any]:
    """Return the deciding settings of an option's strategies; nothing for an option that is not valid."""
    try:
        return {name: settings.deciding() for name, settings in validate(option).items()}
    except FairloopError:
        return {}


def _short(key: str) -> str:
    return next((key.removeprefix(group) for group in _SHORTENED if key.startswith(group)), key)


def _value_in_words(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float) else " ".join(str(value).split())


def _model_in_words(path: str) -> str:
    """Return a model as a reader knows it: by the cell that made it, or by the end of its path."""
    return debiased_model(path) or Path(path).name or path


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return settings by dotted key; a list as one value."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


# --- the options of a group ------------------------------------------------------------------------------------------


def _options(group: str) -> dict[str, dict[str, Any]]:
    """Return what each option of a group sets, as its file says; one that only renames another is left out."""
    return {name: one for name, one in _read(group, _folders()).items() if one is not None}


def _option_called(group: str, name: str) -> dict[str, Any]:
    """Return the option of a group by the name that it gives itself; nothing if there is none."""
    options = _options(group)
    return next((one for one in [options.get(name, {}), *options.values()] if one.get("name") == name), {})


def _folders() -> tuple[Path, ...]:
    """Return where options are looked for: the folders of the command at work, and Fairloop's own."""
    places: list[str] = []
    if GlobalHydra.instance().is_initialized():
        places += [one.path for one in GlobalHydra.instance().config_loader().get_search_path().get_path()]
    if HydraConfig.initialized():
        sources = HydraConfig.get().runtime.config_sources
        places += [f"{source.schema}://{source.path}" for source in sources]
    local = [Path(place.removeprefix("file://")) for place in places if place.startswith("file://")]
    return tuple(dict.fromkeys([*local, conf_dir()]))


@cache
def _read(group: str, folders: tuple[Path, ...]) -> dict[str, dict[str, Any] | None]:
    files = {path.stem: path for folder in reversed(folders) for path in sorted((folder / group).glob("*.yaml"))}
    return {name: _settings_in(path, group, files) for name, path in files.items()}


def _settings_in(path: Path, group: str, files: Mapping[str, Path]) -> dict[str, Any] | None:
    """Return what an option's file sets, what it takes from others of its group included; None if it sets nothing new.

    A file that is no option (it cannot be read, or holds something else) sets nothing.
    """
    try:
        own = read_yaml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(own, dict):
        return None
    defaults = own.pop("defaults", [])
    if defaults and not own:
        return None
    taken: dict[str, Any] = {}
    for name in defaults if isinstance(defaults, list) else []:
        if isinstance(name, str) and name in files and files[name] != path:
            taken = _merged(taken, _settings_in(files[name], group, {}) or {})
    inner = own.get(group)
    return _merged(taken, inner if isinstance(inner, dict) else own)  # `@package _global_` names the group


def _merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    both = dict(first)
    for key, value in second.items():
        old = both.get(key)
        both[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return both
