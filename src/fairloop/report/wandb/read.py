"""Read the cells of a Weights & Biases project: a copy of its run store, made of the `scores` artifacts of its runs.

Each cell's run carries the files that a report reads (`config.yaml`, `metrics.csv`, `result.json`), so the copy is read
as any run store is. Corpora and checkpoints stay where they are. What is here already is not fetched again.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fairloop.errors import Fault, UserError
from fairloop.files import write_json
from fairloop.report.read import Runs, read_runs
from fairloop.tracking.wandb_run import SCORES
from fairloop.tracking.wandb_service import in_one_line, reason_to_stay_offline
from fairloop.tracking.wandb_sweep import JOB_TYPE

FOLDER = "runs-from-wandb"
"""Where copies go by default: `runs-from-wandb/<entity>/<project>`."""


def read_project(project: str, sweep: str | None = None, folder: Path | str | None = None) -> Runs:
    """Read the finished cells of a project, as `read_runs` reads those of a run store.

    Args:
        project: `ENTITY/PROJECT`.
        sweep: the sweep whose cells to read, or the group of their runs; None for all. Each has a copy of its own.
        folder: where the copy goes; None for `runs-from-wandb/<entity>/<project>[/<sweep>]`.

    Raises:
        UserError: the name is not one of a project, there is no key, or no run holds a finished cell.
        Fault: the service cannot be reached, or refuses.
    """
    return read_runs(copy_project(project, sweep, folder))


def copy_project(project: str, sweep: str | None = None, folder: Path | str | None = None) -> Path:
    """Copy the cells of a project to a run store and return its folder; arguments as of `read_project`."""
    check_project(project)
    check_service()
    store = Path(folder) if folder else Path(FOLDER, *project.split("/"), *([_file_name(sweep)] if sweep else []))
    of_sweep = {"$or": [{"config.sweep": sweep}, {"group": sweep}]}
    filters: dict[str, Any] = {"jobType": {"$ne": JOB_TYPE}, **(of_sweep if sweep else {})}
    try:
        import wandb

        # The newest run of a cell comes last and counts: several agents may have asked for the same cell.
        for run in wandb.Api().runs(project, filters=filters, order="+created_at", lazy=False):
            _copy_run(run, store)
    except (UserError, Fault):
        raise
    except Exception as error:  # W&B raises errors of many kinds, its own and its transport's
        raise Fault(f"Weights & Biases, {project}: {in_one_line(error)}") from error
    store.mkdir(parents=True, exist_ok=True)
    return store


def check_project(project: str) -> None:
    """Raise UserError unless a name can be that of a project."""
    names = project.split("/")
    if not re.fullmatch(r"[\w.-]+/[^/\\#?%:]+", project) or not project.isprintable() or {".", ".."} & set(names):
        raise UserError.of("project", project, "ENTITY/PROJECT")


def check_service() -> None:
    """Raise UserError without a key, Fault if the service cannot be reached."""
    reason = reason_to_stay_offline("online")
    if reason == "no API key":
        raise UserError("Weights & Biases: no API key; run `wandb login` or set WANDB_API_KEY")
    if reason is not None:
        raise Fault(f"Weights & Biases: {reason}")


def _copy_run(run: Any, store: Path) -> None:
    key = run.config.get("cell")
    if not isinstance(key, str) or not re.fullmatch(r"\w+", key):
        return  # not a run of a cell
    artifact = _newest(run.logged_artifacts())
    study = artifact.metadata.get("study") if artifact is not None else _study(run)
    folder = store / _file_name(str(study)) / key
    status = _status(folder)
    if artifact is None:
        if status.get("status") != "complete":
            write_json(folder / "status.json", {"status": _state(run), "reason": _reason(run)})
        return
    if status.get("artifact") == artifact.digest:
        return
    artifact.download(root=str(folder))
    write_json(folder / "status.json", {"status": "complete", "reason": "", "artifact": artifact.digest})


def _newest(artifacts: Iterable[Any]) -> Any:
    scores = [one for one in artifacts if one.type == SCORES]
    return scores[-1] if scores else None


def _study(run: Any) -> str:
    study = run.config.get("study")
    return str(study.get("name", "unknown")) if isinstance(study, dict) else "unknown"


def _state(run: Any) -> str:
    return "running" if run.state == "running" else "failed"


def _reason(run: Any) -> str:
    return f"its run {run.id} is {run.state} and has no artifact of type {SCORES}"


def _status(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / "status.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.-]", "_", text).lstrip(".") or "_"
