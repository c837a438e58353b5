"""Composition of a configuration by Hydra: the config groups, overrides and sweeps, and the one line a mistake gets.

Nothing here imports torch, so that a wrong override is answered at once.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fairloop.config import Configuration, check
from fairloop.errors import UserError, first_line
from fairloop.settings import known_keys, suggestion

CONFIG_NAME = "config"
UNREADABLE = "the configuration could not be read"


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
    with initialize_config_dir(str(conf_dir()), job_name="fairloop", version_base="1.3"):
        if extra_dir is not None:
            _add_search_path(extra_dir)
        yield


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
    """Return the overrides of each job of a multirun, as Hydra's own sweeper will expand them."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    lines = [f"{key}={value}" for key, value in (sweeper_params or {}).items()] + list(overrides)
    try:
        return BasicSweeper.split_arguments(parse_overrides(lines), max_batch_size=None)[0]
    except HydraException as error:
        raise UserError(_hydra_line(error, overrides)) from error


def parse_overrides(lines: Sequence[str]) -> list[Override]:
    """Parse overrides by Hydra's grammar; a line outside it is a UserError that quotes it."""
    parser = OverridesParser.create()
    parsed = []
    for line in lines:
        try:
            parsed.append(parser.parse_override(line))
        except HydraException as error:
            raise UserError(f"{line}: not of the form key=value (quote special characters: key='\"a b!\"')") from error
    return parsed


# --- the one line of a mistake ---------------------------------------------------------------------------------------


def _hydra_line(error: Exception, overrides: Sequence[str]) -> str:
    text = str(error)
    if isinstance(error, MissingConfigException) and (found := re.search(r"Could not find '([^']+)/([^'/]+)'", text)):
        group, option = found.groups()
        options = re.search(r"Available options in '[^']+':\n((?:\t.+\n?)+)", text)
        names = options.group(1).split() if options else options_of(group)
        return f"{group}={option}: no such choice{suggestion(option, names)}; allowed: {', '.join(sorted(names))}"
    if found := re.search(r"Could not override '([^']+)'", text):
        key = found.group(1)
        given = next((line for line in overrides if line.lstrip("+~").startswith(key + "=")), key)
        return f"{given}: unknown key{suggestion(key, known_keys(Configuration))}; `fairloop --help` lists every key"
    if found := re.search(r"Ambiguous value for argument '([^']+)'", text):
        return f"{found.group(1)}: several values make a sweep, which needs the flag -m"
    if "Config group override must be" in text:
        null = next((line for line in overrides if line.endswith("=null")), "a config group")
        return f"{null}: a config group needs one of its choices; `fairloop --help` lists them"
    return first_line(text, UNREADABLE)


def options_of(group: str) -> list[str]:
    """Return the names of a config group's options."""
    return [path.stem for path in (conf_dir() / group).glob("*.yaml")]


def _add_search_path(folder: str) -> None:
    from hydra.core.global_hydra import GlobalHydra

    if not Path(folder).is_dir():
        raise UserError.of("--config-dir", folder, "an existing folder")
    search_path = GlobalHydra.instance().config_loader().get_search_path()
    search_path.prepend("command-line", f"file://{Path(folder).absolute()}")
