"""The trials of a search, by Optuna's ask-and-tell interface: several commands may work on one stored study.

Each command (a *worker*) asks for settings, runs their cells through the chosen launcher and tells the study what came
out. `n_trials` is the number of trials that the study has in the end: the same command again does what is missing.

A trial that says it is running is lost if its worker is gone: the worker's lock (beside the run store) is free, or, on
another machine that shares only the database, its beat has been silent for `SILENT` seconds. A lost trial's settings
are proposed again, first; the cell goes on after its last finished stage.
"""

import math
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fairloop import console
from fairloop.errors import Fault, UserError, first_line
from fairloop.files import canonical_json
from fairloop.locks import Lock, is_locked
from fairloop.measures.measurement import Measurement
from fairloop.sweep.jobs import Job, Outcome, jobs_of
from fairloop.sweep.search import Search, objective_values
from fairloop.sweep.study_storage import open_storage
from fairloop.words import counted

BEAT = 30
"""Seconds between two signs of life of a worker."""

SILENT = 300
"""Seconds without one after which a worker on another machine is taken for dead; clocks may differ by less."""

UNSIGNED = 60
"""Seconds that a worker may take to sign a trial it was given."""

LONG_TURN = 10
"""Seconds that a worker waits for its turn before it says so."""

PAUSE = 1
"""Seconds between two looks at what other workers do."""

WORKER, BEAT_AT, WITHDRAWN, RETRY, PRUNED_AT = "worker", "beat", "withdrawn", "retry of", "pruned at"

Run = Callable[[Sequence[Job], dict[str, int]], Sequence[Outcome]]
"""Runs cells and returns what went wrong; given the number of each cell's trial, by the cell's key."""


class Pruned(Fault):
    """A cell that its search ends before its last generation, because others were better at this one."""


@dataclass(frozen=True)
class Trial:
    """One trial, as the table shows it: `complete`, `pruned`, `failed` or `at work`."""

    number: int
    params: dict[str, Any]
    values: tuple[float, ...]
    state: str


@dataclass
class Worker:
    """This command on a study: it holds a lock while it lives, and its trials carry its name and its beat.

    As a context it raises `LostError` at its end if others took it for dead.
    """

    folder: Path
    lease_seconds: float | None = None
    name: str = field(default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}")
    trials: list[Any] = field(default_factory=list)

    def __enter__(self) -> "Worker":
        self._lock = Lock(self._place(self.name), self.lease_seconds, "what this worker of the search tried")
        with suppress(OSError):  # a folder that cannot be written to: the beat alone tells
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        with self._lock.kept():  # others that took this worker for dead have its trials
            pass
        if not self.trials:  # else the free lock tells others that these are lost
            self.forget(self.name)

    def sign(self, trial: Any) -> None:
        """Put this worker's name on a trial that it was given."""
        trial.set_user_attr(WORKER, self.name)
        self.trials.append(trial)

    def is_alive(self, trial: Any) -> bool:
        """Tell whether somebody is at work on a running trial (a FrozenTrial)."""
        name, now = str(trial.user_attrs.get(WORKER, "")), time.time()
        began = trial.datetime_start.timestamp() if trial.datetime_start else 0.0
        if not re.fullmatch(r"[\w.-]+", name):
            return now - began < UNSIGNED
        if self._place(name).exists() and not is_locked(self._place(name)):
            return False
        return name == self.name or now - float(trial.user_attrs.get(BEAT_AT, began)) < SILENT

    def forget(self, name: str) -> None:
        """Remove the lock of a worker that has ended."""
        with suppress(OSError):
            for file in self.folder.glob(f"{self._place(name).name}*"):
                file.unlink(missing_ok=True)
            self.folder.rmdir()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Be the only worker of the run store that changes which trials there are; for the block.

        Optuna has no such guard: a trial is there before its settings are, two workers can be given the same waiting
        trial by SQLite, and a database may let two of them end the same one.

        Raises:
            LostError: this process stood still for longer than its lease, and another worker took its turn.
        """
        place = self.folder.with_name(f"{self.folder.name}.lock")
        lock = Lock(place, self.lease_seconds, "the trials of this search")
        with lock.kept():  # also where Ctrl-C ends the wait: a lease that is not given back lives as long as we do
            with suppress(OSError):  # a folder that cannot be written to: nobody else's either
                self._wait(lock)
            yield

    @staticmethod
    def _wait(lock: Lock) -> None:
        began, told = time.monotonic(), False
        while not lock.acquire():
            if not told and time.monotonic() - began >= LONG_TURN:
                console.say("another worker of this search takes its trials, or was killed meanwhile: waiting for it")
                told = True
            time.sleep(0.02)

    def _place(self, name: str) -> Path:
        return self.folder / f"{name}.lock"

    def _beat(self) -> None:
        while not self._ended.wait(BEAT):
            for trial in list(self.trials):
                with suppress(Exception):  # a database that is out of reach for a while; or the trial has just ended
                    trial.set_user_attr(BEAT_AT, time.time())


@dataclass(frozen=True)
class Watch:
    """What a cell's own process needs to report its generations to the study; goes with the cell to wherever it runs.

    Attributes:
        search: the study's storage and name, its objective, and the pruner's settings.
        trials: the number of each cell's trial.
    """

    search: Search
    trials: dict[str, int]

    def of(self, cell: str) -> Callable[[int, Sequence[Measurement]], None] | None:
        """Return what is to be told of each generation of this cell; None if it is of no trial."""
        number = self.trials.get(cell)
        return None if number is None else lambda generation, measured: self._report(number, generation, measured)

    def _report(self, number: int, generation: int, measured: Sequence[Measurement]) -> None:
        """Report a generation's measure, and end the cell if the pruner wants it.

        Generation 0, the seed corpus, is left out: it is of another kind, and Optuna's pruners go by the best so far.

        Raises:
            Pruned: it does.
        """
        import optuna

        metric = self.search.objectives[0].partition("@")[0]
        value = next((one.value for one in measured if one.metric == metric), None)
        if not generation or value is None or math.isnan(value):
            return
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            storage = open_storage(str(self.search.sweeper["storage"]))
            study = optuna.load_study(
                study_name=self.search.study_name, storage=storage, pruner=self.search.pruner(),
                sampler=self.search.sampler(),
            )  # fmt: skip
            trial = storage.get_trial_id_from_study_id_trial_number(
                storage.get_study_id_from_name(self.search.study_name), number
            )
            storage.set_trial_intermediate_value(trial, generation, value)
            prunes = study.pruner.prune(study, storage.get_trial(trial))
            if prunes:
                storage.set_trial_user_attr(trial, PRUNED_AT, generation)
        except Exception as error:  # the study is never in a cell's way
            console.warn(f"fairloop: trial {number}: generation {generation} is not reported ({first_line(error)})")
            return
        if prunes:
            raise Pruned(
                f"pruned after generation {generation}: earlier trials of the search had better {metric} there"
            )


def run_trials(search: Search, study: Any, run: Run) -> None:
    """Do what a study still lacks, together with the other workers on it; inside `composition.composer()`.

    Raises:
        UserError: the finished cells have no such objective.
    """
    first = len(study.get_trials(deepcopy=False))
    with Worker(search.folder / "workers", search.base.lease_seconds) as worker:
        if search.base.retry_failed:
            with worker.alone():
                _propose_failed_again(study)
        waiting = False
        while True:
            with worker.alone():
                _propose_lost_again(study, worker)
                left, at_work = _left(search, study, first)
                most = min(left, int(search.sweeper["n_jobs"]))
                proposals = _proposals(search, study, worker, first, most)
            if proposals:
                if not _settle(search, study, worker, proposals, run):
                    return
            elif left > 0:  # of another machine, which shares the database alone, came in between
                time.sleep(PAUSE)
            elif at_work:
                if not waiting:
                    console.say(f"waiting for {counted(at_work, 'trial')} at work in other processes")
                waiting = True
                time.sleep(PAUSE)
            else:
                return


def _left(search: Search, study: Any, first: int) -> tuple[int, int]:
    """Return how many trials are to be begun, and how many are at work.

    A trial that failed since this command began counts as done: it is tried again by the next one.
    """
    from optuna.trial import TrialState

    trials = _counted(study)
    at_work = sum(trial.state == TrialState.RUNNING for trial in trials)
    done = sum(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in trials)
    failed = sum(trial.state == TrialState.FAIL and trial.number >= first for trial in trials)
    return search.n_trials - done - failed - at_work, at_work


def _counted(study: Any) -> list[Any]:
    """Return the trials that count: none that was withdrawn, or proposed again because its worker was gone."""
    trials = study.get_trials(deepcopy=False)
    again = {trial.user_attrs.get(RETRY) for trial in trials}
    return [trial for trial in trials if WITHDRAWN not in trial.user_attrs and trial.number not in again]


def _propose_lost_again(study: Any, worker: Worker) -> None:
    """Propose the settings of trials again whose worker is gone."""
    from optuna.exceptions import UpdateFinishedTrialError
    from optuna.trial import TrialState

    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if worker.is_alive(trial):
            continue
        with suppress(ValueError, UpdateFinishedTrialError):  # a worker of another store was first
            study.tell(trial.number, state=TrialState.FAIL)
            if trial.params:
                study.enqueue_trial(trial.params, user_attrs={RETRY: trial.number})
        worker.forget(str(trial.user_attrs.get(WORKER)))


def _propose_failed_again(study: Any) -> None:
    from optuna.trial import TrialState

    trials = _counted(study)
    known = [_settings(trial) for trial in trials if trial.state != TrialState.FAIL]
    for trial in trials:
        if trial.state == TrialState.FAIL and trial.params and trial.params not in known:
            study.enqueue_trial(trial.params, user_attrs={RETRY: trial.number})
            known.append(trial.params)


def _settings(trial: Any) -> dict[str, Any]:
    """Return a trial's settings; of one that waits those that it is to have."""
    settings: dict[str, Any] = trial.params or trial.system_attrs.get("fixed_params", {})
    return settings


@dataclass(frozen=True)
class Proposal:
    """A trial that this worker was given, and the cell that answers it."""

    trial: Any
    job: Job


def _proposals(search: Search, study: Any, worker: Worker, first: int, most: int) -> list[Proposal]:
    """Ask for up to so many trials; one whose settings are no cell fails at once, with its line."""
    from optuna.trial import TrialState

    found = []
    for _ in range(most):
        if search.is_grid:
            _propose_point(search, study)
        trial = study.ask(search.distributions)
        worker.sign(trial)
        if _is_surplus(search, study, trial.number, first):
            trial.set_user_attr(WITHDRAWN, True)
            study.tell(trial, state=TrialState.FAIL)
            worker.trials.remove(trial)
            study.sampler.reseed_rng()  # that of another worker may have begun with the same seed
            break
        chosen = [f"{key}={value}" for key, value in trial.params.items()]
        try:
            (job,) = jobs_of([[*search.fixed, *chosen]])
        except UserError as error:
            console.warn(f"fairloop: trial {trial.number}: {error}")
            study.tell(trial, state=TrialState.FAIL)
            worker.trials.remove(trial)
            continue
        found.append(Proposal(trial, job))
    return found


def _propose_point(search: Search, study: Any) -> None:
    """Propose the first point of a grid that no trial has."""
    from optuna.trial import TrialState

    trials = _counted(study)
    if not any(trial.state == TrialState.WAITING for trial in trials):
        known = {canonical_json(_settings(trial)) for trial in trials}
        point = next((point for point in search.grid if canonical_json(point) not in known), None)
        if point is not None:
            study.enqueue_trial(point)


def _is_surplus(search: Search, study: Any, number: int, first: int) -> bool:
    """Tell whether other workers were given the last trials, or the same settings, at the same moment.

    Numbers of trials are given out one by one, so that all workers agree on which came first.
    """
    from optuna.trial import TrialState

    trials = _counted(study)
    (this,) = (trial for trial in trials if trial.number == number)
    others = [trial for trial in trials if trial.state != TrialState.WAITING and trial.number < number]
    ahead = [trial for trial in others if trial.state != TrialState.FAIL or trial.number >= first]
    given = "fixed_params" in this.system_attrs
    same = [trial.state for trial in others if trial.params == this.params]
    twice = any(state == TrialState.RUNNING or (given and state != TrialState.FAIL) for state in same)
    return twice or len(ahead) >= search.n_trials


def _settle(search: Search, study: Any, worker: Worker, proposals: Sequence[Proposal], run: Run) -> bool:
    """Run the cells of trials and tell the study; return whether the search is to go on.

    Raises:
        UserError: a finished cell has no such objective: none will.
    """
    from optuna.trial import TrialState

    jobs = {one.job.cell.folder: one.job for one in proposals if not one.job.cell.complete}
    numbers = {one.job.cell.key: one.trial.number for one in proposals}
    outcomes = {one.cell: one for one in run(list(jobs.values()), numbers)} if jobs else {}
    mistake: UserError | None = None
    for one in proposals:
        cell, number = one.job.cell, one.trial.number
        settings = " ".join(f"{key}={_shown(value)}" for key, value in one.trial.params.items())
        stored = study.get_trials(deepcopy=False)[number]
        worker.trials.remove(one.trial)
        if cell.complete:
            try:
                values = objective_values(cell.folder, search.objectives)
                study.tell(one.trial, values, skip_if_finished=True)
                named = zip(search.objectives, values, strict=True)
                said = ", ".join(f"{objective} {_shown(value)}" for objective, value in named)
                console.say(f"trial {number} ({settings}): {said}")
                continue
            except UserError as error:
                mistake = error
        elif PRUNED_AT in stored.user_attrs:
            study.tell(one.trial, state=TrialState.PRUNED, skip_if_finished=True)
            console.say(f"trial {number} ({settings}): pruned after generation {stored.user_attrs[PRUNED_AT]}")
            outcomes.pop(cell.folder, None)
            continue
        study.tell(one.trial, state=TrialState.FAIL, skip_if_finished=True)
        line = outcomes[cell.folder].line if cell.folder in outcomes else ""
        console.warn(f"fairloop: trial {number} ({settings}) failed: {mistake or line or 'not started'}")
    if mistake is not None:
        raise mistake
    return not (outcomes and search.base.on_failure == "stop")


def trials_of(study: Any) -> list[Trial]:
    """Return the trials that were tried, a failed one only if its settings did not succeed later."""
    from optuna.trial import TrialState

    trials = [trial for trial in _counted(study) if trial.state != TrialState.WAITING]
    words = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.RUNNING: "at work"}
    other = [trial.params for trial in trials if trial.state in words]
    return [
        # The value of a pruned trial is that of its last generation, and no objective.
        Trial(
            trial.number,
            trial.params,
            tuple(trial.values) if trial.state == TrialState.COMPLETE else (),
            words.get(trial.state, "failed"),
        )
        for trial in trials
        if trial.state in words or (trial.params and trial.params not in other)
    ]


def print_trials(search: Search, study: Any, out: Any) -> None:
    """Print the table of trials, and the best of them: with several objectives those that no other one beats in all.

    Args:
        search: what was searched.
        study: its study.
        out: where to print: a rich Console.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    goals = ", ".join(f"{way} {name}" for way, name in zip(search.directions, search.objectives, strict=True))
    table = Table(
        title=Text(f"Search {search.study_name}: {goals}"),
        title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False,
    )  # fmt: skip
    for name in ("trial", *search.space, "status", *search.objectives):
        table.add_column(Text(name), justify="left" if name == "status" else "right", overflow="fold")
    trials = trials_of(study)
    for trial in trials:
        chosen = [_shown(trial.params.get(key)) for key in search.space]
        values = [_shown(value) for value in trial.values] or [""] * len(search.objectives)
        table.add_row(*map(Text, [str(trial.number), *chosen, trial.state, *values]))
    out.print(table)
    if any(trial.state == "complete" for trial in trials):
        for best in study.best_trials if len(search.objectives) > 1 else [study.best_trial]:
            settings = " ".join(f"{key}={value}" for key, value in best.params.items())
            reached = ", ".join(map(_shown, best.values))
            out.print(f"best: {reached} with {settings}", markup=False, soft_wrap=True)


def _shown(value: Any) -> str:
    return "" if value is None else f"{value:.5g}" if isinstance(value, float) else str(value)
