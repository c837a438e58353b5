"""Read an offline W&B run back from its transaction log, independently of the code that wrote it.

The `.wandb` file is a LevelDB log (https://github.com/google/leveldb/blob/main/doc/log_format.md) of protobuf records
behind a header of seven bytes. `read_run(folder)` takes a cell's folder, its `wandb` folder or the run's own.
"""

import json
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BLOCK = 32768
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


@dataclass
class OfflineRun:
    folder: Path
    run_id: str = ""
    project: str = ""
    name: str = ""
    group: str = ""
    job_type: str = ""
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    step_metrics: dict[str, str] = field(default_factory=dict)
    goals: dict[str, str] = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)
    system: list[dict[str, float]] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    commit: str = ""
    files: list[str] = field(default_factory=list)
    sweep_id: str = ""
    artifacts: list[dict[str, Any]] = field(default_factory=list)
    exit_code: int | None = None

    def series(self, metric: str) -> list[tuple[int, Any]]:
        return [(row["generation"], row[metric]) for row in self.history if metric in row]

    def measures(self) -> dict[tuple[str, int | None], dict[str, Any]]:
        """The table of measures with their intervals, by metric and generation."""
        (row,) = [row for row in self.history if "measures" in row]
        table = self.table(row, "measures")
        rows = [dict(zip(table["columns"], line, strict=True)) for line in table["data"]]
        return {(one["metric"], one["generation"]): one for one in rows}

    def artifact(self, name: str, alias: str = "latest") -> dict[str, Any]:
        """The one artifact of the run with this name and alias."""
        (found,) = [one for one in self.artifacts if one["name"] == name and alias in one["aliases"]]
        return found

    def table(self, row: dict[str, Any], key: str = "sentences") -> dict[str, Any]:
        """The table's JSON, {"columns": […], "data": [[…], …]}."""
        return json.loads((self.folder / "files" / row[key]["path"]).read_text())


def offline_runs(folder: Path) -> list[Path]:
    return sorted(path.parent for path in Path(folder).rglob("*.wandb") if not path.parent.is_symlink())


def read_run(folder: Path) -> OfflineRun:
    (run_folder,) = offline_runs(folder)
    (log,) = run_folder.glob("*.wandb")
    run = OfflineRun(run_folder)
    for record in records(log):
        _take(run, record)
    return run


def ended_run(folder: Path, seconds: float = 20.0) -> OfflineRun:
    """The run when its log is whole: W&B's own process writes the last of it after `finish` has returned."""
    deadline = time.monotonic() + seconds
    while (run := read_run(folder)).exit_code is None and time.monotonic() < deadline:
        time.sleep(0.05)
    return run


def records(log: Path) -> Iterator[Any]:
    from wandb.proto import wandb_internal_pb2

    for payload in _payloads(log.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(payload)
        yield record


def _payloads(data: bytes) -> Iterator[bytes]:
    assert data[:4] == b":W&B"
    position, parts = 7, []
    while position + 7 <= len(data):
        left = BLOCK - position % BLOCK
        if left < 7:
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + 7])
        if kind == 0:
            position += left
            continue
        parts.append(data[position + 7 : position + 7 + length])
        position += 7 + length
        if kind in (FULL, LAST):
            yield b"".join(parts)
            parts = []


def _items(items: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for item in items:
        *outer, last = list(item.nested_key) or [item.key]
        place = found
        for key in outer:
            place = place.setdefault(key, {})
        place[last] = json.loads(item.value_json)
    return found


def _take(run: OfflineRun, record: Any) -> None:
    kind = record.WhichOneof("record_type")
    if kind == "run":
        run.run_id, run.project, run.name = record.run.run_id, record.run.project, record.run.display_name
        run.group, run.job_type, run.tags = record.run.run_group, record.run.job_type, list(record.run.tags)
        run.sweep_id = record.run.sweep_id
        run.config.update(_items(record.run.config.update))
        run.config.pop("_wandb", None)
    elif kind == "history":
        run.history.append(_items(record.history.item))
    elif kind == "summary":
        run.summary.update(_items(record.summary.update))
    elif kind == "metric":
        name = record.metric.name or record.metric.glob_name
        run.step_metrics[name] = record.metric.step_metric
        run.goals[name] = {1: "minimize", 2: "maximize"}.get(record.metric.goal, "")
        run.hidden |= {name} if record.metric.options.hidden else set()
    elif kind == "stats":
        run.system.append({item.key: float(json.loads(item.value_json)) for item in record.stats.item})
    elif kind == "environment" and record.environment.program:
        run.command = [record.environment.program, *record.environment.args]
        run.commit = record.environment.git.commit
    elif kind == "files":
        run.files += [one.path for one in record.files.files]
    elif kind == "exit":
        run.exit_code = record.exit.exit_code
    artifact = None
    if kind == "artifact":
        artifact = record.artifact
    elif kind == "request" and record.request.WhichOneof("request_type") == "log_artifact":
        artifact = record.request.log_artifact.artifact
    if artifact is not None:
        run.artifacts.append(
            {
                "name": artifact.name,
                "type": artifact.type,
                "aliases": sorted(artifact.aliases),
                "metadata": json.loads(artifact.metadata or "{}"),
                "used": artifact.use_after_commit,
                "made": not artifact.user_created,
                "files": {entry.path: entry.local_path for entry in artifact.manifest.contents},
            }
        )
