"""`fairloop-tune`: give each method of debiasing the same number of trials, choose by one criterion, test once.

See `sweep.tuning` for what is computed, and `experiments/fair_gender/tuning.yaml` for a file.
"""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fairloop import composition, console
from fairloop.catalogue import catalogue
from fairloop.console import Parser, entry
from fairloop.errors import FairloopError, UserError
from fairloop.files import write_json, write_text
from fairloop.measures.catalogue import BEFORE
from fairloop.measures.measurement import Measurement
from fairloop.sweep.jobs import Job, jobs_of
from fairloop.sweep.surroundings import check_surroundings
from fairloop.sweep.tuning import Half, Judged, Trial, Tuning, best, check_criterion, judge, read_tuning, trials_of
from fairloop.tracking.results import measurements_of
from fairloop.words import counted

TRIALS_FILE, CHOSEN_FILE, TEST_FILE = "trials.csv", "chosen.json", "test.csv"


@entry("fairloop-tune", "interrupted; the same command goes on after the last finished stage")
def command(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    flags = Parser(prog="fairloop-tune", add_help=False)
    flags.add_argument("--trials", type=int, metavar="N", help="trials of all methods together (default: the file's)")
    flags.add_argument("--development-only", action="store_true", help="leave the test half untouched")
    parser = Parser(
        prog="fairloop-tune",
        description="Choose settings of debias methods on the development half of the benchmarks' items, with the same"
        " number of trials for each, and measure the chosen ones once on the test half.",
        parents=[flags],
    )
    parser.add_argument("file", metavar="FILE", type=Path, help="the tuning, a YAML file")
    parser.add_argument("out", metavar="OUT", type=Path, help=f"folder for {TRIALS_FILE}, {CHOSEN_FILE}, {TEST_FILE}")
    parser.add_argument(
        "overrides", nargs="*", default=[], metavar="KEY=VALUE", help="overrides of every cell, after the file's"
    )
    # The flags first, wherever they stand: argparse takes no overrides behind one, nor names an unknown one before a
    # missing file.
    options, words = flags.parse_known_args(arguments)
    if unknown := [word for word in words if word.startswith("-") and word not in ("-h", "--help")]:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    options = parser.parse_args(words, options)
    tuning = read_tuning(options.file, trials=options.trials)
    tuning = tuning.model_copy(update={"shared": (*tuning.shared, *options.overrides)})
    check_criterion(tuning, catalogue())
    _refuse_second_test(options.out, tuning)
    with composition.composer(None):
        return run_tuning(tuning, options.out, test=not options.development_only)


def run_tuning(tuning: Tuning, out: Path, *, test: bool) -> int:
    """Run the trials that are missing, choose, and test; inside `composition.composer()`.

    Returns:
        0, or 1 if a trial or a cell of the test failed.
    """
    trials = trials_of(tuning)
    planned = {trial: _jobs(trial, tuning.development, tuning) for trial in trials}
    # The test's cells are checked with the methods' own settings: a mistake in them is found before hours of trials.
    tested = [job for trial in trials if trial.number == 0 for job in _jobs(trial, tuning.test, tuning)]
    check_surroundings([*(job for some in planned.values() for job in some), *tested])
    methods = counted(len(tuning.methods), "method")
    console.say(f"{counted(len(trials), 'trial')}, {tuning.each} of each of {methods}, development half")
    rows: list[dict[str, Any]] = []
    judged: dict[Trial, Judged] = {}
    for trial, jobs in planned.items():
        rows.append(_tried(tuning, trial, jobs, judged))
        _write_csv(out / TRIALS_FILE, rows)
    chosen = _choose(tuning, judged)
    for row in rows:
        row["chosen"] = int(chosen.get(row["method"]) == row["trial"])
    _write_csv(out / TRIALS_FILE, rows)
    _say_trials(rows)
    missing = [method for method in tuning.methods if method not in chosen]
    if missing:
        console.warn(f"fairloop-tune: every trial of {', '.join(missing)} failed: see {out / TRIALS_FILE}")
    picked = [trial for trial in trials if chosen.get(trial.method) == trial.number]
    content = {trial.method: {"trial": trial.number, **trial.fixed, **trial.settings} for trial in picked}
    write_json(out / CHOSEN_FILE, {"tuning": tuning.digest, "tested": test, "chosen": content})
    failed = sum(row["status"] != "complete" for row in rows)
    if test:
        failed += _test(tuning, picked, out)
    return int(failed > 0)


def _refuse_second_test(out: Path, tuning: Tuning) -> None:
    """Refuse another tuning where one has been tested: the test half is touched once.

    Raises:
        UserError: the folder holds the test of a tuning with other methods, trials, ranges or criterion.
    """
    path = out / CHOSEN_FILE
    if not path.is_file():
        return
    try:
        before = json.loads(path.read_bytes())
        tested, digest = bool(before["tested"]), str(before["tuning"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError.of("OUT", out, f"a folder of this command ({CHOSEN_FILE} cannot be read)") from error
    if tested and digest != tuning.digest:
        raise UserError.of(
            "OUT", out, "another folder: the test half has been used here, by a tuning with another file or overrides"
        )


def _jobs(trial: Trial, half: Half, tuning: Tuning) -> list[Job]:
    """Return a trial's cells, one for each seed of a half.

    Raises:
        UserError: a mistake in any of them.
    """
    return [jobs_of([trial.overrides(half, seed, tuning.shared)])[0] for seed in half.seeds]


def _tried(tuning: Tuning, trial: Trial, jobs: Sequence[Job], judged: dict[Trial, Judged]) -> dict[str, Any]:
    """Run a trial's cells and return its row; a trial that failed says why and is not judged."""
    row: dict[str, Any] = {
        "method": trial.method,
        "trial": trial.number,
        "settings": json.dumps(dict(trial.settings), sort_keys=True),
        "status": "complete",
        "chosen": 0,
    }
    console.say(f"{trial.method}, trial {trial.number}: {row['settings']}")
    try:
        found = [judge(tuning, _measured(job), catalogue()) for job in jobs if _run(job)]
    except FairloopError as error:
        console.warn(f"fairloop-tune: {error}")
        return {**row, "status": str(error)}
    names = found[0].parts
    parts = {name: sum(one.parts[name] for one in found) / len(found) for name in names}
    bias, excess = (sum(getattr(one, name) for one in found) / len(found) for name in ("bias", "excess"))
    judged[trial] = Judged(bias, excess, parts)
    return {**row, "bias": bias, "excess": excess, **parts}


def _run(job: Job) -> bool:
    from fairloop.studies.runner import run_cell

    if not job.cell.complete:
        console.show_warnings()
        run_cell(job.configuration, job.cell)
    return True


def _measured(job: Job) -> dict[str, Measurement]:
    """Return what a finished cell measured, by name: `before/…`, and after."""
    text = (job.cell.folder / "metrics.csv").read_text(encoding="utf-8")
    return {one.metric: one for some in measurements_of(text).values() for one in some}


def _choose(tuning: Tuning, judged: dict[Trial, Judged]) -> dict[str, int]:
    """Return the number of each method's chosen trial."""
    chosen = {}
    for method in tuning.methods:
        some = [trial for trial in judged if trial.method == method]
        if some:
            chosen[method] = some[best([judged[trial] for trial in some])].number
    return chosen


def _test(tuning: Tuning, picked: Sequence[Trial], out: Path) -> int:
    """Measure the chosen settings on the test half, write them, and return how many cells failed."""
    rows, failed = [], 0
    for trial in picked:
        for seed, job in zip(tuning.test.seeds, _jobs(trial, tuning.test, tuning), strict=True):
            console.say(f"{trial.method}, test, seed {seed}")
            try:
                _run(job)
            except FairloopError as error:
                console.warn(f"fairloop-tune: {error}")
                failed += 1
                continue
            measured = _measured(job)
            rows += [_result(trial.method, seed, one, measured) for name, one in measured.items() if _is_result(name)]
            _write_csv(out / TEST_FILE, rows)
    return failed


def _is_result(name: str) -> bool:
    return not name.startswith(BEFORE) and catalogue().is_result(name)


def _result(method: str, seed: int, one: Measurement, measured: dict[str, Measurement]) -> dict[str, Any]:
    before = measured.get(BEFORE + one.metric)
    return {
        "method": method,
        "seed": seed,
        "metric": one.metric,
        "before": before.value if before is not None else "",
        "after": one.value,
        "low": "" if one.low is None else one.low,
        "high": "" if one.high is None else one.high,
        "n": one.n,
    }


def _say_trials(rows: Sequence[dict[str, Any]]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title="Trials (1 is the bias of the untouched PLM)", title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("method", "trial", "settings", "bias", "excess", "chosen"):
        table.add_column(Text(name), overflow="fold")
    for row in rows:
        values = [_shown(row.get(name, "")) for name in ("method", "trial", "settings", "bias", "excess")]
        table.add_row(*map(Text, [*values, "chosen" if row["chosen"] else "" if "bias" in row else "failed"]))
    console.stdout.print(table)


def _shown(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, names, restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: repr(value) if isinstance(value, float) else value for key, value in row.items()})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, stream.getvalue())
