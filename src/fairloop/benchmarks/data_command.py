"""`fairloop-data`: fetch the benchmarks' data once, verify it, and say where it lies and under which licence."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from fairloop.benchmarks.data import DataFile, DataSet, fetch, names
from fairloop.console import Parser, entry, say
from fairloop.errors import Fault, UserError
from fairloop.words import counted


@entry("fairloop-data")
def main(arguments: Sequence[str]) -> int:
    """Fetch and verify; return the exit status: 0 if everything is there, 1 if something is missing or damaged."""
    parser = Parser(
        prog="fairloop-data",
        description="Fetch the data of the benchmarks into the cache (FAIRLOOP_CACHE, by default ~/.cache/fairloop).",
    )
    parser.add_argument("benchmarks", nargs="*", metavar="benchmark", help=f"{', '.join(names())}; none is all of them")
    parser.add_argument("--check", action="store_true", help="fetch nothing: only verify what is there")
    parser.add_argument(
        "--lm-eval",
        metavar="FOLDER",
        help="fetch nothing: write Fairloop's own measures of causal models as tasks of the lm-evaluation-harness",
    )
    options = parser.parse_args(arguments)
    if options.lm_eval is not None:
        return _write_tasks(options)
    chosen = _chosen(options.benchmarks)
    complete = [_provide(dataset, check=options.check) for dataset in chosen]
    return 0 if all(complete) else 1


def _write_tasks(options: argparse.Namespace) -> int:
    """Write the folder of tasks and print how it is used."""
    if options.benchmarks or options.check:
        raise UserError.of("--lm-eval", options.lm_eval, "stands alone: it needs no benchmark's data")
    folder = Path(options.lm_eval)
    if folder.exists() and not folder.is_dir():
        raise UserError.of("--lm-eval", folder, "a folder, or a path where nothing is")
    from fairloop.benchmarks.lm_eval.export import TASKS, write_tasks

    for path in write_tasks(folder):
        say(str(path))
    say(f"lm_eval --include_path {shlex.quote(str(folder))} --tasks {','.join(TASKS)} --model hf …")
    return 0


def _chosen(wanted: Sequence[str]) -> list[DataSet]:
    for name in wanted:
        if name not in names():
            raise UserError.of("benchmark", name, f"data is fetched for {', '.join(names())}")
    return [DataSet(name) for name in wanted or names()]


def _provide(dataset: DataSet, *, check: bool) -> bool:
    """Fetch what is missing of one data set and print its state; say whether it is complete and undamaged."""
    faults = []
    for file in dataset.files:
        if not file.optional:
            try:
                _provide_file(dataset, file, check=check)
            except Fault as fault:
                faults.append(str(fault))
    state = f"{counted(len(faults), 'file')} missing or damaged" if faults else "complete"
    unpinned = [file.name for file in dataset.files if not file.pinned and not file.optional]
    checked = "checksums verified"
    if unpinned:
        which = ", ".join(unpinned) if len(unpinned) <= 3 else f"{len(unpinned)} files"
        checked = f"{checked}, except {which}: none is published"
    say(f"{dataset.name}: {state}{'' if faults else f', {checked}'}")
    say(f"  folder   {dataset.cached}")
    say(f"  licence  {dataset.licence}")
    say(f"  source   {dataset.citation}")
    for line in faults:
        say(f"  ! {line}")
    return not faults


def _provide_file(dataset: DataSet, file: DataFile, *, check: bool) -> None:
    path = dataset.cached / file.name
    if not path.is_file():
        if check:
            raise Fault(f"{path} is missing; its source is {file.url}")
        fetch(dataset, file)
    elif not file.is_published(path):
        raise Fault(f"{path}: its checksum is not the publisher's: delete it and run fairloop-data again")


if __name__ == "__main__":
    sys.exit(main())
