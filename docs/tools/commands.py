"""The commands that the documents show, and whether each one is right: composed and validated, but not run.

A command line stands in a fenced or an indented block, or, with its arguments, between backticks in a sentence or a
table. A comment on the line before a block speaks for the whole block:

    <!-- docs-check: validate: why these are never run -->
    <!-- docs-check: skip: why these cannot even be validated -->

A line that begins with `$` may be followed by what the command answers; if that begins with `fairloop: ` the command is
an example of a mistake, and has to be answered exactly so.
"""

import argparse
import contextlib
import importlib
import re
import runpy
import shlex
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

from hydra.types import RunMode
from omegaconf import DictConfig

from fairloop import composition
from fairloop.config import Configuration
from fairloop.console import Parser
from fairloop.errors import FairloopError
from fairloop.sweep.unread import refuse_unread

ROOT = Path(__file__).parents[2]
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "docs/*.md", "experiments/*/README.md")

_SHELL = {"", "bash", "sh", "shell", "console", "text"}
_FENCE = re.compile(r"^\s*(```+|~~~+)\s*(\S*)")
_MARKER = re.compile(r"^\s*<!--\s*docs-check:\s*(validate|skip):\s*(.*?)\s*-->\s*$")
_SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")
_BETWEEN = {"&&", "||", "|", ";", "&"}
_FILE = re.compile(r"^[\w.]+=(?P<path>[\w./-]+\.(?:txt|csv|parquet|jsonl?))$")


@dataclass(frozen=True)
class Command:
    """One command of a document.

    Attributes:
        place: file and line.
        words: program and arguments.
        answer: the mistake's line that the document shows, or empty.
        marker: `validate` or `skip`, or empty.
        reason: why, from the marker.
    """

    place: str
    words: tuple[str, ...]
    answer: str = ""
    marker: str = ""
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.place}: {shlex.join(self.words)}"


@dataclass(frozen=True)
class Plan:
    """What a `fairloop` command would do.

    Attributes:
        lines: the overrides of each cell.
        cells: the validated configurations of some of them: every value of a sweep is in one.
        launcher: name of the launcher's class.
        question: whether it only asks (`--help`, `--cfg`).
    """

    lines: list[list[str]]
    cells: list[Configuration]
    launcher: str = "BasicLauncher"
    question: bool = False


# --- reading ----------------------------------------------------------------------------------------------------------


def documents(root: Path = ROOT) -> list[Path]:
    """Return the documents whose commands are checked."""
    return [path for pattern in DOCUMENTS for path in sorted(root.glob(pattern))]


def commands_in(path: Path, root: Path = ROOT) -> list[Command]:
    """Return the commands of a document that this checker knows, in order."""
    name, text = path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")
    blocks = list(_blocks(text))
    found = [command for block in blocks if block.shell for command in _commands(block, name)]
    inside = {number for block in blocks for number, _ in block.lines}
    for number, line in enumerate(text.splitlines(), start=1):
        spans = [] if number in inside else _SPAN.findall(line)
        found += [
            Command(f"{name}:{number}", words, marker="validate", reason="shown within a sentence or a table")
            for span in spans
            if "…" not in span
            for words in _split(span)
            if len(words) > 1
        ]
    return found


@dataclass(frozen=True)
class _Block:
    lines: list[tuple[int, str]]
    marker: str
    reason: str
    shell: bool = True


def _blocks(text: str) -> Iterator[_Block]:
    """Return the blocks of a Markdown text, fenced or indented, with the marker that speaks for each."""
    lines: list[tuple[int, str]] = []
    fence, shell, before, marker = "", False, "", ("", "")
    for number, line in enumerate([*text.splitlines(), ""], start=1):
        opening = _FENCE.match(line)
        if fence:
            if line.strip() == fence:
                yield _Block(lines, *marker, shell)
                fence, lines, marker = "", [], ("", "")
            else:
                lines.append((number, line.strip()))
        elif line.startswith("    ") and line.strip() and (lines or not before):
            lines.append((number, line.strip()))
        elif line.strip() or number > len(text.splitlines()):
            if lines:
                yield _Block(lines, *marker)
                lines, marker = [], ("", "")
            found = _MARKER.match(line)
            if found:
                marker = (found.group(1), found.group(2))
            elif opening:
                fence, shell = opening.group(1), opening.group(2) in _SHELL
            else:
                marker = ("", "")
        before = line.strip()


def _commands(block: _Block, name: str) -> Iterator[Command]:
    lines = iter(enumerate(block.lines))
    for place, (number, line) in lines:
        while line.endswith("\\"):
            line = line.removesuffix("\\") + next(lines)[1][1]
        after = block.lines[place + 1][1] if place + 1 < len(block.lines) else ""
        answer = after if line.startswith("$ ") and after.startswith("fairloop: ") else ""
        for words in _split(re.sub(r"(^|\s)#\s.*$", "", line.removeprefix("$ "))):
            yield Command(f"{name}:{number}", words, answer, block.marker, block.reason)


def _split(line: str) -> Iterator[tuple[str, ...]]:
    """Return the commands of a shell line that this checker knows."""
    try:
        words = shlex.split(line)
    except ValueError:
        return
    part: list[str] = []
    for word in [*words, ";"]:
        if word not in _BETWEEN:
            part.append(word)
            continue
        while part and re.match(r"^[A-Z][A-Z0-9_]*=", part[0]):
            part = part[1:]
        if part:
            part[0] = part[0].removeprefix(".venv/bin/")
            if part[0] in scripts() or part[0] in ("make", "pytest", "python", "pip"):
                yield tuple(part)
        part = []


@cache
def scripts() -> dict[str, str]:
    """Return what pyproject.toml installs: the commands with their entry points."""
    found: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    return found


def broken_links(path: Path) -> list[str]:
    """Return the files that a document links to and that do not exist."""
    targets = re.findall(r"\]\(([^)\s#]+)[^)]*\)", path.read_text(encoding="utf-8"))
    return [link for link in targets if "://" not in link and not (path.parent / link).exists()]


# --- checking ---------------------------------------------------------------------------------------------------------


def problem(command: Command, root: Path = ROOT) -> str:
    """Return what is wrong with a command, in one line; empty if it could be run."""
    if command.marker == "skip":
        return ""
    program, *arguments = command.words
    if program == "python" and arguments[:2] == ["-m", "fairloop"]:
        program, arguments = "fairloop", arguments[2:]
    if program == "fairloop":
        return _mistake(arguments, command.answer)
    if program == "make":
        return _unknown_target(arguments, root)
    if program == "pip":
        return _unknown_extra(arguments)
    if program == "pytest" or (program == "python" and arguments[:1] != ["-m"]):
        missing = [word for word in arguments if "/" in word and "=" not in word and word.endswith((".py", "/"))]
        return "".join(f"there is no {word}" for word in missing if not (root / word).exists())
    if program == "python" and not arguments[1].startswith("fairloop."):
        return ""
    return _unknown_argument(program, arguments)


def _mistake(arguments: Sequence[str], expected: str) -> str:
    try:
        plan(arguments)
    except FairloopError as error:
        said = f"fairloop: {error}"
        return "" if said == expected else said
    return "the document shows a mistake, but it is none" if expected else ""


def plan(arguments: Sequence[str]) -> Plan:
    """Compose and validate the cells of a `fairloop` command; nothing is loaded or written.

    Files that it names are taken to be there. Of a sweep of many cells as many are validated as show every value.

    Raises:
        UserError: the first mistake.
    """
    flags = composition.parse_arguments(arguments)
    composition.parse_overrides(flags.overrides)
    with _as_if_there(flags.overrides), composition.composer(flags.config_dir):
        base, lines = _expanded(flags)
        some = _covering(lines)
        cells = [composition.validate(composition.compose_config(line)) for line in some]
        refuse_unread(some, cells)
    question = bool(flags.help or flags.hydra_help or flags.cfg or flags.info or flags.shell_completion)
    launcher = str(base.hydra.launcher._target_).rpartition(".")[2]
    return Plan(lines, cells, launcher, question)


def _expanded(flags: argparse.Namespace) -> tuple[DictConfig, list[list[str]]]:
    """Return the configuration of the command itself, and the overrides of each of its cells."""
    chosen = [line for line in flags.overrides if re.match(r"^[+~]*(hydra|experiment)[=./]", line)]
    base = composition.compose_config(chosen if flags.multirun else flags.overrides, with_hydra=True)
    if not flags.multirun and base.hydra.mode != RunMode.MULTIRUN:
        return base, [list(flags.overrides)]
    if base.hydra.sweeper._target_.endswith(".BasicSweeper"):
        return base, composition.expand_sweep(flags.overrides, base.hydra.sweeper.params)
    space = [f"{key}={value}" for key, value in (base.hydra.sweeper.params or {}).items()]
    return base, [[_first(override) for override in composition.parse_overrides([*space, *flags.overrides])]]


def _first(override: Any) -> str:
    """Return an override with the first of the values that a sweeper may try."""
    value = override.value()
    if override.is_choice_sweep():
        shown = value.list[0]
    elif override.is_interval_sweep():
        shown = value.start
    elif override.is_range_sweep():
        shown = next(iter(value.range()))
    else:
        return str(override.input_line)
    return f"{override.get_key_element()}={shown}"


def _covering(lines: Sequence[list[str]]) -> list[list[str]]:
    """Return as few of the lines as hold every override that is in any of them."""
    seen: set[str] = set()
    chosen = []
    for line in lines:
        if not seen.issuperset(line) or not chosen:
            chosen.append(line)
            seen.update(line)
    return chosen


def named_files(overrides: Sequence[str]) -> list[str]:
    """Return the files that overrides name by a relative path."""
    found = (_FILE.match(line) for line in overrides)
    return [match["path"] for match in found if match and not match["path"].startswith("/")]


def _made_up(file: Path) -> None:
    """Write a file of sentences in the form that its name says: one that a command reads has to hold a sentence."""
    if file.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table({"text": ["She is a nurse."]}), file)
    else:
        file.write_text("text\nShe is a nurse.\n", encoding="utf-8")


@contextlib.contextmanager
def _as_if_there(overrides: Sequence[str]) -> Iterator[None]:
    """Work in a folder in which the files that a command names exist."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for name in named_files(overrides):
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            _made_up(Path(name))
        yield


def _unknown_target(arguments: Sequence[str], root: Path) -> str:
    targets = set(re.findall(r"^([\w-]+):", (root / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    wanted = [word for word in arguments if "=" not in word and not word.startswith("-")]
    return "".join(f"the Makefile has no target {word}" for word in wanted if word not in targets)


def _unknown_extra(arguments: Sequence[str]) -> str:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = re.findall(r"(?:fairloop|\.)\[([\w,-]+)\]", " ".join(arguments))
    extras = [extra for names in named for extra in names.split(",")]
    return "".join(f"there is no extra {extra}" for extra in extras if extra not in project["optional-dependencies"])


class _Parsed(Exception):
    """The arguments were understood: stop before anything is done."""


def _unknown_argument(program: str, arguments: Sequence[str]) -> str:
    """Let a command's own parser judge its arguments, and stop it there."""

    def parse(self: argparse.ArgumentParser, given: Any = None, namespace: Any = None) -> argparse.Namespace:
        _, unknown = self.parse_known_args(given, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        raise _Parsed

    silent = mock.patch.object(argparse.ArgumentParser, "error", side_effect=lambda text: _complain(text))
    ours = mock.patch.object(Parser, "error", side_effect=lambda text: _complain(text))
    with mock.patch.object(argparse.ArgumentParser, "parse_args", parse), silent, ours:
        try:
            _start(program, list(arguments))
        except _Parsed:
            return ""
        except ValueError as error:
            return str(error)
        except SystemExit as stop:
            return "" if stop.code in (0, None) else f"ends with status {stop.code}"
    return "its arguments are not read by an argument parser"


def _complain(text: str) -> None:
    raise ValueError(text)


def _start(program: str, arguments: list[str]) -> None:
    if program == "python":
        with mock.patch.object(sys, "argv", arguments[1:]):
            runpy.run_module(arguments[1], run_name="__main__")
        return
    module, _, name = scripts()[program].partition(":")
    with mock.patch.object(sys, "argv", [program, *arguments]):
        getattr(importlib.import_module(module), name)()
