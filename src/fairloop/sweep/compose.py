"""Compose the configurations of a sweep: by Hydra where group choices differ, by assignment where only values do.

Hydra takes a tenth of a second for one configuration. It applies `key=value` overrides last, to what the group choices
made; so cells that make the same choices share that, and each gets its own values. Whatever is not obviously the same
that way (an interpolation, a key that is not there, a list or a group of keys) is composed by Hydra as a whole.
"""

import re
from collections.abc import Sequence
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import OmegaConf

from fairloop import composition
from fairloop.errors import UserError

_PLAIN_KEY = re.compile(r"\w+(\.\w+)*")


class Composer:
    """Composes many configurations; to be used inside `composition.composer()`."""

    def __init__(self) -> None:
        self._parsed: dict[str, Override] = {}
        self._groups: dict[str, bool] = {}
        self._bases: dict[tuple[str, ...], dict[str, Any] | None] = {}

    def compose(self, line: Sequence[str]) -> dict[str, Any]:
        """Return the resolved configuration of one cell as plain data, to be read only: cells share parts of it.

        Args:
            line: the cell's overrides.

        Raises:
            UserError: a mistake in an override.
        """
        overrides = [self._parse(text) for text in line]
        values = [override for override in overrides if self._is_value(override)]
        others = [override for override in overrides if not self._is_value(override)]
        if self._apart(values, others):
            base = self._base(tuple(text for text, override in zip(line, overrides, strict=True) if override in others))
            composed = _assigned(base, values) if base is not None else None
            if composed is not None:
                return composed
        return composition.resolve(composition.compose_config(line))

    def _parse(self, text: str) -> Override:
        if text not in self._parsed:
            self._parsed[text] = composition.parse_overrides([text])[0]
        return self._parsed[text]

    def _is_group(self, key: str) -> bool:
        if key not in self._groups:
            loader: Any = GlobalHydra.instance().config_loader()
            self._groups[key] = loader.repository.group_exists(key)
        return self._groups[key]

    def _is_value(self, override: Override) -> bool:
        """Tell whether an override only puts a plain value where another one was."""
        if override.type != OverrideType.CHANGE or override.package is not None or override.is_sweep_override():
            return False
        value = override.value()
        return (
            _PLAIN_KEY.fullmatch(override.key_or_group) is not None
            and not self._is_group(override.key_or_group)
            and (value is None or isinstance(value, bool | int | float | str))
            and not (isinstance(value, str) and ("${" in value or value == "???"))
        )

    def _apart(self, values: Sequence[Override], others: Sequence[Override]) -> bool:
        """Tell whether the values may be applied after the others: no key of one lies in a key of the other."""
        choices = [one for one in others if self._is_group(one.key_or_group) and not isinstance(one.value(), dict)]
        changed = [other.key_or_group + "." for other in others if other not in choices]
        keys = [value.key_or_group + "." for value in values]
        return not any(key.startswith(other) or other.startswith(key) for key in keys for other in changed)

    def _base(self, line: tuple[str, ...]) -> dict[str, Any] | None:
        """Return what the overrides make before values are put in; None if values could change more than their key."""
        if line not in self._bases:
            try:
                plain = OmegaConf.to_container(composition.compose_config(line), resolve=False)
            except UserError:  # the whole line has the better message
                plain = None
            self._bases[line] = plain if isinstance(plain, dict) and not _refers(plain) else None  # type: ignore[assignment]
        return self._bases[line]


def _refers(node: Any) -> bool:
    """Tell whether anything in plain data is interpolated or still to be given."""
    if isinstance(node, dict):
        return any(map(_refers, node.values()))
    if isinstance(node, list):
        return any(map(_refers, node))
    return isinstance(node, str) and ("${" in node or node == "???")


def _assigned(base: dict[str, Any], values: Sequence[Override]) -> dict[str, Any] | None:
    """Return a copy of `base` with the values put in; None if a key is not there, or holds more than one value."""
    composed = dict(base)
    for override in values:
        *parents, last = override.key_or_group.split(".")
        node = composed
        for key in parents:
            if not isinstance(node.get(key), dict):
                return None
            node[key] = dict(node[key])
            node = node[key]
        if last not in node or isinstance(node[last], dict | list):
            return None
        node[last] = override.value()
    return composed
