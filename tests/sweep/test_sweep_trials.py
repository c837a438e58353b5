"""The trials of a search: several workers on one stored study, kills, failures, pruning, and studies of before."""

import copy
import json
import sqlite3
import threading
import time
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from bench.sweep import write_cell

from fairloop import composition
from fairloop.errors import UserError
from fairloop.locks import Lock, LostError, is_locked
from fairloop.measures.measurement import Measurement
from fairloop.sweep import trials as loop
from fairloop.sweep.jobs import Job, Outcome
from fairloop.sweep.search import read_search
from fairloop.sweep.study_storage import open_study
from fairloop.sweep.trials import Pruned, Watch, Worker, run_trials, trials_of

optuna = pytest.importorskip("optuna")

OBJECTIVE = "rule/net_stereotype_rate@3"
LEVEL = "initial_bias.level=interval(0.1,0.6)"
PLAIN = "hydra.sweeper."


class Killed(BaseException):
    """What a signal does to a command, as far as the study can tell."""


@pytest.fixture(scope="module")
def composed():
    """Return what reads a search; composing takes a while, so one that was read before is given again."""
    with composition.composer():
        yield cache(
            lambda objective, space, *overrides: read_search(
                ["hydra/sweeper=fairloop_optuna", f"objective={objective}", "tracking=none", *space, *overrides], None
            )
        )


@pytest.fixture
def searching(tmp_path, monkeypatch, composed):
    """Return a function that reads a search of recursions in a store of its own."""
    monkeypatch.setattr(loop, "PAUSE", 0.02)
    composing = loop.jobs_of

    def jobs_of(lines):
        """Make the cells of levels without Hydra; all others as they are made."""
        ((*line, last),) = lines
        key, _, value = last.partition("=")
        if key != "initial_bias.level" or any(text.startswith("model.") for text in line):
            return composing([[*line, last, f"runs_dir={tmp_path}/runs"]])
        base = composed(OBJECTIVE, (LEVEL,)).base
        bias = base.initial_bias.model_copy(update={"level": float(value)})
        return [Job.of(base.model_copy(update={"initial_bias": bias, "runs_dir": f"{tmp_path}/runs"}))]

    monkeypatch.setattr(loop, "jobs_of", jobs_of)

    def read(*overrides, objective=OBJECTIVE, space=(LEVEL,)):
        plain = [one.removeprefix(PLAIN).split("=", 1) for one in overrides if one.startswith(PLAIN)]
        others = [one for one in overrides if not one.startswith(PLAIN)]
        search = composed(objective, tuple(space), *others)
        sweeper = {**copy.deepcopy(search.sweeper), "n_trials": 4, "storage": f"journal:///{tmp_path}/runs/optuna.log"}
        for key, value in plain:
            *group, name = key.split(".")
            (sweeper[group[0]] if group else sweeper)[name] = yaml.safe_load(value)
        base = search.base.model_copy(update={"runs_dir": f"{tmp_path}/runs"})
        return replace(search, base=base, sweeper=sweeper)

    return read


def written(jobs, numbers):
    """Run cells: what a search gets of one whose net stereotype rate follows its level."""
    for job in jobs:
        write_cell(job)
    return []


def searched(search, run=written):
    study = open_study(search)
    run_trials(search, study, run)
    return study


def test_what_a_killed_command_was_trying_is_tried_first(searching, tmp_path):
    search = searching("hydra.sweeper.sampler.seed=3")
    given = []

    def killed(jobs, numbers):
        given.extend(job.configuration.initial_bias.level for job in jobs)
        if len(given) == 2:
            raise Killed
        return written(jobs, numbers)

    def again(jobs, numbers):
        given.append(jobs[0].configuration.initial_bias.level)
        raise Killed

    with pytest.raises(Killed):
        searched(search, killed)
    with pytest.raises(Killed):  # killed once more: the settings are not there twice
        searched(search, again)
    assert given[2] == given[1]
    study = searched(search, lambda *run: given.append(run[0][0].configuration.initial_bias.level) or written(*run))
    assert given[3] == given[1]
    assert len(set(given)) == 4  # with its seed, the sampler proposes nothing twice
    assert [trial.state for trial in trials_of(study)] == ["complete"] * 4
    values = {trial.params["initial_bias.level"]: trial.values[0] for trial in trials_of(study)}
    for level, value in values.items():
        assert value == pytest.approx(0.2 + (level - 0.2) / 8, abs=0.1)
    assert not (tmp_path / "runs" / ".sweeps" / "workers").exists()
    # Nothing is left to do; a larger number goes on.
    searched(search, lambda *run: pytest.fail("all is done"))
    search.sweeper["n_trials"] = 5
    assert len(trials_of(searched(search))) == 5


@pytest.mark.parametrize("storage", ["journal:///{}/a.log", "sqlite:///{}/a.db"])
def test_several_workers_share_the_trials_of_one_study_also_when_one_is_killed(searching, storage, tmp_path):
    search = searching(
        f"hydra.sweeper.storage={storage.format(tmp_path)}", "hydra.sweeper.n_trials=9", "hydra.sweeper.sampler.seed=1"
    )
    began, told, places = threading.Barrier(3), [], []

    def work(name):
        def run(jobs, numbers):
            places.append(jobs[0].cell.folder)
            if name not in told:
                began.wait(60)  # all three have a trial at this moment
            told.append(name)
            if name == 2:
                raise Killed
            return written(jobs, numbers)

        try:
            searched(search, run)
        except Killed:
            return

    workers = [threading.Thread(target=work, args=(name,)) for name in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    study = open_study(search)
    assert [trial.state for trial in trials_of(study)] == ["complete"] * 9
    assert len({trial.params["initial_bias.level"] for trial in trials_of(study)}) == 9
    assert len(places) == 10  # nothing twice but what the killed one had
    assert len(set(places)) == 9
    assert {0, 1} <= set(told)


def test_a_failed_trial_is_tried_again_by_the_next_command_or_left(searching):
    def failing(jobs, numbers):
        return [Outcome(job.cell.folder, "failed", "no such luck", 1) for job in jobs]

    search = searching("hydra.sweeper.n_trials=2")
    study = searched(search, failing)
    assert [trial.state for trial in trials_of(study)] == ["failed"] * 2  # not endlessly in one command
    kept = searching("hydra.sweeper.n_trials=2", "retry_failed=false", f"hydra.sweeper.study_name={search.study_name}")
    states = sorted(trial.state for trial in trials_of(searched(kept)))
    assert states == ["complete"] * 2 + ["failed"] * 2
    study = searched(searching("hydra.sweeper.n_trials=4", f"hydra.sweeper.study_name={search.study_name}"))
    assert [trial.state for trial in trials_of(study)] == ["complete"] * 4


def test_a_failure_stops_the_search_if_it_is_to(searching):
    given = []

    def failing(jobs, numbers):
        given.extend(jobs)
        return [Outcome(job.cell.folder, "failed", "no such luck", 1) for job in jobs]

    searched(searching("on_failure=stop"), failing)
    assert len(given) == 1


def test_settings_that_are_no_cell_fail_their_trial_and_an_objective_that_is_not_there_ends_the_search(
    searching, capsys
):
    search = searching("hydra.sweeper.n_trials=3", "study.sentences=9", space=["study.examples=choice(2,9)"])
    search = replace(search, distributions={"study.examples": optuna.distributions.CategoricalDistribution((10, 2))})
    study = searched(search)
    assert {trial.state for trial in trials_of(study)} <= {"complete", "failed"}
    if any(trial.state == "failed" for trial in trials_of(study)):
        assert "study.examples=10: at most study.sentences (9)" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"objective=rule/net_stereotype@3: no such measure \(did you mean rule/net_st"):
        searched(searching(objective="rule/net_stereotype@3"))


def test_a_grid_is_gone_through_once(searching):
    grid = ["hydra/sweeper/sampler=grid", "hydra.sweeper.n_trials=20"]
    space = ["seed=range(0,2)", "mitigation=choice(none,prompt)"]
    study = searched(searching(*grid, "hydra.sweeper.n_jobs=3", space=space))
    points = [(trial.params["seed"], trial.params["mitigation"]) for trial in trials_of(study)]
    assert points == [(0, "none"), (0, "prompt"), (1, "none"), (1, "prompt")]


@pytest.mark.parametrize("sampler", ["tpe", "nsgaii"])
def test_of_several_objectives_those_are_best_that_no_other_beats(searching, sampler, capsys):
    objectives = ["rule/net_stereotype_rate@3", "downstream/accuracy@3"]
    search = searching(f"hydra/sweeper/sampler={sampler}", objective=f"[{','.join(objectives)}]")
    assert search.directions == ("minimize", "maximize")
    study = searched(search)
    found = [trial.values for trial in trials_of(study)]
    best = [one for one in found if not any(o != one and o[0] <= one[0] and o[1] >= one[1] for o in found)]
    assert sorted(tuple(trial.values) for trial in study.best_trials) == sorted(best)


def test_cma_es_searches_two_ranges(searching):
    space = [LEVEL, "model.temperature=interval(0.5,1.5)"]
    study = searched(searching("hydra/sweeper/sampler=cmaes", "hydra.sweeper.sampler.seed=1", space=space))
    assert len(trials_of(study)) == 4
    assert any("cma:" in key for trial in study.get_trials() for key in trial.system_attrs)


# --- pruning ---------------------------------------------------------------------------------------------------------


def test_a_cell_reports_its_generations_and_is_pruned_where_others_were_better(searching):
    pruner = ["hydra/sweeper/pruner=median", "hydra.sweeper.pruner.n_startup_trials=2"]
    search = searching(*pruner)
    seen = []

    def run(jobs, numbers):
        (job,) = jobs
        report = Watch(search, numbers).of(job.cell.key)
        assert Watch(search, numbers).of("another cell") is None
        bad = len(seen) == 2
        seen.append(0)
        try:
            for generation in range(3):
                seen[-1] = generation
                value = 0.1 if generation == 0 else 0.5 + bad
                report(generation, [Measurement("rule/net_stereotype_rate", value, 0.0, 1.0, 9)])
        except Pruned as error:
            return [Outcome(job.cell.folder, "pruned", str(error))]
        return written(jobs, numbers)

    study = searched(search, run)
    assert [trial.state for trial in trials_of(study)] == ["complete", "complete", "pruned", "complete"]
    assert [len(trial.values) for trial in trials_of(study)] == [1, 1, 0, 1]
    assert seen == [2, 2, 1, 2]
    assert study.get_trials()[2].intermediate_values == {1: 1.5}  # not of the seed corpus


def test_a_study_out_of_reach_does_not_stop_a_cell(searching, tmp_path, capsys):
    search = searching("hydra/sweeper/pruner=median", f"hydra.sweeper.storage=sqlite:///{tmp_path}/a.db")
    study = open_study(search)
    number = study.ask(search.distributions).number
    (tmp_path / "a.db").write_text("nothing of Optuna's, but long enough for a head")
    Watch(search, {"cell": number}).of("cell")(1, [Measurement("rule/net_stereotype_rate", 0.5, 0.0, 1.0, 9)])
    assert "generation 1 is not reported" in capsys.readouterr().err


# --- workers ---------------------------------------------------------------------------------------------------------


def test_a_worker_on_another_machine_is_alive_while_its_beat_is_heard(tmp_path):
    def trial(seconds, **more):
        began = loop.time.time() - 10_000
        when = SimpleNamespace(timestamp=lambda: began)
        return SimpleNamespace(
            datetime_start=when, user_attrs={"worker": "far-1-ab", "beat": loop.time.time() - seconds, **more}
        )

    worker = Worker(tmp_path / "workers")
    assert worker.is_alive(trial(loop.SILENT - 5))
    assert not worker.is_alive(trial(loop.SILENT + 5))
    assert not worker.is_alive(trial(5, worker="../../hostile"))
    with Worker(tmp_path / "workers") as other:
        assert worker.is_alive(trial(5, worker=other.name))
        other.trials.append(None)  # it ends with a trial in its hands
    assert not worker.is_alive(trial(5, worker=other.name))


def test_workers_take_their_trials_one_after_another(searching, monkeypatch):
    """Else two with one seed begin the same settings: a trial is there before its settings are."""
    search, inside, most = searching("hydra.sweeper.n_trials=4"), [], []
    propose = loop._proposals

    def watched(*given):
        inside.append(given)
        most.append(len(inside))
        time.sleep(0.1)  # as long as another one would need to come in
        try:
            return propose(*given)
        finally:
            inside.pop()

    monkeypatch.setattr(loop, "_proposals", watched)
    workers = [threading.Thread(target=searched, args=(search,)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert len(most) > 3
    assert max(most) == 1


@pytest.mark.parametrize("lease", [None, 30.0])
def test_a_worker_that_is_interrupted_while_it_waits_for_its_turn_leaves_no_lock(tmp_path, monkeypatch, lease):
    """A notebook goes on after Ctrl-C: what it held then it would hold for good."""
    worker = Worker(tmp_path / "workers", lease)
    taking = Lock.acquire

    def interrupted(self):
        assert taking(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(Lock, "acquire", interrupted)
    with pytest.raises(KeyboardInterrupt) as kept, worker.alone():  # the traceback holds what is in its frames
        pass
    monkeypatch.setattr(Lock, "acquire", taking)
    assert not is_locked(tmp_path / "workers.lock")
    assert kept.tb is not None


def test_a_worker_whose_turn_was_taken_over_ends_with_a_line_and_begins_no_trial(tmp_path):
    worker = Worker(tmp_path / "workers", 30.0)
    with pytest.raises(LostError, match="has taken over the trials of this search"), worker.alone():
        record = json.dumps({"token": "another", "seconds": 30.0, "host": "elsewhere", "pid": 1})
        (tmp_path / "workers.lock-lease-2").write_text(record)


def test_a_worker_that_others_took_for_dead_says_so(tmp_path):
    folder = tmp_path / "workers"
    lost = pytest.raises(LostError, match="what this worker of the search tried")
    with Worker(folder) as other, lost, Worker(folder, 30.0) as worker:
        other.forget(worker.name)
        raise KeyboardInterrupt  # which the lease's thread sends


def test_a_long_wait_for_a_turn_is_said_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(loop, "LONG_TURN", 0.1)
    first, second = (Worker(tmp_path / "workers") for _ in range(2))
    with first.alone():
        waiting = threading.Thread(target=lambda: second.alone().__enter__())
        waiting.start()
        waiting.join(0.5)
        assert waiting.is_alive()
    waiting.join(60)
    assert capsys.readouterr().out.count("another worker of this search takes its trials") == 1


# --- stored studies --------------------------------------------------------------------------------------------------

OLD = Path(__file__).parent / "data" / "optuna2.sql"
"""A database that Fairloop 0.x wrote with hydra-optuna-sweeper 1.3.0 and optuna 2.10.1: two trials and a killed one."""


def old_search(tmp_path, *more):
    return read_search(
        ["hydra/sweeper=fairloop_optuna", "study=fair_gender", "objective=perplexity/value",
         "debias.lambda_r=tag(log,interval(0.1,10))", "debias.alignment.enabled=choice(true,false)",
         "debias.steps=range(10,50)", f"runs_dir={tmp_path}", *more], None
    )  # fmt: skip


def old_database(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(path) as database:
        database.executescript(OLD.read_text())
    database.close()


def test_a_study_of_before_goes_on_under_its_name_and_its_file_stays(tmp_path, capsys):
    former = tmp_path / ".sweeps" / "optuna.db"
    old_database(former)
    content = former.read_bytes()
    with composition.composer():
        search = old_search(tmp_path)
        study = open_study(search)
        assert [(trial.state, trial.values) for trial in trials_of(study)] == [
            ("complete", (0.6824078427098833,)), ("complete", (1.1965675305120032,)), ("at work", ()),
        ]  # fmt: skip
        loop._propose_lost_again(study, Worker(tmp_path / "workers"))
        trial = study.ask(search.distributions)
        assert trial.params == {
            "debias.alignment.enabled": True, "debias.lambda_r": 0.6216342697722395, "debias.steps": 38,
        }  # fmt: skip
        assert len(open_study(search).get_trials()) == 4  # taken over once
    assert former.read_bytes() == content
    assert capsys.readouterr().out.count("taken over") == 1


def test_an_old_database_that_is_named_is_refused_with_the_command_that_upgrades_it(tmp_path):
    old_database(tmp_path / "a.db")
    with composition.composer():
        search = old_search(tmp_path, f"hydra.sweeper.storage=sqlite:///{tmp_path}/a.db")
    with pytest.raises(UserError, match=rf"optuna storage upgrade --storage sqlite:///{tmp_path}/a.db"):
        open_study(search)
    (tmp_path / ".sweeps").mkdir()
    (tmp_path / ".sweeps" / "optuna.db").write_text("spoilt, and long enough to be looked at")
    with composition.composer(), pytest.raises(UserError, match=r"optuna\.db: .*remove it"):
        open_study(old_search(tmp_path))


def test_a_named_study_that_searched_something_else_is_refused(searching):
    mine = "hydra.sweeper.study_name=mine"
    searched(searching(mine, "hydra.sweeper.n_trials=1"))
    with pytest.raises(UserError, match=r"hydra\.sweeper\.direction=maximize: .*minimize"):
        open_study(searching(mine, "hydra.sweeper.direction=maximize"))
    with pytest.raises(UserError, match=r"study_name=mine: that study searched initial_bias\.level$"):
        open_study(searching(mine, space=["seed=range(0,9)"]))
    with pytest.raises(UserError, match=r"study_name=mine: that study searched initial_bias\.level as Float"):
        open_study(searching(mine, space=["initial_bias.level=choice(0.1,0.2)"]))


def test_half_a_line_at_a_journals_end_is_taken_away(searching, tmp_path, capsys):
    search = searching("hydra.sweeper.n_trials=1")
    searched(search)
    journal = tmp_path / "runs" / "optuna.log"
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code":5,"wor')
    assert len(trials_of(open_study(search))) == 1
    assert journal.read_bytes().startswith(whole + b'{"op_code":0,')
    assert "half a line" in capsys.readouterr().err
