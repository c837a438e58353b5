"""The committed experiment, analysed with the present rules, is what its tables and its README say."""

import csv
import io
import runpy
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "experiments" / "equilibrium"


def rows(text):
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture(scope="module")
def tables():
    return runpy.run_path(str(FOLDER / "reanalysis.py"))["tables"]()


def test_the_committed_tables_are_those_of_the_code(tables):
    for name, text in tables.items():
        committed, again = rows((FOLDER / name).read_text()), rows(text)
        assert len(committed) == len(again)
        for one, other in zip(committed, again, strict=True):
            assert one.keys() == other.keys()
            for key, value in one.items():
                try:
                    assert float(other[key]) == pytest.approx(float(value), rel=1e-6, abs=1e-9), (name, key)
                except ValueError:
                    assert other[key] == value, (name, key)


def test_the_readmes_figures_are_those_of_the_table(tables):
    said = (FOLDER / "README.md").read_text().replace("−", "-")
    for row in rows(tables["equilibrium_reanalysed.csv"]):
        assert row["verdict"] == "undecided"
        if row["metric"] == "rule/net_stereotype_rate":
            trend, low, high = (f"{float(row['trend' + end]):+.3f}" for end in ("", ":low", ":high"))
            assert f"{trend} [{low}, {high}]" in said, row["mitigation"]
