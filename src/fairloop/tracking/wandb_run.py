"""One Weights & Biases run per cell: online, offline or not at all, and never in the study's way.

The run's id is the cell's key, so that a resumed cell continues its run:

- Online, the run is resumed under its id, and what the cell's journal (`wandb/journal.json`) and the service agree to
  have is not logged again.
- Offline, everything is logged again from the kept stages into one fresh run folder, and the folder that the killed
  process left is removed unless it was synced already; so `wandb sync` finds one run per cell.
- Under a `wandb agent` the run is the agent's, or its sweep would wait for it in vain; the cell's key is in the run's
  config either way (`cell`). An agent's process runs one cell.

No error of W&B ends a study: the first is reported in one line, and the study goes on without it. Artifacts refer to
the files of finished stages: upload an offline run before its cell is moved or deleted.
"""

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fairloop.errors import Fault
from fairloop.files import write_json
from fairloop.measures.catalogue import DISTANCE, Catalogue
from fairloop.measures.measurement import Measurement
from fairloop.tracking.curves import CURVES_FILE, read_curves
from fairloop.tracking.settings import TrackingSettings
from fairloop.tracking.store import RESULT_FILES, SEALED_FILES, Cell
from fairloop.tracking.wandb_artifacts import Artifacts, debiased_model, use
from fairloop.tracking.wandb_service import (
    OFFLINE_ASKED,
    ONLINE,
    SAID,
    SETTLED,
    agents_run,
    end_streams,
    in_one_line,
    is_first_rank,
    reason_not_to_track,
    reason_to_stay_offline,
    run_settings,
)
from fairloop.tracking.wandb_values import csv_table, define, goal_of, interval_rows, last_intervals, numbers, table

SCORES = "scores"
"""The artifact, and its type, that carries a cell's configuration, measures and results."""

MEASURES = "measures"
"""The table of a cell's measures with their intervals."""

DELETED, DELETED_FILE = "previously created and deleted", "deleted.json"
"""What the service says of the id of a run that was deleted there, and where a cell counts such runs."""

MOST_DELETED = 20

LONGEST_TAG, LONGEST_GROUP = 64, 128
"""Characters that the service takes."""

_log = logging.getLogger("fairloop.tracking")

# The cell for which this process has taken its agent's run.
_agents_cell: list[str] = []


OnGeneration = Callable[[int, Sequence[Measurement]], None]


class Tracker:
    """What a study tells of a cell while it runs; this one passes nothing on: the run store has it all.

    `made_from` are files and folders that were logged before. `after_generation` is for whoever watches the cell: it is
    told the measures of each generation but the last.
    """

    after_generation: OnGeneration | None = None

    def log_generation(
        self,
        generation: int,
        measurements: Sequence[Measurement],
        sentences: Sequence[Mapping[str, Any]] = (),
        corpus: Path | None = None,
        made_from: Sequence[Path] = (),
        rejected: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Log a generation: measures with intervals, tables of sentences and of rejected texts, its corpus."""

    def log_scores(
        self, measurements: Sequence[Measurement], tables: Mapping[str, Sequence[Mapping[str, Any]]] | None = None
    ) -> None:
        """Log measures of the whole cell with their intervals, and the tables behind them by name; empty ones not."""

    def log_dataset(
        self,
        name: str,
        path: Path,
        metadata: Mapping[str, Any] | None = None,
        alias: str = "latest",
        made_from: Sequence[Path] = (),
    ) -> None:
        """Log a corpus or pairs from a finished stage as a version of a `dataset` artifact, under an alias."""
        self._log_artifact(name, "dataset", path, metadata or {}, alias, made_from)

    def log_checkpoint(
        self,
        name: str,
        path: Path,
        metadata: Mapping[str, Any] | None = None,
        alias: str = "latest",
        made_from: Sequence[Path] = (),
    ) -> None:
        """Log a file or folder of weights from a finished stage as a version of a `model` artifact, under an alias."""
        self._log_artifact(name, "model", path, metadata or {}, alias, made_from)

    def log_curve(self, curve: str, step: int, values: Mapping[str, float]) -> None:
        """Log a point of a training's loss curve against the curve's own step; a step is logged once."""

    def use_model(self, path: str) -> None:
        """Note a model that is read; one that another cell made is an input of the run."""

    def log_report(self, tables: Mapping[str, Path], figures: Mapping[str, Path]) -> None:
        """Log what sums the whole cell up: CSV files as tables and PNG files as images, by name."""

    def finish(self, status: Literal["complete", "failed"], summary: Mapping[str, float] | None = None) -> None:
        """End the run, once; `summary` is the content of `result.json`. A complete cell's scores are an artifact."""

    def _log_artifact(
        self, name: str, kind: str, path: Path, metadata: Mapping[str, Any], alias: str, made_from: Sequence[Path]
    ) -> None: ...


@contextmanager
def tracked(
    settings: TrackingSettings,
    cell: Cell,
    choices: Mapping[str, Any],
    catalogue: Catalogue,
    *,
    tags: Sequence[str] = (),
    name: str | None = None,
    group: str | None = None,
) -> Iterator[Tracker]:
    """Yield the tracker of a cell that this process holds, and end its run when the block ends or raises.

    Args:
        settings: the config group `tracking`.
        cell: the cell, inside `cell.working()`: its lock is what makes the run the only one.
        choices: the run's config, as plain data.
        catalogue: what is known of measures.
        tags: the choices by which runs are found, such as the names of the model and the mitigation.
        name: what the run is called in tables; the cell's key if not given.
        group: what it shares with the runs that differ in the seed alone; the study's name if not given.
    """
    tracker = _tracker(settings, cell, choices, catalogue, tags, name or cell.key, group or cell.study)
    try:
        yield tracker
    except BaseException:
        tracker.finish("failed")
        raise
    tracker.finish("complete")


def _tracker(
    settings: TrackingSettings,
    cell: Cell,
    choices: Mapping[str, Any],
    catalogue: Catalogue,
    tags: Sequence[str],
    name: str,
    group: str,
) -> Tracker:
    if not is_first_rank():
        return Tracker()  # the process of rank 0 tracks the cell
    if (unused := reason_not_to_track(settings.mode)) is not None:
        _log.log(logging.DEBUG if SETTLED in os.environ else logging.INFO, "Weights & Biases: %s", unused)
        return Tracker()
    if agents_run() is not None:
        if _agents_cell not in ([], [cell.key]):
            _log.warning("Weights & Biases: cell %s is not tracked: an agent's run holds one cell (no -m)", cell.key)
            return Tracker()
        _agents_cell[:] = [cell.key]
    why_offline = reason_to_stay_offline(settings.mode)
    tracker = WandbTracker(cell, settings, dict(choices), catalogue, tuple(dict.fromkeys(tags)), name, group)
    tracker.start(why_offline)
    return tracker


@dataclass
class WandbTracker(Tracker):
    """The run of one cell; made by `tracked`."""

    cell: Cell
    settings: TrackingSettings
    choices: dict[str, Any]
    catalogue: Catalogue
    tags: tuple[str, ...]
    name: str
    group: str
    _run: Any = field(default=None, init=False, repr=False)
    _online: bool = field(default=False, init=False, repr=False)
    _journal: list[str] = field(default_factory=list, init=False, repr=False)
    _reached: float = field(default=-1, init=False, repr=False)
    _curves: dict[str, float] = field(default_factory=dict, init=False, repr=False)  # the last step of each
    _defined: set[str] = field(default_factory=set, init=False, repr=False)
    _measures: list[dict[str, Any]] = field(default_factory=list, init=False, repr=False)
    _artifacts: Artifacts = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._artifacts = Artifacts(self.cell.key, self.cell.study)

    def start(self, why_offline: str | None) -> None:
        """Begin or resume the run, offline for the reason given; a service that refuses makes it offline too."""
        # What was asked for goes without saying; what was not is worth the user's attention, once in a command.
        level = logging.INFO if why_offline == OFFLINE_ASKED else logging.WARNING
        if SETTLED in os.environ:
            level = logging.DEBUG
        if why_offline is None:
            refused = self._begin_online()
            if refused is None:
                _log.log(logging.DEBUG if os.environ.get(SAID) else logging.INFO, "%s, %s", ONLINE, self._run.url)
                if SAID in os.environ:  # of a sweep one run is enough: it leads to the others
                    os.environ[SAID] = "1"
                return
            why_offline = f"the service refused: {refused}"
            os.environ[SETTLED] = why_offline  # it would take as long to refuse the next cell
            level = logging.WARNING
        self._guarded(lambda: self._begin("offline"), begun=False)
        if self._run is not None:
            _log.log(
                level, "Weights & Biases: offline (%s); upload with: wandb sync %s", why_offline, self._sync_folder
            )

    def log_generation(
        self,
        generation: int,
        measurements: Sequence[Measurement],
        sentences: Sequence[Mapping[str, Any]] = (),
        corpus: Path | None = None,
        made_from: Sequence[Path] = (),
        rejected: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Log a generation; see `Tracker`."""
        self._measures += interval_rows(measurements, generation)

        def log() -> None:
            if self._is_logged(f"generation/{generation}", generation):
                return
            row = numbers(measurements, self.catalogue)
            for name, rows in (("sentences", sentences), ("rejected", rejected)):
                if rows:
                    row[name] = table([{"generation": generation, **one} for one in rows])
            self._define(row, "generation")
            self._run.log({"generation": generation, **row})
            self._note(f"generation/{generation}")

        self._guarded(log)
        if corpus is not None:
            self.log_dataset("corpus", corpus, {"generation": generation}, f"generation-{generation}", made_from)

    def log_scores(
        self, measurements: Sequence[Measurement], tables: Mapping[str, Sequence[Mapping[str, Any]]] | None = None
    ) -> None:
        """Log measures of the whole cell; see `Tracker`."""
        self._measures += interval_rows(measurements, None)

        def log() -> None:
            if self._is_logged("scores"):
                return
            row = numbers(measurements, self.catalogue)
            self._define(row, None)
            self._run.log({**row, **{name: table(rows) for name, rows in (tables or {}).items() if rows}})
            self._note("scores")

        self._guarded(log)

    def log_curve(self, curve: str, step: int, values: Mapping[str, float]) -> None:
        """Log a point of a loss curve; see `Tracker`."""

        def log() -> None:
            place = f"{curve.replace(' ', '-')}/"
            if place not in self._curves:
                last = self._run.summary.get(f"{place}step")  # the service's own word, in a run that is resumed
                self._curves[place] = last if isinstance(last, int | float) else -1
                self._run.define_metric(f"{place}step")
                self._run.define_metric(f"{place}*", step_metric=f"{place}step")
            if step > self._curves[place]:
                self._curves[place] = step
                self._run.log({f"{place}step": step, **{place + name: value for name, value in values.items()}})

        self._guarded(log)

    def use_model(self, path: str) -> None:
        """Note a model that is read; see `Tracker`."""

        def log() -> None:
            name = debiased_model(path)
            if name is None:
                return
            self._artifacts.know(Path(path), f"{name}:latest")
            if not self._is_logged(f"used/{name}"):
                use(self._run, name, "model", Path(path))
                self._note(f"used/{name}")

        self._guarded(log)

    def log_report(self, tables: Mapping[str, Path], figures: Mapping[str, Path]) -> None:
        """Log tables and figures; see `Tracker`."""

        def log() -> None:
            import wandb

            if self._is_logged("report"):
                return
            self._run.log(
                {name: csv_table(path) for name, path in tables.items()}
                | {name: wandb.Image(str(path)) for name, path in figures.items()}
            )
            self._note("report")

        self._guarded(log)

    def finish(self, status: Literal["complete", "failed"], summary: Mapping[str, float] | None = None) -> None:
        """End the run; see `Tracker`. A second call does nothing.

        Of `summary` only measures of the whole cell are kept: the last generation's are in the summary by themselves.
        """
        # Curves of stages that were finished before, or by another cell, were not logged while they were drawn.
        for path in sorted(self.cell.folder.glob(f"stages/*/{CURVES_FILE}")):
            for curve, step, values in read_curves(path):
                self.log_curve(curve, step, values)

        def finish() -> None:
            if status == "complete":
                self._log_measures()
                self._log_result()
            final = {name: value for name, value in (summary or {}).items() if "@" not in name}
            self._define([name for name in final if self.catalogue.of(name).goal], None)
            self._run.summary.update({**last_intervals(self._measures, self.catalogue), **final, "status": status})
            self._run.finish(exit_code=0 if status == "complete" else 1)
            self._run = None

        self._guarded(finish)

    def _begin_online(self) -> str | None:
        """Begin or resume the run on the service; return why it refuses, None if it does not.

        The service never takes the id of a run that was deleted there: the cell has a new run then, with the next id.
        """
        for _ in range(MOST_DELETED):
            before = set(self._folder.glob("run-*"))
            try:
                self._begin("online")
                return None
            except Exception as error:
                refused = in_one_line(error)
                end_streams()
                for half_begun in set(self._folder.glob("run-*")) - before:
                    shutil.rmtree(half_begun, ignore_errors=True)
            if DELETED not in refused or agents_run() is not None:
                break
            _log.warning("Weights & Biases: the run %s was deleted on the service: a new one is begun", self._run_id)
            write_json(self._folder / DELETED_FILE, self._deleted + 1)
        return refused

    @property
    def _run_id(self) -> str:
        return agents_run() or (f"{self.cell.key}-{self._deleted + 1}" if self._deleted else self.cell.key)

    @property
    def _deleted(self) -> int:
        """How many runs of this cell are known to have been deleted on the service."""
        try:
            return int(json.loads((self._folder / DELETED_FILE).read_bytes()))
        except (OSError, ValueError, TypeError):
            return 0

    @property
    def _folder(self) -> Path:
        return self.cell.folder / "wandb"

    @property
    def _journal_file(self) -> Path:
        """What the service has of this run; a cell that several agents ask for has several runs."""
        own = self._run_id == self.cell.key
        return self._folder / ("journal.json" if own else f"journal-{self._run_id}.json")

    @property
    def _sync_folder(self) -> Path:
        return next(iter(sorted(self._folder.glob(f"offline-run-*-{self._run_id}"), reverse=True)), self._folder)

    def _begin(self, mode: Literal["online", "offline"]) -> None:
        import wandb

        self._online = mode == "online"
        self._journal = _read_journal(self._journal_file) if self._online else []
        remove_unsynced(self._folder, self._run_id)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            dir=str(self.cell.folder),
            mode=mode,
            id=self._run_id,
            resume="allow" if self._online else None,
            reinit="create_new",
            name=self.name,
            project=self.settings.project,  # an agent's run lies where its sweep is: W&B passes over these two then
            entity=self.settings.entity,
            group=(self.settings.group or self.group)[:LONGEST_GROUP],
            job_type=self.cell.study,
            tags=[tag[:LONGEST_TAG] for tag in self.tags if tag],
            config={**self.choices, "cell": self.cell.key, "sweep": self.settings.sweep or self.cell.study},
            settings=run_settings(self.settings),
        )
        self._run.define_metric("generation")
        last = self._run.summary.get("generation")
        self._reached = last if isinstance(last, int | float) else -1

    def _define(self, names: Iterable[str], step: str | None) -> None:
        for name in names:
            if name not in self._defined:
                define(self._run, name, goal_of(name, self.catalogue), step, hidden=name.endswith(DISTANCE))
                self._defined.add(name)

    def _log_artifact(
        self, name: str, kind: str, path: Path, metadata: Mapping[str, Any], alias: str, made_from: Sequence[Path]
    ) -> None:
        def log() -> None:
            self._artifacts.know(path, f"{name}-{self.cell.key}:{alias}")
            if self._is_logged(f"{kind}/{name}/{alias}", metadata.get("generation")):
                return
            self._artifacts.log(self._run, name, kind, path, alias, metadata, made_from)
            self._note(f"{kind}/{name}/{alias}")

        self._guarded(log)

    def _log_measures(self) -> None:
        """Log every measure with its interval and n, as one table: as numbers they would have a panel each."""
        if self._measures and not self._is_logged(MEASURES):
            self._run.log({MEASURES: table(self._measures)})
            self._note(MEASURES)

    def _log_result(self) -> None:
        """Log what the cell's folder says of it: what a report needs, wherever it is made."""
        files = [file for name in SEALED_FILES if (file := self.cell.folder / name).is_file()]
        results = {self.cell.folder / name for name in RESULT_FILES}
        if self._is_logged(SCORES + "/result") or not results <= set(files):
            return
        metadata = {"weights": self.choices.get("weights", {})}
        made_from = self._artifacts.everything()
        self._artifacts.log(self._run, SCORES, SCORES, files, "latest", metadata, made_from)
        self._note(SCORES + "/result")

    def _is_logged(self, entry: str, generation: int | None = None) -> bool:
        # A killed process may have noted what never reached the service: the service's own word decides.
        return entry in self._journal and (generation is None or generation <= self._reached)

    def _note(self, entry: str) -> None:
        if self._online and entry not in self._journal:
            self._journal.append(entry)
            write_json(self._journal_file, self._journal)

    def _guarded(self, action: Callable[[], None], *, begun: bool = True) -> None:
        """Run an action on the run; the first error is reported in one line and ends the tracking, not the study."""
        if begun and self._run is None:
            return  # given up, or finished
        try:
            action()
        except Fault:
            raise  # a full disk is the study's business too
        except Exception as error:
            _log.warning("Weights & Biases: given up for this cell, the study goes on: %s", in_one_line(error))
            run, self._run = self._run, None
            if run is not None:
                try:
                    run.finish(exit_code=1)
                except Exception as second:
                    _log.debug("ending the run failed too: %s", in_one_line(second))


def remove_unsynced(folder: Path, run_id: str) -> None:
    """Remove what a killed or failed process logged offline: it is logged again. A synced run is left alone."""
    for left in folder.glob(f"offline-run-*-{run_id}"):
        if not any(left.glob("*.wandb.synced")):
            shutil.rmtree(left, ignore_errors=True)


def _read_journal(path: Path) -> list[str]:
    try:
        return [str(entry) for entry in json.loads(path.read_bytes())]
    except (OSError, ValueError, TypeError):
        return []
