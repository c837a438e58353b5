"""One Weights & Biases run per cell: online, offline or not at all, and never in the study's way.

The run's id is the cell's key, so that a resumed cell continues its run:

- Online, the run is resumed under its id, and what the cell's journal (`wandb/journal.json`) and the service agree to
  have is not logged again.
- Offline, everything is logged again from the kept stages into one fresh run folder, and the folder that the killed
  process left is removed unless it was synced already; so `wandb sync` finds one run per cell.

No error of W&B ends a study: the first is reported in one line, and the study goes on without it. Artifacts refer to
the files of finished stages: upload an offline run before its cell is moved or deleted.
"""

import logging
import os
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol
from urllib.parse import urlsplit

from fairloop.errors import Fault
from fairloop.files import files_below, write_json
from fairloop.tracking.results import Measured, number
from fairloop.tracking.settings import TrackingSettings
from fairloop.tracking.store import Cell

SERVICE = "https://api.wandb.ai"
REACH_SECONDS = 3.0
INIT_SECONDS = 30.0
FINISH_SECONDS = 120.0

_log = logging.getLogger("fairloop.tracking")


class Tracker(Protocol):
    """What a study tells of a cell while it runs."""

    def log_generation(
        self,
        generation: int,
        measurements: Sequence[Measured],
        sentences: Sequence[Mapping[str, Any]] = (),
        corpus: Path | None = None,
    ) -> None:
        """Log a generation's measures with their intervals, a table of sentences, and its corpus as an artifact."""

    def log_checkpoint(
        self, name: str, path: Path, metadata: Mapping[str, Any] | None = None, alias: str = "latest"
    ) -> None:
        """Log a file or folder of weights from a finished stage as a version of a `model` artifact, under an alias."""

    def log_report(self, tables: Mapping[str, Path], figures: Mapping[str, Path]) -> None:
        """Log what sums the whole cell up: CSV files as tables and PNG files as images, by name."""

    def finish(self, status: Literal["complete", "failed"], summary: Mapping[str, float] | None = None) -> None:
        """End the run, once; `summary` is the content of `result.json`."""


class NoTracker:
    """The study is kept in the run store alone."""

    def log_generation(
        self,
        generation: int,
        measurements: Sequence[Measured],
        sentences: Sequence[Mapping[str, Any]] = (),
        corpus: Path | None = None,
    ) -> None:
        """Nothing."""

    def log_checkpoint(
        self, name: str, path: Path, metadata: Mapping[str, Any] | None = None, alias: str = "latest"
    ) -> None:
        """Nothing."""

    def log_report(self, tables: Mapping[str, Path], figures: Mapping[str, Path]) -> None:
        """Nothing."""

    def finish(self, status: Literal["complete", "failed"], summary: Mapping[str, float] | None = None) -> None:
        """Nothing."""


@contextmanager
def tracked(
    settings: TrackingSettings,
    cell: Cell,
    choices: Mapping[str, Any],
    *,
    tags: Sequence[str] = (),
    name: str | None = None,
) -> Iterator[Tracker]:
    """Yield the tracker of a cell that this process holds, and end its run when the block ends or raises.

    Args:
        settings: the config group `tracking`.
        cell: the cell, inside `cell.working()`: its lock is what makes the run the only one.
        choices: the run's config, as plain data.
        tags: the choices by which runs are found, such as the names of the model and the mitigation.
        name: what the run is called in tables; the cell's key if not given.
    """
    tracker = _tracker(settings, cell, choices, tags, name)
    try:
        yield tracker
    except BaseException:
        tracker.finish("failed")
        raise
    tracker.finish("complete")


def _tracker(
    settings: TrackingSettings, cell: Cell, choices: Mapping[str, Any], tags: Sequence[str], name: str | None
) -> Tracker:
    if any(os.environ.get(rank, "0") not in ("", "0") for rank in ("RANK", "LOCAL_RANK")):
        return NoTracker()  # the process of rank 0 tracks the cell
    if settings.mode == "none":
        _log.info("Weights & Biases: not used (tracking.mode=none)")
        return NoTracker()
    why_offline = reason_to_stay_offline(settings.mode)
    tracker = WandbTracker(cell, settings, dict(choices), tuple(tags), name or cell.key)
    tracker.start(why_offline)
    return tracker


def reason_to_stay_offline(mode: str) -> str | None:
    """Return why a run is logged offline, None if it can be online. Asks the network for three seconds at most."""
    if mode == "offline":
        return "tracking.mode=offline"
    if mode == "auto" and os.environ.get("WANDB_MODE") in ("offline", "dryrun", "disabled"):
        return f"WANDB_MODE={os.environ['WANDB_MODE']}"
    address = _service_address()
    if not _has_key(address):
        return "no API key"
    if not _is_reachable(address):
        return f"{address} cannot be reached"
    return None


def _service_address() -> str:
    address = os.environ.get("WANDB_BASE_URL")
    if not address:
        import configparser

        parser = configparser.ConfigParser(interpolation=None)
        folder = Path(os.environ.get("WANDB_CONFIG_DIR") or Path.home() / ".config" / "wandb")
        try:
            parser.read(folder / "settings")
            address = parser.get("default", "base_url", fallback="")
        except configparser.Error:
            address = ""
    return (address or SERVICE).rstrip("/")


def _has_key(address: str) -> bool:
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    import netrc

    places = [os.environ["NETRC"]] if os.environ.get("NETRC") else ["~/.netrc", "~/_netrc"]
    for place in places:
        try:
            found = netrc.netrc(Path(place).expanduser()).authenticators(urlsplit(address).netloc)
        except (OSError, netrc.NetrcParseError):
            continue
        if found and found[2]:
            return True
    return False


def _is_reachable(address: str) -> bool:
    from urllib.request import getproxies, proxy_bypass

    url = urlsplit(address)
    proxy = getproxies().get(url.scheme)
    if proxy and not proxy_bypass(url.netloc):
        url = urlsplit(proxy if "//" in proxy else f"//{proxy}", scheme="http")
    try:
        port = url.port or (443 if url.scheme == "https" else 80)
        with socket.create_connection((url.hostname or "", port), timeout=REACH_SECONDS):
            return True
    except (OSError, ValueError):
        return False


@dataclass
class WandbTracker:
    """The run of one cell; made by `tracked`."""

    cell: Cell
    settings: TrackingSettings
    choices: dict[str, Any]
    tags: tuple[str, ...]
    name: str
    _run: Any = field(default=None, init=False, repr=False)
    _online: bool = field(default=False, init=False, repr=False)
    _journal: list[str] = field(default_factory=list, init=False, repr=False)
    _defined: set[str] = field(default_factory=set, init=False, repr=False)

    def start(self, why_offline: str | None) -> None:
        """Begin or resume the run, offline for the reason given; a service that refuses makes it offline too."""
        if why_offline is None:
            try:
                self._begin("online")
                _log.info("Weights & Biases: online, %s", self._run.url)
                return
            except Exception as error:
                why_offline = f"the service refused: {_line(error)}"
        # What was asked for goes without saying; what was not is worth the user's attention.
        level = logging.INFO if why_offline == "tracking.mode=offline" else logging.WARNING
        self._guarded(lambda: self._begin("offline"), begun=False)
        if self._run is not None:
            _log.log(
                level, "Weights & Biases: offline (%s); upload with: wandb sync %s", why_offline, self._sync_folder
            )

    def log_generation(
        self,
        generation: int,
        measurements: Sequence[Measured],
        sentences: Sequence[Mapping[str, Any]] = (),
        corpus: Path | None = None,
    ) -> None:
        """Log a generation; see `Tracker`."""

        def log() -> None:
            if self._is_logged(f"generation/{generation}", generation):
                return
            row = self._row(measurements)
            if sentences:
                row["sentences"] = _table(generation, sentences)
            self._run.log({"generation": generation, **row})
            if corpus is not None:
                self._log_artifact("corpus", "dataset", corpus, f"generation-{generation}", {"generation": generation})
            self._note(f"generation/{generation}")

        self._guarded(log)

    def log_checkpoint(
        self, name: str, path: Path, metadata: Mapping[str, Any] | None = None, alias: str = "latest"
    ) -> None:
        """Log weights; see `Tracker`."""

        def log() -> None:
            if self._is_logged(f"checkpoint/{name}/{alias}"):
                return
            self._log_artifact(name, "model", path, alias, metadata or {})
            self._note(f"checkpoint/{name}/{alias}")

        self._guarded(log)

    def log_report(self, tables: Mapping[str, Path], figures: Mapping[str, Path]) -> None:
        """Log tables and figures; see `Tracker`."""

        def log() -> None:
            import wandb

            if self._is_logged("report"):
                return
            self._run.log(
                {name: _csv_table(path) for name, path in tables.items()}
                | {name: wandb.Image(str(path)) for name, path in figures.items()}
            )
            self._note("report")

        self._guarded(log)

    def finish(self, status: Literal["complete", "failed"], summary: Mapping[str, float] | None = None) -> None:
        """End the run; see `Tracker`. A second call does nothing."""

        def finish() -> None:
            self._run.summary.update({**(summary or {}), "status": status})
            self._run.finish(exit_code=0 if status == "complete" else 1)
            self._run = None

        self._guarded(finish)

    @property
    def _folder(self) -> Path:
        return self.cell.folder / "wandb"

    @property
    def _sync_folder(self) -> Path:
        return next(iter(sorted(self._folder.glob(f"offline-run-*-{self.cell.key}"), reverse=True)), self._folder)

    def _begin(self, mode: Literal["online", "offline"]) -> None:
        import wandb

        self._online = mode == "online"
        self._journal = _read_journal(self._folder) if self._online else []
        _remove_unsynced(self._folder, self.cell.key)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            dir=str(self.cell.folder),
            mode=mode,
            id=self.cell.key,
            resume="allow" if self._online else None,
            reinit="create_new",
            name=self.name,
            project=self.settings.project,
            entity=self.settings.entity,
            group=self.settings.group or self.cell.study,
            job_type=self.cell.study,
            tags=[tag[:64] for tag in self.tags if tag],
            config={**self.choices, "cell": self.cell.key},
            settings=_quiet_settings(wandb),
        )
        self._run.define_metric("generation")

    def _row(self, measurements: Sequence[Measured]) -> dict[str, Any]:
        row: dict[str, Any] = {}
        for measured in measurements:
            ends = {"": measured.value, "/low": measured.low, "/high": measured.high, "/n": measured.n}
            for end, value in ends.items():
                plain = number(value)
                if plain is not None:
                    row[measured.metric + end] = plain
        for name in [*row, "sentences"]:
            if name not in self._defined:
                self._run.define_metric(name, step_metric="generation")
                self._defined.add(name)
        return row

    def _log_artifact(self, what: str, kind: str, path: Path, alias: str, metadata: Mapping[str, Any]) -> None:
        import wandb

        artifact = wandb.Artifact(
            f"{what}-{self.cell.key}", type=kind, metadata={**metadata, "cell": self.cell.key, "study": self.cell.study}
        )
        # "immutable": W&B reads the stage's own file, instead of a second copy in the user's home folder.
        for file in files_below(path) if path.is_dir() else [path]:
            inside = file.relative_to(path).as_posix() if path.is_dir() else path.name
            artifact.add_file(str(file), name=inside, policy="immutable")
        if kind == "dataset":
            # The next generation, or a training, reads this corpus: it is an input of the run as well as an output. The
            # public use_artifact() waits for the service and refuses offline runs; this is the call beneath it.
            self._run._log_artifact(artifact, aliases=[alias], is_user_created=True, use_after_commit=True)
        else:
            self._run.log_artifact(artifact, aliases=[alias])

    def _is_logged(self, entry: str, generation: int | None = None) -> bool:
        if entry not in self._journal:
            return False
        if generation is None:
            return True
        # A killed process may have noted what never reached the service: the service's own word decides.
        last = self._run.summary.get("generation")
        return isinstance(last, int | float) and last >= generation

    def _note(self, entry: str) -> None:
        if self._online and entry not in self._journal:
            self._journal.append(entry)
            write_json(self._folder / "journal.json", self._journal)

    def _guarded(self, action: Callable[[], None], *, begun: bool = True) -> None:
        """Run an action on the run; the first error is reported in one line and ends the tracking, not the study."""
        if begun and self._run is None:
            return  # given up, or finished
        try:
            action()
        except Fault:
            raise  # a full disk is the study's business too
        except Exception as error:
            _log.warning("Weights & Biases: given up for this cell, the study goes on: %s", _line(error))
            run, self._run = self._run, None
            if run is not None:
                try:
                    run.finish(exit_code=1)
                except Exception as second:
                    _log.debug("ending the run failed too: %s", _line(second))


def _quiet_settings(wandb: Any) -> Any:
    return wandb.Settings(
        silent=True,
        console="off",
        save_code=False,
        disable_code=True,
        disable_git=True,
        host="",
        x_disable_stats=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
        init_timeout=INIT_SECONDS,
        finish_timeout=FINISH_SECONDS,
    )


def _table(generation: int, sentences: Sequence[Mapping[str, Any]]) -> Any:
    import wandb

    columns = list(dict.fromkeys(key for row in sentences for key in row if key != "generation"))
    rows = [[generation, *(row.get(column) for column in columns)] for row in sentences]
    return wandb.Table(columns=["generation", *columns], data=rows)


def _csv_table(path: Path) -> Any:
    """Return a CSV file as a table: a column whose every field is a number or empty is one of numbers."""
    import csv

    import wandb

    header, *rows = csv.reader(path.read_text(encoding="utf-8").splitlines())
    columns = [_numbers(column) for column in zip(*rows, strict=True)]
    return wandb.Table(columns=header, data=[list(row) for row in zip(*columns, strict=True)])


def _numbers(column: Sequence[str]) -> list[Any]:
    try:
        return [number(float(field)) if field else None for field in column]
    except ValueError:
        return list(column)


def _read_journal(folder: Path) -> list[str]:
    import json

    try:
        return [str(entry) for entry in json.loads((folder / "journal.json").read_bytes())]
    except (OSError, ValueError, TypeError):
        return []


def _remove_unsynced(folder: Path, run_id: str) -> None:
    """Remove what a killed or failed process logged offline: it is logged again. A synced run is left alone."""
    for left in folder.glob(f"offline-run-*-{run_id}"):
        if not any(left.glob("*.wandb.synced")):
            shutil.rmtree(left, ignore_errors=True)


def _line(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:300]
