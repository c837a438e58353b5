"""The flags of `fairloop`: in any place and order, Fairloop's own answers, and sweeps expanded as Hydra does."""

import importlib
import itertools
import time
import tomllib
from pathlib import Path

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from omegaconf import OmegaConf

import fairloop
from fairloop import composition
from fairloop.app import command
from fairloop.errors import UserError


@pytest.mark.parametrize("words", list(itertools.permutations(["-m", "initial_bias=high", "seed=0,1"])))
@pytest.mark.parametrize("flag", ["-m", "--multirun"])
def test_a_sweep_is_one_wherever_its_flag_stands(words, flag):
    flags = composition.parse_arguments([flag if word == "-m" else word for word in words])
    assert flags.multirun
    assert flags.overrides == [word for word in words if word != "-m"]


def test_flags_and_overrides_in_any_order_are_one_command():
    flags = composition.parse_arguments(["seed=3", "-p", "study", "a=1", "-c", "job", "b=2", "--config-dir", "more"])
    assert composition.flag_words(flags) == [
        "--config-dir", "more", "--cfg", "job", "--package", "study", "seed=3", "a=1", "b=2",
    ]  # fmt: skip


@pytest.mark.parametrize("names", list(composition.WITHOUT_EFFECT))
def test_a_flag_without_effect_is_answered_with_and_without_a_value(names):
    for words in ([names[-1]], [names[0], "x"], ["seed=1", names[0]]):
        with pytest.raises(UserError, match=f"^{names[0]}: has no effect"):
            composition.parse_arguments(words)


def test_the_version_is_fairloops(capsys):
    assert command(["--version"]) == 0
    assert capsys.readouterr().out == f"fairloop {fairloop.__version__}\n"


def test_help_lists_every_flag_and_the_choices_of_another_folder(capsys, tmp_path):
    (tmp_path / "initial_bias").mkdir()
    (tmp_path / "initial_bias" / "mine.yaml").write_text("level: 0.77\n")
    assert command(["initial_bias=mine", "--config-dir", str(tmp_path), "-h"]) == 0
    said = " ".join(capsys.readouterr().out.split())  # long lines are wrapped
    assert "level: 0.77" in said
    for names, (what, _) in composition.FLAGS.items():
        assert f"{','.join(names)} : {what} " in said


def test_printing_takes_flags_behind_overrides(capsys):
    assert command(["seed=3", "study.sentences=9", "--package", "study.sentences", "--cfg", "job"]) == 0
    assert capsys.readouterr().out == "9\n"


SWEEPS = [
    ["seed=0,1", "initial_bias=low,high"],
    ["seed=range(3)", "initial_bias=glob(*)"],
    ["seed=1", "seed=2,3"],
    ["model.temperature=choice(0.5,1)", "~plm.revision", "+mitigation.prompt.instruction='a, b'"],
    ["mitigation=[prompt,augment],none", "seed=shuffle(0,1)"],
    ["seed=5"],
]


@pytest.mark.parametrize("overrides", SWEEPS, ids=" ".join)
def test_a_sweep_is_expanded_as_hydras_own_sweeper_does(overrides):
    with composition.composer():
        loader = composition.GlobalHydra.instance().config_loader()
        expected = BasicSweeper.split_arguments(composition.parse_overrides(overrides, loader), max_batch_size=None)[0]
        found = composition.expand_sweep(overrides, OmegaConf.create({"seed": "7,8"}))
        if not any(line.startswith("seed") for line in overrides):
            expected = [[f"seed={seed}", *line] for seed in (7, 8) for line in expected]
        key = lambda line: sorted(line)  # noqa: E731 - shuffle() draws anew, and params come first
        assert sorted(map(key, found)) == sorted(map(key, expected))


HARMFUL = {
    "an empty range": ("seed=range(5,0)", "seed=range(5,0): has no values"),
    "a range without steps": ("seed=range(0,1,0)", "seed=range(0,1,0): has no values"),
    "a pattern of no group": ("seed=glob(*)", "seed=glob(*): has no values"),
    "a range of too many": ("seed=range(0,200000)", "more than 20000 values"),
    "an endless range": ("seed=range(0,1000000000000)", "more than 20000 values"),
    "a long key": ("a" * 100_000 + "=1", "100002 characters; an override has at most 20000"),
    "a deep dictionary": ("seed=" + "{a:" * 200 + "1" + "}" * 200, "an override has at most 100 brackets"),
    "many digits": ("seed=" + "9" * 5000, "not of the form key=value"),
    "no key": ("=1", "=1: not of the form key=value"),
    "nothing added": ("+=", "+=: not of the form key=value"),
    "a character that is none": ("seed=\U000101fe", "seed=\\U000101fe: not of the form"),
    "an escape sequence": ("a\x1b[31m=1", "a\\x1b[31m=1: not of the form key=value"),
}


@pytest.mark.parametrize(("override", "says"), HARMFUL.values(), ids=HARMFUL.keys())
def test_a_harmful_override_gets_one_line_at_once(override, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    began = time.monotonic()
    assert command(["-m", override, "tracking=none"]) == 2
    assert time.monotonic() - began < 20
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert says in line
    assert len(line) < 2200
    assert not list(tmp_path.iterdir())


OTHERS = {
    "fairloop-report": "fairloop.report.cli:command",
    "fairloop-data": "fairloop.benchmarks.data_command:main",
    "fairloop-pairs": "fairloop.report.pairs.command:command",
    "fairloop-models": "fairloop.plm.models_command:main",
    "fairloop-labels": "fairloop.corpus.quality:main",
    "fairloop-tune": "fairloop.sweep.tune_command:command",
    "fairloop-wandb": "fairloop.report.wandb.command:command",
}


@pytest.mark.parametrize("words", [["x", "--nope\x1b[31m"], ["--nope\u202e=1", "x"]])
@pytest.mark.parametrize(("name", "place"), [("fairloop", "fairloop.app:command"), *OTHERS.items()])
def test_an_unknown_flag_of_any_command_gets_one_line_without_control_characters(name, place, words, capsys):
    module, _, function = place.partition(":")
    assert getattr(importlib.import_module(module), function)(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith(f"{name}: unknown flag --nope\\")
    assert line.endswith(f"`{name} --help` lists the flags")
    assert line.isprintable()


def test_the_eight_commands_are_those_that_are_installed():
    with (Path(fairloop.__file__).parents[2] / "pyproject.toml").open("rb") as file:
        scripts = tomllib.load(file)["project"]["scripts"]
    assert scripts == {"fairloop": "fairloop.app:command", **OTHERS}


def test_the_help_fits_eighty_columns(capsys):
    assert command(["--help"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["study.sentense=3"], "did you mean study.sentences?"),
        (["study=fair_gender", "study.sentense=3"], "unknown key;"),
        (["study=evaluate", "study.generations=3"], "unknown key;"),
        (
            ["study=fair_gender", "ablation=[nope]"],
            "ablation=nope: no such choice; allowed: alone, filter_influence, filter_random, full, ",
        ),
        (["study.metrics={a:1}"], "study.metrics={a:1}: allowed is a list"),
        (["mitigation=5", "seed=3"], "mitigation=5: a config group needs one of its choices"),
        (["model.revision=12e4567"], "model.revision=inf: allowed is text or null"),
        (["model.revision=500"], "is text within two kinds of quotes: model.revision=\"'…'\""),
        (["plm.revision=true"], "is text within two kinds of quotes: plm.revision=\"'…'\""),
    ],
)
def test_a_hint_holds_for_what_was_chosen(words, says, capsys):
    assert command(words) == 2
    assert says in capsys.readouterr().err


def test_what_the_hint_says_of_quotes_is_so():
    with composition.composer():
        composed = composition.compose_config(["model.revision='12e4567'"])
    assert composed.model.revision == "12e4567"


def test_a_product_of_too_many_cells_is_refused_before_it_is_made(capsys):
    assert command(["-m", "seed=range(0,2000)", "initial_bias.level=range(0,2000)"]) == 2
    assert "4000000 cells; one command takes at most 20000" in capsys.readouterr().err


def test_a_pattern_stands_for_the_choices_of_its_group():
    with composition.composer():
        found = composition.expand_sweep(["initial_bias=glob(*)", "seed=range(0,2)"], None)
        assert sorted(found) == sorted(
            [f"initial_bias={name}", f"seed={seed}"] for name in composition.options_of("initial_bias") for seed in "01"
        )


def test_a_runs_dir_that_no_file_system_takes(capsys):
    assert command(["runs_dir=/tmp/" + "x" * 300, "tracking=none"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("fairloop: runs_dir=")
