"""What every group of settings has in common: strict types, no unknown keys, ranges that are checked.

Each package declares its own settings as a subclass of `Settings`, in a module that does not import torch,
so that the whole configuration is validated before anything heavy is loaded.
"""

import difflib
import typing
from collections.abc import Sequence
from functools import cache
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from fairloop.errors import shown

LARGEST = 10**12
"""No setting is a larger number."""

DEEPEST = 8
"""No list or free-form group has others in it to a greater depth."""


class Settings(BaseModel):
    """A frozen group of settings; unknown keys and wrong types are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, protected_namespaces=(), allow_inf_nan=False)

    @field_validator("*", mode="after")
    @classmethod
    def _is_no_extreme(cls, value: Any) -> Any:
        """Refuse what overflows somewhere behind the schema's own limits, in lists and free-form groups as well."""
        if not _is_moderate(value, DEEPEST):
            raise PydanticCustomError("extreme", "extreme")
        return value

    def deciding(self) -> dict[str, Any]:
        """Return the settings that decide a result, as plain data: what a cell's name is the hash of.

        Left out are those declared with `incidental`: paths, devices, logging, worker counts. One declared with
        `by_contents` is null.
        """
        kept = (name for name in type(self).model_fields if not self.marked(name, "incidental"))
        return {name: None if self.marked(name, "by_contents") else _plain(getattr(self, name)) for name in kept}

    @classmethod
    def marked(cls, name: str, mark: str) -> bool:
        """Tell whether a field is declared with `incidental` or `by_contents`; an unknown one is not."""
        extra = cls.model_fields[name].json_schema_extra if name in cls.model_fields else None
        return isinstance(extra, dict) and bool(extra.get(mark))


def _is_moderate(value: Any, depth: int) -> bool:
    """Tell whether all numbers in a value are finite and of a sensible size, and its lists and groups not too deep."""
    if isinstance(value, int | float):
        return -LARGEST <= value <= LARGEST
    if isinstance(value, dict | list | tuple):
        parts = [*value, *value.values()] if isinstance(value, dict) else value
        return depth > 0 and all(_is_moderate(part, depth - 1) for part in parts)
    return True


def _plain(value: Any) -> Any:
    if isinstance(value, Settings):
        return value.deciding()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def incidental(default: Any = ..., **constraints: Any) -> Any:
    """Declare a field that does not decide a result (a path, a device, logging, a worker count)."""
    return Field(default, json_schema_extra={"incidental": True}, **constraints)


def by_contents(default: Any = ..., **constraints: Any) -> Any:
    """Declare the path of something whose contents decide a result, and not where it lies.

    It is for the study to name the contents (`config.study.StudySettings.contents` and `.models`).
    """
    return Field(default, json_schema_extra={"by_contents": True}, **constraints)


# --- the one line of a mistake --------------------------------------------------------------------------------------


def mistake(error: ValidationError, root: type[Settings], prefix: str = "") -> str:
    """Return the one line for the first mistake in the settings `root`: key, value, and what is allowed.

    Args:
        error: what pydantic raised for `root.model_validate`.
        root: the settings that were given.
        prefix: the dotted key of the group that holds them, with a final dot; empty for the whole configuration.
    """
    first, *others = error.errors()
    if first["type"] == "value_error":  # a check of several fields together, which words its own line
        return str(first["msg"]).removeprefix("Value error, ")
    if not first["loc"]:
        return f"{prefix.removesuffix('.')}={shown(first['input'])}: allowed is {_TYPE_WORDS['object']}"
    parent, leaf, key = _locate(first["loc"], root)
    dotted = prefix + ".".join(key)
    more = f" (and {len(others)} more)" if others else ""
    if first["type"] == "extra_forbidden":
        siblings = [prefix + ".".join([*key[:-1], name]) for name in parent.model_fields]
        choices = ", ".join(siblings)
        return (
            f"{dotted}={shown(first['input'])}: unknown key{suggestion(dotted, siblings)}; "
            f"allowed: {choices or 'none'}{more}"
        )
    if first["type"] == "missing":
        return f"{dotted}: missing; allowed: {allowed(parent, leaf)}{more}"
    words = allowed(parent, leaf)
    if first["type"] in ("extreme", "finite_number"):
        limit = f"finite, at most {LARGEST:.0e} in size"
        of_parts = f"{words}; numbers in it {limit}, and no more than {DEEPEST} lists or groups in each other"
        words = words.replace("number", f"number ({limit})", 1) if "number" in words else of_parts
    if first["type"] == "string_type" and isinstance(first["input"], int | float) and "text" in words.split(" ")[:2]:
        words += f"; what looks like a number or like true is text within two kinds of quotes: {dotted}=\"'…'\""
    return f"{dotted}={shown(first['input'])}: allowed is {words}{more}"


def _locate(location: tuple[int | str, ...], root: type[Settings]) -> tuple[type[Settings], str, list[str]]:
    """Return the settings class that holds the field at `location`, the field's name, and its dotted key."""
    parent, inner = root, None
    key = [str(location[0])]
    for part in location[1:]:
        if inner is None:
            field = parent.model_fields.get(key[-1])
            options = _settings_classes(field.annotation) if field else []
            if not options:
                break
            inner = next((option for option in options if part in _tags(option)), options[0])
            if len(options) > 1:
                continue  # the tag that says which of them was chosen is no part of the key
        parent, inner = inner, None
        key.append(str(part))
    return parent, key[-1], key


def _settings_classes(annotation: Any) -> list[type[Settings]]:
    """Return the settings classes among which an annotation lets choose."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return [annotation]
    return [found for option in typing.get_args(annotation) for found in _settings_classes(option)]


def _tags(choice: type[Settings]) -> tuple[Any, ...]:
    name = choice.model_fields.get("name")
    return typing.get_args(name.annotation) if name else ()


def allowed(parent: type[Settings], name: str) -> str:
    """Say in words what the field `name` of `parent` may be, from its declared type and range."""
    schema = _properties(parent).get(name, {})
    choices = [_one_allowed(option) for option in schema.get("anyOf", [schema])]
    meaning = schema.get("description")
    return " or ".join(choices) + (f" ({meaning})" if meaning else "")


@cache
def _properties(parent: type[Settings]) -> dict[str, dict[str, Any]]:
    properties: dict[str, dict[str, Any]] = parent.model_json_schema()["properties"]
    return properties


_TYPE_WORDS = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "array": "a list",
    "object": "a group of keys",
    "null": "null",
}


def _one_allowed(schema: dict[str, Any]) -> str:
    if "enum" in schema or "const" in schema:
        return "one of " + ", ".join(map(str, schema.get("enum", [schema.get("const")])))
    if schema.get("type") == "array":
        fewest = f" of at least {schema['minItems']}" if schema.get("minItems") else ""
        items = schema.get("items", {})
        each = " or ".join(map(_one_allowed, items.get("anyOf", [items] if items else [])))
        return f"a list{fewest}, each {each}" if each else f"a list{fewest}"
    words = "non-empty text" if schema.get("minLength") else _TYPE_WORDS[schema.get("type", "object")]
    limits = [
        ("minimum", "at least"),
        ("exclusiveMinimum", "above"),
        ("maximum", "at most"),
        ("exclusiveMaximum", "below"),
    ]
    bounds = [f"{word} {schema[limit]:.12g}" for limit, word in limits if limit in schema]
    return " ".join([words, " and ".join(bounds)]).strip()


def known_keys(parent: type[Settings], prefix: str = "") -> list[str]:
    """Return every dotted key below `parent`."""
    keys = []
    for name, field in parent.model_fields.items():
        keys.append(prefix + name)
        for inner in _settings_classes(field.annotation):
            keys += known_keys(inner, f"{prefix}{name}.")
    return keys


def suggestion(given: str, known: Sequence[str]) -> str:
    """Return ` (did you mean …?)` if a known word is close to the given one, else nothing."""
    close = difflib.get_close_matches(given, known, n=3)
    meant = [word for word in close if difflib.get_close_matches(_leaf(given), [_leaf(word)])]
    return f" (did you mean {meant[0]}?)" if meant else ""


def _leaf(key: str) -> str:
    """Return the last part of a dotted key: two keys are not alike because they are of one group."""
    return key.rpartition(".")[2]
