"""Find debias methods by their files or folders and validate their settings; nothing here imports torch."""

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fairloop.debias.base import Method
from fairloop.debias.settings import MethodSettings
from fairloop.errors import UserError
from fairloop.settings import mistake


@cache
def methods() -> tuple[str, ...]:
    """Return the names of all methods: files of this package, and `method.py` of its folders, with that `Method`."""
    names = [module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)])]
    return tuple(name for name in names if getattr(getattr(_module(name), "Method", None), "name", "") == name)


def settings_class(name: str) -> type[MethodSettings]:
    """Return the settings class of a method."""
    found: type[MethodSettings] = _module(name).MethodSettings
    return found


def settings_of(chosen: Mapping[str, Any]) -> MethodSettings:
    """Validate the config group `debias` with the settings class of the method that its `name` names.

    Raises:
        UserError: an unknown method, or settings of it that are not allowed; the line names the key.
    """
    name = chosen.get("name")
    if name not in methods():
        raise UserError.of("debias", name, f"choose one of {', '.join(methods())}")
    cls = settings_class(str(name))
    try:
        return cls.model_validate(dict(chosen))
    except ValidationError as error:
        raise UserError(mistake(error, cls, "debias.")) from error


def method(settings: MethodSettings) -> Method:
    """Return the method of validated settings."""
    found: Method = _module(settings.name).Method(settings)
    return found


def _module(name: str) -> Any:
    module = importlib.import_module(f"fairloop.debias.{name}")
    return importlib.import_module(f"{module.__name__}.method") if hasattr(module, "__path__") else module
