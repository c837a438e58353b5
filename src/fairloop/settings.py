"""What every group of settings has in common: strict types, no unknown keys, ranges that are checked.

Each room declares its own settings as a subclass of `Settings`, in a module that does not import torch,
so that the whole configuration is validated before anything heavy is loaded.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Settings(BaseModel):
    """A frozen group of settings; unknown keys and wrong types are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, protected_namespaces=())

    def deciding(self) -> dict[str, Any]:
        """Return the settings that decide a result, as plain data: what a cell's name is the hash of.

        Left out are those declared with `incidental`: paths, devices, logging, worker counts.
        """
        kept: dict[str, Any] = {}
        for name, field in type(self).model_fields.items():
            extra = field.json_schema_extra
            if isinstance(extra, dict) and extra.get("incidental"):
                continue
            kept[name] = _plain(getattr(self, name))
        return kept


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
