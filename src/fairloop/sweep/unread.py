"""Answer choices that no cell of a command reads: they would change nothing, and nobody would be told."""

from collections.abc import Sequence

from fairloop import composition
from fairloop.config import Configuration
from fairloop.config.study import studies
from fairloop.errors import UserError


def refuse_unread(lines: Sequence[Sequence[str]], cells: Sequence[Configuration]) -> None:
    """Raise UserError for the first override of a config group that none of the cells it was given for reads.

    Defaults and what an experiment sets are no choices of the command. A group that one cell of a sweep reads may be
    given for all of them.

    Args:
        lines: the overrides of each cell.
        cells: their configurations.
    """
    known = {group for study in studies().values() for group in study.reads}
    unread: dict[str, str] = {}
    read: set[str] = set()
    groups: dict[str, str] = {}
    for line, cell in zip(lines, cells, strict=True):
        for text in line:
            if text not in groups:
                groups[text] = composition.parse_overrides([text])[0].key_or_group.split("@")[0].split(".")[0]
            group = groups[text]
            if group not in known:
                continue
            if why := cell.study.unread(cell, group, in_sweep=len(lines) > 1):
                unread.setdefault(group, f"{text}: {why}")
            else:
                read.add(group)
    for group, why in unread.items():
        if group not in read:
            raise UserError(why)
