"""What has to be there before a cell is started: a store to write to, packages, weights, data, keys, served models."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from fairloop.benchmarks.registry import provide
from fairloop.errors import UserError
from fairloop.generation.server_settings import ServerSettings
from fairloop.plm.locate import require
from fairloop.sweep.jobs import Job
from fairloop.tracking.wandb_service import check_variables


def check_surroundings(jobs: Sequence[Job], *, local: bool = True) -> None:
    """Refuse what would fail later: a run store that can't be written; packages, weights, data, keys that are not here.

    A model that its server does not serve is refused too, where the server can tell.

    `local`: the cells run on this machine, so its devices count.
    """
    for runs_dir in {job.configuration.runs_dir for job in jobs}:
        _check_writable(runs_dir)
    missing = [job.configuration for job in jobs if not job.cell.complete]
    for mode in {one.tracking.mode for one in missing}:
        check_variables(mode)
    for key, (path, revision) in {model for one in missing for model in one.models.items()}:
        require(path, revision, key)
    for one in missing:
        one.check_surroundings(local=local)
    benchmarks = {repr(found): found for one in missing for found in one.study.measured_by(one).values()}
    for settings in benchmarks.values():
        provide(settings)
    asked = [one.model for one in missing if one.generates and isinstance(one.model, ServerSettings)]
    if asked:
        from fairloop.generation.served_names import check_names  # imports httpx

        check_names(asked)


def _check_writable(runs_dir: str) -> None:
    ancestor = Path(runs_dir).absolute()
    try:
        while not ancestor.exists() and ancestor != ancestor.parent:
            ancestor = ancestor.parent
        if os.path.lexists(ancestor) and not ancestor.is_dir():
            raise NotADirectoryError
        with tempfile.TemporaryFile(dir=ancestor):
            pass
    except OSError as error:
        raise UserError.of("runs_dir", runs_dir, f"a folder that can be written ({ancestor} can not)") from error
