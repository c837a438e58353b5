"""A search: what it is, and the mistakes that are found before it starts."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from fairloop import composition
from fairloop.app import command, run_search
from fairloop.errors import UserError
from fairloop.packages import installer
from fairloop.sweep import launch
from fairloop.sweep.search import check, objective_values, read_search
from fairloop.sweep.study_storage import open_study

optuna = pytest.importorskip("optuna")

SEARCH = ["hydra/sweeper=fairloop_optuna", "study=fair_gender", "objective=perplexity/value"]
RANGE = "debias.lambda_r=interval(0.1,10)"


def read(*overrides):
    with composition.composer():
        return read_search([*SEARCH, *overrides], None)


def test_the_search_knows_its_space_and_keeps_its_name():
    one = read(RANGE, "seed=choice(0,1)")
    assert one.space == {"debias.lambda_r": "interval(0.1,10)", "seed": "choice(0,1)"}
    assert (one.objectives, one.directions) == (("perplexity/value",), ("minimize",))
    # The same command in another order, with more trials or in another store is the same search; another range is not.
    same = read("seed=choice(0,1)", RANGE, "hydra.sweeper.n_trials=50", "runs_dir=elsewhere")
    assert same.study_name == one.study_name
    assert same.sweeper["storage"] == "journal:///elsewhere/.sweeps/optuna.log"
    others = [
        read("debias.lambda_r=interval(0.1,20)", "seed=choice(0,1)"),
        read(RANGE, "seed=choice(0,1)", "debias.pairs=50"),
        read(RANGE, "seed=choice(0,1)", "hydra.sweeper.direction=maximize"),
        read(RANGE, "seed=choice(0,1)", "objective=[perplexity/value,glue/mean]"),
    ]
    assert len({other.study_name for other in [one, *others]}) == 5
    # Nothing said: each objective goes the way in which it is better.
    assert others[-1].directions == ("minimize", "maximize")
    assert read(RANGE, "hydra.sweeper.study_name=mine").study_name == "mine"


def test_ranges_are_optunas_distributions():
    found = read(
        RANGE, "seed=range(0,10,3)", "debias.learning_rate=tag(log,interval(1e-5,1e-3))",
        "debias.steps=int(interval(1,9))", "debias.causal=choice(knn,none,influence)",
    ).distributions  # fmt: skip
    kinds = optuna.distributions
    assert found == {
        "debias.lambda_r": kinds.FloatDistribution(0.1, 10),
        "seed": kinds.IntDistribution(0, 9, step=3),  # a range of Hydra's ends before its end
        "debias.learning_rate": kinds.FloatDistribution(1e-5, 1e-3, log=True),
        "debias.steps": kinds.IntDistribution(1, 9),
        "debias.causal": kinds.CategoricalDistribution(("knn", "none", "influence")),
    }


def test_a_grid_has_every_combination_in_order_and_no_more_trials():
    grid = read("debias.causal=choice(knn,none)", "seed=range(0,5,2)", "hydra/sweeper/sampler=grid")
    points = [{"debias.causal": causal, "seed": seed} for causal in ("knn", "none") for seed in (0, 2, 4)]
    assert grid.grid == points
    assert grid.n_trials == 6


CMAES = "hydra/sweeper/sampler=cmaes"
MEDIAN = "hydra/sweeper/pruner=median"


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ([], ["nothing to search"]),
        ([RANGE, "objective=null"], ["objective=null", "result.json"]),
        ([RANGE, "objective=[]"], ["objective=[]", "at least 1"]),
        (["debias.lambda_r=interval(-1,10)"], ["debias.lambda_r=-1", "at least 0"]),
        (["debias.lambda_r=interval(10,1)"], ["debias.lambda_r=interval(10,1)", "not a range"]),
        (["debias.lambda_r=choice(1,2,-3)"], ["debias.lambda_r=-3"]),
        (["debias.steps=range(0,50)", RANGE], ["debias.steps=0"]),
        (["debias.steps=range(5,5)", RANGE], ["debias.steps=range(5,5)", "no values"]),
        (["debias.lamda_r=interval(0,1)"], ["debias.lamda_r", "unknown key"]),
        ([RANGE, "hydra/sweeper/sampler=gibbs"], ["hydra/sweeper/sampler=gibbs", "cmaes, grid", "tpe"]),
        ([RANGE, "hydra.sweeper.max_failure_rate=1"], ["hydra.sweeper.max_failure_rate=1", "unknown key"]),
        ([RANGE, "seed=range(0,9)", CMAES, "objective=[a/b,c/d]"], [CMAES, "one objective"]),
        ([RANGE, "hydra/sweeper/sampler=grid"], [RANGE, "choice(...) and range(...)"]),
    ],
)  # fmt: skip
def test_a_mistake_in_a_search_is_one_line(overrides, named):
    with pytest.raises(UserError) as raised:
        read(*overrides)
    for part in named:
        assert part in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.fixture(scope="module")
def sound():
    return read(RANGE)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"n_trials": 0}, ["hydra.sweeper.n_trials=0", "at least 1"]),
        ({"n_jobs": True}, ["hydra.sweeper.n_jobs=True", "at least 1"]),
        ({"direction": "sideways"}, ["hydra.sweeper.direction=sideways", "maximize"]),
        ({"direction": ["minimize", "maximize"]}, ["hydra.sweeper.direction=[minimize,maximize]"]),
        ({"sampler": {"_target_": "os.system"}}, ["sampler._target_=os.system", "optuna.samplers", "tpe"]),
        (
            {"sampler": {"_target_": "optuna.samplers.TPESampler", "speed": 3}},
            ["hydra.sweeper.sampler={", "speed:3", "TPESampler"],
        ),
        ({"sampler": {"_target_": "optuna.samplers.CmaEsSampler"}}, [CMAES, "two numeric ranges"]),
        ({"pruner": {"_target_": "optuna.pruners.MedianPruner"}}, ["hydra/sweeper/pruner", "study=recursion"]),
    ],
)
def test_a_mistake_in_the_sweepers_own_settings_is_one_line(sound, changed, named):
    with pytest.raises(UserError) as raised:
        check(replace(sound, sweeper={**sound.sweeper, **changed}))
    for part in named:
        assert part in str(raised.value)


def test_a_pruner_needs_one_measure_of_a_generation():
    recursion = ["hydra/sweeper=fairloop_optuna", "initial_bias.level=interval(0,1)", MEDIAN]
    with composition.composer():
        for objective, named in (("a/b", "generation's measure"), ("[a/b@1,c/d@1]", "one objective")):
            with pytest.raises(UserError, match=named):
                read_search([*recursion, f"objective={objective}"], None)
        assert read_search([*recursion, "objective=a/b@1"], None).prunes


@pytest.mark.parametrize(
    ("storage", "named"),
    [
        ("nonsense", ["journal:///FILE", "sqlite:///FILE"]),
        ("oracle9://host/name", ["journal:///FILE"]),
        ("postgresql+pg8000://me:secret@host/name", ["postgresql+pg8000://me:***@host/name", "driver pg8000", "pip"]),
        ("sqlite:////dev/null/deep/a.db", ["sqlite:////dev/null/deep/a.db", "opens"]),
        ("sqlite:///broken.db", ["not a database"]),
        ("journal:////dev/null/deep/a.log", ["opens"]),
        ("journal:///folder", ["opens"]),
        ("journal:///broken.log", ["a journal of Optuna"]),
        ("journal:///other.log", ["a journal of Optuna"]),
    ],
)
def test_a_storage_that_does_not_open_is_one_line(sound, storage, named, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    for name, content in (
        ("broken.db", "x" * 999),
        ("broken.log", "{half\nof\nit\n"),
        ("other.log", '{"op_code":99}\n'),
    ):
        (tmp_path / name).write_text(content)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UserError) as raised:
        open_study(replace(sound, sweeper={**sound.sweeper, "storage": storage}))
    line = str(raised.value)
    assert line.startswith("hydra.sweeper.storage=")
    assert "secret" not in line
    for part in named:
        assert part in line
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("storage", "module", "named"),
    [
        ("postgresql+psycopg://me@host/name", "psycopg", "needs the driver psycopg: {} 'psycopg[binary]'"),
        ("postgresql+psycopg2://me@host/name", "psycopg2", "needs the driver psycopg2: {} psycopg2-binary"),
        ("mysql+mysqldb://me@host/name", "MySQLdb", "needs the driver mysqldb: {} mysqlclient"),
    ],
)
@pytest.mark.parametrize("broken", [False, True])
def test_the_package_that_brings_a_driver_is_named(sound, storage, module, named, broken, tmp_path, monkeypatch):
    """Also where the driver is there and its library is not, as psycopg's libpq."""
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    if broken:
        (tmp_path / f"{module}.py").write_text("raise ImportError('no library\\nfound: try this or that')")
        monkeypatch.delitem(sys.modules, module)
        monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError) as raised:
        open_study(replace(sound, sweeper={**sound.sweeper, "storage": storage}))
    assert str(raised.value) == f"hydra.sweeper.storage={storage}: {named.format(installer())}"


def test_a_command_with_such_a_storage_computes_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert command(["-m", *SEARCH, RANGE, "plm=minilm", "hydra.sweeper.storage=nonsense", "tracking=none"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("fairloop: hydra.sweeper.storage=nonsense: journal:///FILE")
    assert list(tmp_path.iterdir()) == []


def test_without_optuna_a_search_is_one_line(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launch, "is_installed", lambda module: module != "optuna")
    assert command(["-m", *SEARCH, RANGE]) == 2
    assert "needs optuna, of the extra optuna: " in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    code = "import fairloop.app, sys; assert not {'optuna', 'sqlalchemy', 'cmaes'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


class Begun(Exception):
    """The checks before a search are passed."""


@pytest.mark.parametrize(
    ("launcher", "expected"), [("basic", UserError), ("fairloop_joblib", UserError), ("fairloop_slurm", Begun)]
)
def test_devices_are_those_of_the_machine_that_the_launcher_uses(monkeypatch, launcher, expected):
    monkeypatch.setattr("fairloop.config.may_have_gpu", lambda: False)
    monkeypatch.setattr(launch.slurm, "check_slurm", lambda _: None)  # the cluster is not this test's matter
    monkeypatch.setattr("fairloop.app.open_study", lambda _: (_ for _ in ()).throw(Begun))
    choices = [RANGE, "plm=minilm", "trainer.accelerator=gpu", f"hydra/launcher={launcher}"]
    with composition.composer():
        search = read_search([*SEARCH, *choices], None)
        with pytest.raises(expected):
            run_search(search)


def test_objectives_must_be_numbers_of_the_result(tmp_path):
    (tmp_path / "result.json").write_text(json.dumps({"rule/bias": 0.5, "rule/more": 1, "rule/none": None}))
    assert objective_values(tmp_path, ["rule/more", "rule/bias"]) == [1.0, 0.5]
    with pytest.raises(UserError, match="did you mean rule/bias"):
        objective_values(tmp_path, ["rule/bia"])
    with pytest.raises(UserError, match="defined"):
        objective_values(tmp_path, ["rule/none"])
