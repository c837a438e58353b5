"""The whole configuration of a cell: its schema, its composition by Hydra, and the one line a mistake gets.

Nothing here imports torch, so that a wrong override is answered at once.
"""

import difflib
import re
import types
import typing
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import Field, ValidationError, model_validator

from fairloop.errors import UserError
from fairloop.generation.settings import ModelSettings
from fairloop.plm.locate import fingerprint
from fairloop.settings import Settings, incidental
from fairloop.tracking.settings import TrackingSettings
from fairloop.training.settings import TrainerSettings

CONFIG_NAME = "config"

# The version of each study's method. It is part of a cell's name: raise it when a change of the code changes results,
# and cells computed before are no longer taken for finished.
METHODS = {"recursion": 1}


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


class InitialBiasSettings(Settings):
    """Group `initial_bias`: the net stereotype rate of the seed corpus."""

    level: float = Field(ge=0, le=1, description="net stereotype rate of generation 0")
    neutral_share: float = Field(ge=0, le=1, description="share of the other sentences that has no gendered words")


class Configuration(Settings):
    """One resolved cell."""

    study: RecursionSettings
    model: ModelSettings
    initial_bias: InitialBiasSettings
    mitigation: dict[str, Any] = Field(description="strategies by name, applied in this order; empty for none")
    trainer: TrainerSettings = incidental()
    tracking: TrackingSettings = incidental()
    seed: int = Field(ge=0, lt=2**31, description="seed of every random number of the cell")
    runs_dir: str = incidental(min_length=1, description="folder of the run store")

    @model_validator(mode="after")
    def _choices_go_together(self) -> "Configuration":
        study = self.study
        if study.examples > study.sentences:
            raise UserError.of(
                "study.examples",
                study.examples,
                f"at most study.sentences ({study.sentences}), which they are drawn from",
            )
        return self

    @property
    def strategies(self) -> str:
        """The mitigation as one word for names and tables: `none`, or its strategies joined by `+`."""
        return "+".join(self.mitigation) or "none"

    def deciding(self) -> dict[str, Any]:
        """Return what decides the cell's result. Weights are named by their contents, not by where they lie."""
        return {
            **super().deciding(),
            "weights": fingerprint(self.model.path, self.model.revision, "model.path"),
            "encoder": fingerprint(self.study.encoder, None, "study.encoder"),
        }


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
    try:
        plain = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise UserError(f"{error.full_key or 'configuration'}: {_first_line(str(error))}") from error
    assert isinstance(plain, dict)  # noqa: S101 - a composed config has a mapping at its top
    plain.pop("hydra", None)
    try:
        return Configuration.model_validate(plain)
    except ValidationError as error:
        raise UserError(_validation_line(error)) from error


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
        names = options.group(1).split() if options else _options(group)
        return f"{group}={option}: no such choice{_suggest(option, names)}; allowed: {', '.join(sorted(names))}"
    if found := re.search(r"Could not override '([^']+)'", text):
        key = found.group(1)
        given = next((line for line in overrides if line.lstrip("+~").startswith(key + "=")), key)
        return f"{given}: unknown key{_suggest(key, known_keys())}; `fairloop --help` lists every key"
    if found := re.search(r"Ambiguous value for argument '([^']+)'", text):
        return f"{found.group(1)}: several values make a sweep, which needs the flag -m"
    if "Config group override must be" in text:
        null = next((line for line in overrides if line.endswith("=null")), "a config group")
        return f"{null}: a config group needs one of its choices; `fairloop --help` lists them"
    return _first_line(text)


def _validation_line(error: ValidationError) -> str:
    first, *others = error.errors()
    parent, leaf, key = _locate(first["loc"])
    more = f" (and {len(others)} more)" if others else ""
    if first["type"] == "extra_forbidden":
        siblings = [".".join([*key[:-1], name]) for name in parent.model_fields]
        return f"{'.'.join(key)}={first['input']}: unknown key{_suggest('.'.join(key), siblings)}; allowed: {', '.join(siblings)}{more}"
    if first["type"] == "missing":
        return f"{'.'.join(key)}: missing; allowed: {allowed(parent, leaf)}{more}"
    return f"{'.'.join(key)}={_shown(first['input'])}: allowed is {allowed(parent, leaf)}{more}"


def _locate(location: tuple[int | str, ...]) -> tuple[type[Settings], str, list[str]]:
    """Return the settings class that holds the field at `location`, the field's name, and its dotted key."""
    parent: type[Settings] = Configuration
    key = [str(location[0])]
    for part in location[1:]:
        field = parent.model_fields.get(key[-1])
        inner = _settings_class(field.annotation) if field else None
        if inner is None:
            break
        parent = inner
        key.append(str(part))
    return parent, key[-1], key


def _settings_class(annotation: Any) -> type[Settings] | None:
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return annotation
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        return next(filter(None, map(_settings_class, typing.get_args(annotation))), None)
    return None


def allowed(parent: type[Settings], name: str) -> str:
    """Say in words what the field `name` of `parent` may be, from its declared type and range."""
    schema = parent.model_json_schema()["properties"].get(name, {})
    choices = [_one_allowed(option) for option in schema.get("anyOf", [schema])]
    meaning = schema.get("description")
    return " or ".join(choices) + (f" ({meaning})" if meaning else "")


_TYPE_WORDS = {"integer": "a whole number", "number": "a number", "string": "text", "boolean": "true or false"}
_MORE_TYPE_WORDS = {"array": "a list", "object": "a group of keys", "null": "null"}


def _one_allowed(schema: dict[str, Any]) -> str:
    if "enum" in schema or "const" in schema:
        return "one of " + ", ".join(map(str, schema.get("enum", [schema.get("const")])))
    words = (_TYPE_WORDS | _MORE_TYPE_WORDS).get(schema.get("type", "object"), "a group of keys")
    limits = [
        ("minimum", "at least"),
        ("exclusiveMinimum", "above"),
        ("maximum", "at most"),
        ("exclusiveMaximum", "below"),
    ]
    bounds = [f"{word} {schema[limit]:.12g}" for limit, word in limits if limit in schema]
    return " ".join([words, " and ".join(bounds)]).strip()


def known_keys(parent: type[Settings] = Configuration, prefix: str = "") -> list[str]:
    """Return every dotted key of the configuration."""
    keys = []
    for name, field in parent.model_fields.items():
        keys.append(prefix + name)
        if inner := _settings_class(field.annotation):
            keys += known_keys(inner, f"{prefix}{name}.")
    return keys


def _options(group: str) -> list[str]:
    return [path.stem for path in (conf_dir() / group).glob("*.yaml")]


def _suggest(given: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(given, known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _shown(value: Any) -> str:
    text = "null" if value is None else str(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else "the configuration could not be read"


def _add_search_path(folder: str) -> None:
    from hydra.core.global_hydra import GlobalHydra

    if not Path(folder).is_dir():
        raise UserError.of("--config-dir", folder, "an existing folder")
    search_path = GlobalHydra.instance().config_loader().get_search_path()
    search_path.prepend("command-line", f"file://{Path(folder).absolute()}")
