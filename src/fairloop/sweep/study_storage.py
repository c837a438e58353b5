"""Where a search's study is stored: a journal file or a database, opened by Optuna or refused in one line."""

import errno
import logging
import os
import shlex
import shutil
import tempfile
import time
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fairloop import console
from fairloop.errors import UserError, first_line
from fairloop.files import explain
from fairloop.packages import installer
from fairloop.sweep.search import KEY, Search

JOURNAL = "journal:///"
SQLITE = "sqlite:///"
ALLOWED = "journal:///FILE, or a database that SQLAlchemy names, such as sqlite:///FILE or postgresql://USER@HOST/NAME"
FORMER = "optuna.db"
"""Beside the journal: what the sweeper of Optuna 2 wrote before Fairloop had its own."""

_DRIVERS = {"psycopg": "psycopg[binary]", "psycopg2": "psycopg2-binary", "mysqldb": "mysqlclient"}
"""The package that brings a driver, where its name is another one: without `binary`, libpq has to be there already."""

TRIES = 5
SECONDS_TO_ANSWER = 20
_TIMEOUTS = {"psycopg2": "connect_timeout", "psycopg": "connect_timeout", "pymysql": "connect_timeout",
             "mysqldb": "connect_timeout", "pysqlite": "timeout"}  # fmt: skip


def open_study(search: Search) -> Any:
    """Open the study of a search (of Optuna's class Study), or begin it.

    Raises:
        UserError: a storage that cannot be, or a stored study that searched something else.
        Fault: a disk that is full.
    """
    import optuna

    optuna.logging.set_verbosity(logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    place = str(search.sweeper["storage"])
    storage = open_storage(place)
    with _refusing(place):
        names = optuna.get_all_study_names(storage)
        if search.study_name not in names:
            _take_over(search, storage, place)
        study = optuna.create_study(
            study_name=search.study_name, storage=storage, load_if_exists=True, sampler=search.sampler(),
            pruner=search.pruner(), directions=_stored_directions(search, storage),
        )  # fmt: skip
        study.sampler = search.sampler(len(study.get_trials(deepcopy=False)))
        _check_space(search, study)
    return study


def open_storage(place: str) -> Any:
    """Open a storage of Optuna.

    Args:
        place: `journal:///FILE`, or the URL of a database.

    Raises:
        UserError: it names nothing that can be opened; a password in it is not shown.
        Fault: a disk that is full.
    """
    if place.startswith(JOURNAL):
        return _open_journal(place)
    from optuna.storages import RDBStorage
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError, IntegrityError, NoSuchModuleError, SQLAlchemyError

    try:
        url = make_url(place)
        driver = url.get_dialect().driver
        url.get_dialect().import_dbapi()
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        raise UserError.of(f"{KEY}.storage", shown(place), ALLOWED) from error
    except ImportError as error:
        package = shlex.quote(_DRIVERS.get(driver, error.name or driver))
        raise UserError(f"{KEY}.storage={shown(place)}: needs the driver {driver}: {installer()} {package}") from error
    timeout = _TIMEOUTS.get(driver)
    with _refusing(place):
        if url.database and place.startswith(SQLITE):
            Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        arguments = {"connect_args": {timeout: SECONDS_TO_ANSWER}} if timeout else {}
        for attempt in range(TRIES):
            try:
                return RDBStorage(place, engine_kwargs=arguments)
            except SQLAlchemyError as error:  # two workers that make the tables at once are in each other's way
                met = isinstance(error, IntegrityError) or "already exists" in str(error)
                if not met or attempt == TRIES - 1:
                    raise
                time.sleep(0.2 * (attempt + 1))
    raise AssertionError("unreachable")


def _open_journal(place: str) -> Any:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    path = Path(place.removeprefix(JOURNAL))
    with _refusing(place):
        path.parent.mkdir(parents=True, exist_ok=True)
        _mend(path)
        return JournalStorage(JournalFileBackend(str(path)))


def _mend(path: Path) -> None:
    """Take away the half line that a full disk or a lost machine left at a journal's end; it would spoil the next."""
    from optuna.storages.journal import JournalFileSymlinkLock

    def whole() -> int:
        content = path.read_bytes()
        return len(content) if content.endswith(b"\n") or not content else content.rfind(b"\n") + 1

    if not path.exists() or whole() == path.stat().st_size:
        return
    lock = JournalFileSymlinkLock(str(path))
    lock.acquire()  # another worker may be in the middle of the line
    try:
        if (size := whole()) < path.stat().st_size and size:
            os.truncate(path, size)
            console.warn(f"{path}: half a line at its end was taken away")
    finally:
        lock.release()


@contextmanager
def _refusing(place: str) -> Any:
    """Turn whatever a storage raises into the one line of a mistake in `hydra.sweeper.storage`."""
    from optuna.exceptions import OptunaError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise explain(error, place.removeprefix(JOURNAL)) or error from error
        reason = error.strerror or first_line(error, type(error).__name__)
        raise UserError.of(f"{KEY}.storage", shown(place), f"a storage that opens ({reason})") from error
    except RuntimeError as error:
        if "table schema" not in str(error):
            raise
        allowed = (
            "a study of this Optuna; one that an older Optuna wrote is brought up to date, once, by"
            f" `optuna storage upgrade --storage {shown(place)}`"
        )
        raise UserError.of(f"{KEY}.storage", shown(place), allowed) from error
    except (SQLAlchemyError, OptunaError, ValueError, LookupError, TypeError, AttributeError, AssertionError) as error:
        kind = "a journal of Optuna" if place.startswith(JOURNAL) else "a database that opens"
        reason = first_line(getattr(error, "orig", None) or error, type(error).__name__)
        raise UserError.of(f"{KEY}.storage", shown(place), f"{kind} ({_without_password(reason, place)})") from error


def shown(place: str) -> str:
    """Return a storage's name as it may be shown: without its password."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return place if place.startswith(JOURNAL) else make_url(place).render_as_string(hide_password=True)
    except (ArgumentError, ValueError):
        return place


def _without_password(text: str, place: str) -> str:
    from sqlalchemy.engine import make_url

    password = None if place.startswith(JOURNAL) else make_url(place).password
    return text.replace(str(password), "***") if password else text


def _stored_directions(search: Search, storage: Any) -> list[str]:
    """Return the directions of the search; a stored study of the name that has others is refused."""
    import optuna

    wanted = list(search.directions)
    if search.study_name in optuna.get_all_study_names(storage):
        stored = optuna.load_study(study_name=search.study_name, storage=storage).directions
        names = [one.name.lower() for one in stored]
        if names != wanted:
            allowed = f"the direction that the stored study {search.study_name} has: {','.join(names)}"
            raise UserError.of(f"{KEY}.direction", ",".join(wanted), allowed)
    return wanted


def _check_space(search: Search, study: Any) -> None:
    """Refuse a stored study that was given by its name and searched other keys, or other kinds of ranges."""
    from optuna.distributions import check_distribution_compatibility

    for trial in study.get_trials(deepcopy=False):
        if not trial.distributions:
            continue
        if set(trial.distributions) != set(search.distributions):
            raise UserError.of(
                f"{KEY}.study_name", search.study_name, f"that study searched {', '.join(sorted(trial.distributions))}"
            )
        for key, one in trial.distributions.items():
            try:
                check_distribution_compatibility(one, search.distributions[key])
            except ValueError as error:
                allowed = f"that study searched {key} as {one}"
                raise UserError.of(f"{KEY}.study_name", search.study_name, allowed) from error


def _take_over(search: Search, storage: Any, place: str) -> None:
    """Copy a study that the sweeper of Optuna 2 left beside the journal; its own file stays as it is."""
    import optuna
    from optuna.storages import RDBStorage

    former = Path(place.removeprefix(JOURNAL)).with_name(FORMER)
    if not place.startswith(JOURNAL) or not former.is_file():
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copy(former, folder)
        try:
            old = RDBStorage(f"{SQLITE}{copy}", skip_compatibility_check=True)
            old.upgrade()
            if search.study_name not in optuna.get_all_study_names(old):
                return
            optuna.copy_study(from_study_name=search.study_name, from_storage=old, to_storage=storage)
            old.remove_session()
        except Exception as error:
            allowed = f"a study of an older Optuna that can be read ({first_line(error)}); remove it to begin anew"
            raise UserError.of(f"{KEY}.storage", former, allowed) from error
    console.say(f"search {search.study_name}: its trials are taken over from {former}")
