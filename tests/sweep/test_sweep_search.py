"""A search: mistakes found before it starts, and a stored study that goes on after a kill."""

import json
from types import SimpleNamespace

import pytest

from fairloop import composition
from fairloop.app import run_search
from fairloop.errors import UserError
from fairloop.sweep.search import Search, objective_value, prepare, read_search, stored, trials_of

optuna = pytest.importorskip("optuna")

SEARCH = ["hydra/sweeper=fairloop_optuna", "study=fair_gender", "objective=perplexity/value"]
RANGE = "debias.lambda_r=interval(0.1,10)"


def read(*overrides):
    with composition.composer():
        return read_search([*SEARCH, *overrides], None)


def test_the_search_knows_its_space_and_keeps_its_name():
    one = read(RANGE, "seed=choice(0,1)")
    assert one.space == {"debias.lambda_r": "interval(0.1,10)", "seed": "choice(0,1)"}
    assert one.direction == "minimize"
    assert one.base.objective == "perplexity/value"
    # The same command in another order, with more trials or in another store is the same search; another range is not.
    same = read("seed=choice(0,1)", RANGE, "hydra.sweeper.n_trials=50", "runs_dir=elsewhere")
    assert same.study_name == one.study_name
    assert same.storage == "sqlite:///elsewhere/.sweeps/optuna.db"
    others = [
        read("debias.lambda_r=interval(0.1,20)", "seed=choice(0,1)"),
        read(RANGE, "seed=choice(0,1)", "debias.pairs=50"),
        read(RANGE, "seed=choice(0,1)", "hydra.sweeper.direction=maximize"),
    ]
    assert len({other.study_name for other in [one, *others]}) == 4
    assert read(RANGE, "hydra.sweeper.study_name=mine").study_name == "mine"


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ([], ["nothing to search"]),
        ([RANGE, "objective=null"], ["objective=null", "result.json"]),
        (["debias.lambda_r=interval(-1,10)"], ["debias.lambda_r=-1", "at least 0"]),
        (["debias.lambda_r=choice(1,2,-3)"], ["debias.lambda_r=-3"]),
        (["debias.steps=range(0,50)", RANGE], ["debias.steps=0"]),
        (["debias.lamda_r=interval(0,1)"], ["debias.lamda_r", "unknown key"]),
        ([RANGE, "hydra.sweeper.n_trials=0"], ["hydra.sweeper.n_trials=0", "at least 1"]),
        ([RANGE, "hydra.sweeper.direction=sideways"], ["hydra.sweeper.direction=sideways", "maximize"]),
    ],
)
def test_a_mistake_in_a_search_is_one_line(overrides, named):
    with pytest.raises(UserError) as raised:
        read(*overrides)
    for part in named:
        assert part in str(raised.value)
    assert "\n" not in str(raised.value)


class Begun(Exception):
    """The checks before a search are passed."""


@pytest.mark.parametrize(
    ("launcher", "expected"), [("basic", UserError), ("fairloop_joblib", UserError), ("fairloop_slurm", Begun)]
)
def test_devices_are_those_of_the_machine_that_the_launcher_uses(monkeypatch, launcher, expected):
    monkeypatch.setattr("fairloop.config.may_have_gpu", lambda: False)
    monkeypatch.setattr("fairloop.app.stored", lambda _: (_ for _ in ()).throw(Begun))
    choices = [RANGE, "plm=minilm", "trainer.accelerator=gpu", f"hydra/launcher={launcher}"]
    with composition.composer():
        search = read_search([*SEARCH, *choices], None)
        with pytest.raises(expected):
            run_search(search)


def test_the_objective_must_be_a_number_of_the_result(tmp_path):
    (tmp_path / "result.json").write_text(json.dumps({"rule/bias": 0.5, "rule/none": None}))
    assert objective_value(tmp_path, "rule/bias") == 0.5
    with pytest.raises(UserError, match="did you mean rule/bias"):
        objective_value(tmp_path, "rule/bia")
    with pytest.raises(UserError, match="defined"):
        objective_value(tmp_path, "rule/none")


@pytest.fixture
def search(tmp_path):
    sweeper = SimpleNamespace(
        study_name="mine", storage=f"sqlite:///{tmp_path}/deep/a.db", direction="minimize", n_trials=4,
        sampler={"seed": 3},
    )  # fmt: skip
    base = SimpleNamespace(runs_dir=str(tmp_path / "runs"), retry_failed=True, objective="a/b")
    return Search(base, {"x": "interval(0,1)"}, (), sweeper)


def ask(study):
    trial = study.ask()
    trial.suggest_float("x", 0, 1)
    return trial


def test_what_a_killed_command_was_trying_is_tried_first(search):
    with stored(search) as study:
        assert "hydra.sweeper.n_trials=4" in prepare(study, search)
        study.tell(ask(study), 0.7)
        lost = ask(study).params  # killed here
    with stored(search) as study:
        overrides = prepare(study, search)
        assert "hydra.sweeper.n_trials=3" in overrides
        assert "hydra.sweeper.sampler.seed=5" in overrides  # 3 + two trials: no proposal is repeated
        again = prepare(study, search)  # killed once more before it asked: the proposal is not there twice
        assert again == overrides or "hydra.sweeper.n_trials=3" in again
        first = ask(study)
        assert first.params == lost
        study.tell(first, 0.5)
        second = ask(study)
        assert second.params != lost
        study.tell(second, 0.4)
        assert [trial.value for trial in trials_of(study)] == [0.7, 0.5, 0.4]
        study.tell(ask(study), 0.3)
        assert prepare(study, search) == []


def test_a_failed_trial_is_tried_again_or_left(search):
    from optuna.trial import TrialState

    with stored(search) as study:
        failed = ask(study)
        study.tell(failed, state=TrialState.FAIL)
        search.base.retry_failed = False
        prepare(study, search)
        assert not study.get_trials(states=(TrialState.WAITING,))
        search.base.retry_failed = True
        prepare(study, search)
        trial = ask(study)
        assert trial.params == failed.params
        assert [(one.state, one.value) for one in trials_of(study)] == [("failed", None)]
        study.tell(trial, 0.2)
        assert [(one.state, one.value) for one in trials_of(study)] == [("complete", 0.2)]


def test_a_stored_study_keeps_its_direction(search):
    with stored(search):
        pass
    search.sweeper.direction = "maximize"
    with pytest.raises(UserError, match=r"hydra\.sweeper\.direction=maximize"), stored(search):
        pass
