"""Run the toy study on a disk that loses what was not flushed, and cut its power.

    python power_cut.py RUNS_DIR CUT AFTER

`os.fsync` is replaced by one that notes what the disk then holds: of a file its contents, of a folder its entries. At
flush or rename number CUT nothing more reaches the disk; what it held is built anew in AFTER/strict and AFTER/eager. In
`strict` a name is there only if its folder was flushed; in `eager` every name is there, as where the file system has
written its journal, while the contents of files are still those that were flushed, or none.
"""

import os
import stat
import sys
from pathlib import Path

contents: dict[int, bytes] = {}
entries: dict[int, list[tuple[str, int]]] = {}
kinds: dict[int, bool] = {}
calls = 0


def listing(folder: Path) -> list[tuple[str, int]]:
    found = []
    for path in folder.iterdir():
        status = path.lstat()
        kinds[status.st_ino] = stat.S_ISDIR(status.st_mode)
        found.append((path.name, status.st_ino))
    return found


def note(descriptor: int) -> None:
    status = os.fstat(descriptor)
    path = Path(f"/proc/self/fd/{descriptor}").readlink()
    if stat.S_ISDIR(status.st_mode):
        entries[status.st_ino] = listing(path)
    else:
        contents[status.st_ino] = path.read_bytes()


def build(target: Path, number: int, names: dict[int, list[tuple[str, int]]]) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for name, inner in names.get(number, []):
        if kinds[inner]:
            build(target / name, inner, names)
        else:
            (target / name).write_bytes(contents.get(inner, b""))


def main() -> None:
    runs, cut, after = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    sys.path.insert(0, str(Path(__file__).parent))
    import toy_study

    flush, rename, replace = os.fsync, os.rename, os.replace
    runs.mkdir(parents=True)

    def counted() -> None:
        global calls
        calls += 1
        if calls == cut:
            top = runs.stat().st_ino
            entries.setdefault(top, [])
            build(after / "strict", top, entries)
            build(
                after / "eager",
                top,
                {path.stat().st_ino: listing(path) for path in [runs, *runs.rglob("*")] if path.is_dir()},
            )
            os._exit(99)

    def fsync(descriptor: int) -> None:
        counted()
        note(descriptor)
        flush(descriptor)

    def renaming(original):
        def call(*arguments, **options):
            counted()
            return original(*arguments, **options)

        return call

    os.fsync, os.rename, os.replace = fsync, renaming(rename), renaming(replace)
    toy_study.run(runs, 1)
    print(calls)


if __name__ == "__main__":
    main()
