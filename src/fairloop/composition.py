"""Composition of a configuration by Hydra: flags, config groups, overrides, sweeps, and the one line of a mistake.

Nothing here imports torch, so that a wrong override is answered at once.
"""

import argparse
import itertools
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.errors import HydraException, MissingConfigException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fairloop.config import Configuration, check
from fairloop.console import Parser
from fairloop.errors import UserError, first_line
from fairloop.settings import known_keys, suggestion

CONFIG_NAME = "config"

MOST_CELLS = 20_000
"""Cells of one command: planning them takes minutes, and their store is large."""

LONGEST_OVERRIDE = 20_000
MOST_BRACKETS = 100
UNREADABLE = "the configuration could not be read"

_SWITCH: dict[str, Any] = {"action": "store_true"}
_WHOLE: dict[str, Any] = {"nargs": "?", "const": ""}
_ACTIONS = ("--multirun", "--cfg", "--info", "--shell-completion")
_INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")

FLAGS: dict[tuple[str, ...], tuple[str, dict[str, Any]]] = {
    ("--help", "-h"): ("print the choices, every key with its value, and these flags", _SWITCH),
    ("--multirun", "-m"): ("run a sweep: one cell for each combination of the values", _SWITCH),
    ("--config-dir", "-cd"): ("a folder of further choices, laid out as conf/ is", {}),
    ("--cfg", "-c"): ("job, hydra or all: print the configuration, run nothing", {"choices": ("job", "hydra", "all")}),
    ("--resolve",): ("with --cfg: print values in place of interpolations", _SWITCH),
    ("--package", "-p"): ("with --cfg: print this part alone", {}),
    ("--info", "-i"): ("print how Hydra composes the configuration", {"nargs": "?", "const": "all", "choices": _INFO}),
    ("--shell-completion", "-sc"): ("install=SHELL or uninstall=SHELL: completion of choices and keys", _SWITCH),
    ("--hydra-help",): ("print Hydra's own help", _SWITCH),
    ("--version",): ("print Fairloop's version", _SWITCH),
}
"""The flags of `fairloop`, what each does, and how argparse takes it."""

WITHOUT_EFFECT: dict[tuple[str, ...], str] = {
    ("--config-name", "-cn"): "there is one configuration; experiment=NAME chooses a published one",
    ("--config-path", "-cp"): "--config-dir=FOLDER adds a folder of choices",
    ("--experimental-rerun",): "the same command again goes on with its cells",
    ("--run", "-r"): "without -m one cell is run",
}
"""Flags that other Hydra applications have, and what is there instead."""


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Return a command's flags, with its overrides as `overrides`; flags may stand before, between and behind them.

    Raises:
        UserError: a flag that does not exist, or that has no effect here.
    """
    parser = Parser("fairloop", add_help=False)
    for names, (_, kind) in FLAGS.items():
        parser.add_argument(*names, **kind)
    for names in WITHOUT_EFFECT:
        parser.add_argument(*names, **_WHOLE)
    parser.add_argument("overrides", nargs="*")
    flags = parser.parse_intermixed_args(list(arguments))
    for names, instead in WITHOUT_EFFECT.items():
        if getattr(flags, _attribute(names)) is not None:
            raise UserError(f"{names[0]}: has no effect on fairloop; {instead}")
    for name in ("--resolve", "--package"):
        if getattr(flags, _attribute((name,))) and not flags.cfg:
            raise UserError(f"{name}: has no effect without --cfg")
    actions = [name for name in _ACTIONS if getattr(flags, _attribute((name,)))]
    if len(actions) > 1 and not flags.help:
        raise UserError(f"{' and '.join(actions)}: choose one of them")
    return flags


def flag_words(flags: argparse.Namespace) -> list[str]:
    """Return the words of a command line that says the same, flags first."""
    words: list[str] = []
    for names in FLAGS:
        value = getattr(flags, _attribute(names))
        words += [names[0]] if value is True else [names[0], value] if value else []
    return [*words, *flags.overrides]


def _attribute(names: tuple[str, ...]) -> str:
    return names[0].lstrip("-").replace("-", "_")


def conf_dir() -> Path:
    """Return the folder of the config groups: beside the package in a wheel, at the top of a source checkout."""
    package = Path(__file__).parent
    for folder in (package / "conf", package.parents[1] / "conf"):
        if (folder / f"{CONFIG_NAME}.yaml").is_file():
            return folder
    raise UserError(f"the configuration folder conf/ is missing beside {package.name}: install the package again")


@contextmanager
def composer(extra_dir: str | None = None) -> Iterator[None]:
    """Make Hydra ready to compose; `extra_dir` is the folder of the flag --config-dir."""
    if extra_dir is not None and not Path(extra_dir).is_dir():
        raise UserError.of("--config-dir", extra_dir, "an existing folder")
    Plugins.instance().register(_ExtraFolder)
    _ExtraFolder.folder = extra_dir
    outer = GlobalHydra.instance().hydra  # of an application or a notebook that uses Hydra itself
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf_dir()), job_name="fairloop", version_base="1.3"):
            yield
    finally:
        _ExtraFolder.folder = None
        GlobalHydra.instance().hydra = outer


class _ExtraFolder(SearchPathPlugin):
    """Hydra looks for choices in the folder of --config-dir first."""

    folder: str | None = None

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        if self.folder is not None:
            search_path.prepend("command-line", f"file://{Path(self.folder).absolute()}")


def compose_config(overrides: Sequence[str], *, with_hydra: bool = False) -> DictConfig:
    """Compose one configuration; a mistake in an override is a UserError. Call inside `composer()`."""
    try:
        return compose(CONFIG_NAME, overrides=list(overrides), return_hydra_config=with_hydra)
    except (HydraException, OmegaConfBaseException, ValueError, OSError) as error:
        raise UserError(_hydra_line(error, overrides)) from error


def validate(composed: DictConfig) -> Configuration:
    """Resolve and check a composed configuration; the first mistake is a UserError of one line."""
    return check(resolve(composed))


def resolve(composed: DictConfig) -> dict[str, Any]:
    """Return a composed configuration as plain data; an interpolation that leads nowhere is a UserError."""
    try:
        plain = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise UserError(f"{error.full_key or 'configuration'}: {first_line(error, UNREADABLE)}") from error
    assert isinstance(plain, dict)  # noqa: S101 - a composed config has a mapping at its top
    return {str(key): value for key, value in plain.items() if key != "hydra"}


def expand_sweep(overrides: Sequence[str], sweeper_params: dict[str, Any] | None) -> list[list[str]]:
    """Return the overrides of each job of a multirun: every combination of the values, as Hydra's own sweeper does.

    A key that is given again, as on the command line after `sweeper_params`, has its last values. To be called inside
    `composer()`.
    """
    lines = [f"{key}={value}" for key, value in (sweeper_params or {}).items()] + list(overrides)
    values: dict[str, list[str]] = {}
    for override in parse_overrides(lines, GlobalHydra.instance().config_loader()):
        key = override.get_key_element()
        if not override.is_sweep_override():
            values[key] = [f"{key}={override.get_value_element_as_str()}"]
        elif override.is_discrete_sweep():
            values[key] = [f"{key}={value}" for value in _swept(override)]
        else:
            raise UserError(
                f"{override.input_line}: a range of real numbers is searched, with hydra/sweeper=fairloop_optuna"
            )
    cells = math.prod(map(len, values.values()))
    if cells > MOST_CELLS:
        raise UserError(f"{' '.join(overrides)}: {cells} cells; one command takes at most {MOST_CELLS}")
    return [list(line) for line in itertools.product(*values.values())]


def _swept(override: Override) -> list[str]:
    """Return the values of a swept key; a range or a pattern without one is a UserError, and so is one of too many."""
    line = override.input_line
    try:
        found = list(itertools.islice(override.sweep_string_iterator(), MOST_CELLS + 1))
    except (IndexError, ValueError, HydraException) as error:
        raise UserError(f"{line}: has no values ({first_line(error, 'an empty range')})") from error
    if not found:
        raise UserError(f"{line}: has no values")
    if len(found) > MOST_CELLS:
        raise UserError(f"{line}: more than {MOST_CELLS} values; one command takes at most so many cells")
    return found


def compose_multirun(overrides: Sequence[str]) -> DictConfig:
    """Compose the configuration of a whole sweep, for its launcher and sweeper; call inside `composer()`."""
    loader = GlobalHydra.instance().config_loader()
    return loader.load_configuration(CONFIG_NAME, list(overrides), run_mode=RunMode.MULTIRUN)


def hydra_context(composed: DictConfig) -> HydraContext:
    """Return what Hydra's launchers and sweepers are given; call inside `composer()`.

    Hydra has no public way to make the callbacks (`hydra.callbacks`) that each of them calls.
    """
    from hydra._internal.callbacks import Callbacks

    return HydraContext(GlobalHydra.instance().config_loader(), Callbacks(composed))


def parse_overrides(lines: Sequence[str], loader: Any = None) -> list[Override]:
    """Parse overrides by Hydra's grammar; a line outside it is a UserError that quotes it.

    With Hydra's `loader` of configurations, the choices of a group that `glob(*)` stands for are found.
    """
    parser = OverridesParser.create(config_loader=loader)
    parsed = []
    for line in lines:
        if len(line) > LONGEST_OVERRIDE:
            raise UserError(f"{line[:40]}…: {len(line)} characters; an override has at most {LONGEST_OVERRIDE}")
        if line.count("{") + line.count("[") + line.count("(") > MOST_BRACKETS:
            raise UserError(f"{line[:40]}…: an override has at most {MOST_BRACKETS} brackets")
        try:
            (override,) = parser.parse_overrides([line])
            if not override.key_or_group:
                raise ValueError("no key")
        except (HydraException, ValueError) as error:
            raise UserError(f"{line}: not of the form key=value (quote special characters: key='\"a b!\"')") from error
        parsed.append(override)
    return parsed


# --- the one line of a mistake ---------------------------------------------------------------------------------------


def _hydra_line(error: Exception, overrides: Sequence[str]) -> str:
    text = str(error)
    if isinstance(error, MissingConfigException) and (found := re.search(r"Could not find '([^']+)/([^'/]+)'", text)):
        group, option = _as_given(found[1], found[2], overrides)
        options = re.search(r"Available options in '[^']+':\n((?:\t.+\n?)+)", text)
        names = options.group(1).split() if options and group == found[1] else options_of(group)
        # Hydra's plugins bring launchers of their own, which know nothing of a cell's share of the machine.
        names = [name for name in names if not group.startswith("hydra/") or name in (*options_of(group), "basic")]
        hint = suggestion(option, names) or _elsewhere(group, option)
        return f"{group}={option}: no such choice{hint}; allowed: {', '.join(sorted(names))}"
    if found := re.search(r"Could not override '([^']+)'", text):
        key = found.group(1)
        given = next((line for line in overrides if line.lstrip("+~").startswith(key + "=")), key)
        hint = suggestion(key, _keys_without(given, overrides))
        return f"{given}: unknown key{hint}; `fairloop --help` lists every key"
    if found := re.search(r"Could not load '([^']+)/([^'/]*)'", text):
        group, option = found.groups()
        return f"{group}={option}: no such choice; allowed: {', '.join(sorted(options_of(group)))}"
    if text.startswith("Error merging override"):
        given = text.removeprefix("Error merging override").strip().splitlines()[0]
        return f"{given}: allowed is {_kind(given, overrides)}"
    if found := re.search(r"Ambiguous value for argument '([^']+)'", text):
        return f"{found.group(1)}: several values make a sweep, which needs the flag -m"
    if "Config group override must be" in text:
        parsed = [one for one in parse_overrides(overrides) if options_of(one.key_or_group)]
        given = next((one.input_line for one in parsed if not isinstance(one.value(), str | list)), "a config group")
        return f"{given}: a config group needs one of its choices; `fairloop --help` lists them"
    return first_line(text, UNREADABLE)


def _composed_without(given: str, overrides: Sequence[str]) -> DictConfig | None:
    """Return the configuration that the other overrides make; None if they have mistakes of their own."""
    with suppress(HydraException, OmegaConfBaseException, ValueError, OSError):
        return compose(CONFIG_NAME, overrides=[line for line in overrides if line != given])
    return None


def _keys_without(given: str, overrides: Sequence[str]) -> list[str]:
    """Return the keys that there are under the other choices of a command."""
    composed = _composed_without(given, overrides)
    plain = None if composed is None else OmegaConf.to_container(composed)
    return list(_dotted(plain)) if isinstance(plain, dict) else known_keys(Configuration)


def _kind(given: str, overrides: Sequence[str]) -> str:
    """Return in words what kind of value a key has."""
    composed = _composed_without(given, overrides)
    node = None if composed is None else OmegaConf.select(composed, given.lstrip("+~").partition("=")[0])
    kinds = {ListConfig: "a list", DictConfig: "a group of keys"}
    return next((words for kind, words in kinds.items() if isinstance(node, kind)), "a value that is neither")


def _dotted(group: dict[Any, Any], prefix: str = "") -> Iterator[str]:
    for name, inner in group.items():
        yield f"{prefix}{name}"
        if isinstance(inner, dict):
            yield from _dotted(inner, f"{prefix}{name}.")


_OTHER_NAMES = {"mitigation=cda": "mitigation=augment adds counterfactuals, debias=cda debiases a PLM by them"}


def _as_given(group: str, option: str, overrides: Sequence[str]) -> tuple[str, str]:
    """Return group and option of a choice as they were written: Hydra takes a path's folders for groups."""
    given = (line.lstrip("+").partition("=") for line in overrides)
    whole = ((key, value) for key, _, value in given if f"{key}/{value}" == f"{group}/{option}" and options_of(key))
    return next(whole, (group, option))


def _elsewhere(group: str, option: str) -> str:
    """Return a hint at another group or key that takes such a choice, or at what the field calls it; else nothing."""
    if "/" in option and group in ("model", "plm"):
        return f" ({group}.path={option} takes a folder or an id of the Hub)"
    groups = (path.name for path in conf_dir().iterdir() if path.is_dir() and path.name != group)
    found = [f"{other}={option}" for other in sorted(groups) if option in options_of(other)]
    hint = _OTHER_NAMES.get(f"{group}={option}") or " or ".join(found)
    return f" (did you mean {hint}?)" if hint else ""


def options_of(group: str) -> list[str]:
    """Return the names of a config group's options."""
    return [path.stem for path in (conf_dir() / group).glob("*.yaml")]
