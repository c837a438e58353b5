"""The sweep's own run: one table that compares all its cells, found by the same `sweep` as their runs.

The run's id is derived from the sweep's cells, so that the same command continues the same run; what a sweep has
nothing new to tell is not logged again. As with a cell's run, no error of W&B fails the command.
"""

import json
import logging
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fairloop.files import canonical_json, digest_text, write_json
from fairloop.measures.catalogue import DISTANCE, Catalogue
from fairloop.tracking.results import number
from fairloop.tracking.settings import TrackingSettings
from fairloop.tracking.store import KEY_LENGTH, Cell, read_status
from fairloop.tracking.wandb_run import remove_unsynced
from fairloop.tracking.wandb_service import (
    SETTLED,
    agents_run,
    end_streams,
    in_one_line,
    is_first_rank,
    reason_not_to_track,
    reason_to_stay_offline,
    run_settings,
)
from fairloop.tracking.wandb_values import csv_table, define, goal_of, table
from fairloop.words import counted

FOLDER = ".sweeps"
"""Inside the run store: the sweeps' own runs and what was last logged of each."""

JOB_TYPE = "sweep"

_UNINTERESTING = ("runs_dir", "tracking", "trainer")

_log = logging.getLogger("fairloop.tracking")


def begin_sweep(settings: TrackingSettings, cells: Sequence[Cell]) -> None:
    """Begin the sweep's run on the service, before its cells; to be called where `settle_offline` left it to be tried.

    A service that knows the user and takes no run all the same is found here, once for all cells in whatever process
    they run: each process of them would wait for it otherwise.
    """
    if not _is_tracked(settings, cells) or SETTLED in os.environ:
        return
    folder = cells[0].folder.parents[1] / FOLDER
    _begin_online(settings, cells, folder, finish=True)
    end_streams()  # the cells' processes have a service process each: this one may be on another machine


def log_sweep(
    settings: TrackingSettings, cells: Sequence[Cell], catalogue: Catalogue, files: Iterable[Path] = ()
) -> None:
    """Log a sweep's comparison to one run; nothing for a single cell, or if nothing changed since it was last logged.

    Args:
        settings: the config group `tracking`, which all cells share.
        cells: the cells of the command, finished or not, in their order.
        catalogue: what is known of measures.
        files: the report's files: PNG files become images, CSV files tables, others are left alone.
    """
    if not _is_tracked(settings, cells):
        return
    try:
        _log_sweep(settings, cells, catalogue, list(files))
    except Exception as error:
        _log.warning("Weights & Biases: the sweep's table is not logged: %s", in_one_line(error))


def sweep_id(cells: Sequence[Cell]) -> str:
    """Return the id of a sweep's run: the same for the same cells, in whatever order."""
    return f"sweep-{digest_text(canonical_json(sorted(cell.key for cell in cells)))[:KEY_LENGTH]}"


def comparison(cells: Sequence[Cell], catalogue: Catalogue) -> list[dict[str, Any]]:
    """Return one row for each cell: its name and status, the choices in which cells differ, its headline metrics.

    A metric of each generation is that of the last one. One with an ideal value also has its distance from it.
    """
    choices = [_flat(cell.config) for cell in cells]
    names = dict.fromkeys(name for chosen in choices for name in chosen)
    differ = [name for name in names if len({str(chosen.get(name)) for chosen in choices}) > 1]
    rows = []
    for cell, chosen in zip(cells, choices, strict=True):
        status = read_status(cell.folder)
        row = {"cell": cell.key, "study": cell.study, "status": status.state, "reason": status.reason}
        rows.append(row | {name: chosen.get(name) for name in differ} | _headlines(cell, catalogue))
    return rows


def _log_sweep(settings: TrackingSettings, cells: Sequence[Cell], catalogue: Catalogue, files: Sequence[Path]) -> None:
    rows, run_id = comparison(cells, catalogue), sweep_id(cells)
    folder = cells[0].folder.parents[1] / FOLDER
    known = folder / f"{run_id}.json"
    said = {"rows": digest_text(canonical_json(rows)), "sweep": _name(settings, cells)}
    if _read(known) == said:
        return
    run = None
    if reason_to_stay_offline(settings.mode) is None:
        run = _begin_online(settings, cells, folder)
    why_offline = None if run is not None else reason_to_stay_offline(settings.mode)
    run = run or _begin(settings, cells, folder, run_id, online=False)
    try:
        _fill(run, rows, catalogue, files)
    finally:
        run.finish()
    write_json(known, said)
    if why_offline is not None:
        level = logging.DEBUG if SETTLED in os.environ else logging.INFO  # the command has named the folder already
        _log.log(level, "Weights & Biases: the sweep's table; upload with: wandb sync %s", folder / "wandb")


def _is_tracked(settings: TrackingSettings, cells: Sequence[Cell]) -> bool:
    """Tell whether a sweep has a run of its own."""
    return len(cells) > 1 and not reason_not_to_track(settings.mode) and agents_run() is None and is_first_rank()


def _begin_online(settings: TrackingSettings, cells: Sequence[Cell], folder: Path, *, finish: bool = False) -> Any:
    """Return the sweep's run on the service; None if it is refused: all that follows is offline then, with a line."""
    before = set((folder / "wandb").glob("run-*"))
    try:
        run = _begin(settings, cells, folder, sweep_id(cells), online=True)
        if finish:
            run.finish()
        return run
    except Exception as error:
        os.environ[SETTLED] = f"the service refused: {in_one_line(error)}"
        end_streams()
        for half_begun in set((folder / "wandb").glob("run-*")) - before:
            shutil.rmtree(half_begun, ignore_errors=True)
        places = f"{folder.parent}/*/*/wandb {folder}/wandb"
        _log.warning("Weights & Biases: offline (%s); upload with: wandb sync %s", os.environ[SETTLED], places)
        return None


def _begin(settings: TrackingSettings, cells: Sequence[Cell], folder: Path, run_id: str, *, online: bool) -> Any:
    import wandb

    studies = list(dict.fromkeys(cell.study for cell in cells))
    remove_unsynced(folder / "wandb", run_id)
    (folder / "wandb").mkdir(parents=True, exist_ok=True)
    return wandb.init(
        dir=str(folder),
        mode="online" if online else "offline",
        id=run_id,
        resume="allow" if online else None,
        reinit="create_new",
        name=f"{' and '.join(studies)}: {counted(len(cells), 'cell')}",
        project=settings.project,
        entity=settings.entity,
        group=settings.group or JOB_TYPE,
        job_type=JOB_TYPE,
        tags=[JOB_TYPE, *studies],
        config={"studies": studies, "cells": sorted(cell.key for cell in cells), "sweep": _name(settings, cells)},
        settings=run_settings(settings, of_a_cell=False),
    )


def _fill(run: Any, rows: Sequence[Mapping[str, Any]], catalogue: Catalogue, files: Sequence[Path]) -> None:
    import wandb

    logged: dict[str, Any] = {"cells": table(rows)}
    logged |= {f"report/{path.stem}": wandb.Image(str(path)) for path in files if path.suffix == ".png"}
    logged |= {f"report/{path.stem}_table": csv_table(path) for path in files if path.suffix == ".csv"}
    run.log(logged)
    states = [row["status"] for row in rows]
    summary: dict[str, Any] = {f"cells/{state}": states.count(state) for state in ("complete", "failed")}
    goals = {name: goal_of(name, catalogue) for row in rows for name in row}
    for metric, goal in ((name, goal) for name, goal in goals.items() if goal):
        define(run, f"best/{metric}", goal)
        summary[f"best/{metric}"] = (min if goal == "minimize" else max)(row[metric] for row in rows if metric in row)
    run.summary.update({**summary, "cells/all": len(rows)})


def _name(settings: TrackingSettings, cells: Sequence[Cell]) -> str:
    return settings.sweep or cells[0].study


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a configuration's keys as they are overridden (`initial_bias.level`), without what decides nothing."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if not prefix and key in _UNINTERESTING:
            continue
        if not prefix and key == "mitigation":
            found[key] = "+".join(sorted(value)) or "none"
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value if isinstance(value, int | float | str) else str(value)
    return found


def _headlines(cell: Cell, catalogue: Catalogue) -> dict[str, float]:
    """Return what sums a finished cell up, by metric; empty for one that is not finished."""
    found: dict[str, tuple[int, float]] = {}
    for name, value in _read(cell.folder / "result.json").items():
        metric, _, generation = name.partition("@")
        at = int(generation) if generation else 0
        if catalogue.is_headline(metric) and at >= found.get(metric, (0, 0.0))[0]:
            found[metric] = (at, value)
    row: dict[str, float] = {}
    for metric, (_, value) in found.items():
        row[metric] = value
        distance = number(catalogue.of(metric).distance(value))
        if distance is not None:
            row[metric + DISTANCE] = distance
    return row


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
