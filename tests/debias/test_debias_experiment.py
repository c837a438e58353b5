"""The numbers of experiments/fair_gender are those of its CSV files."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fairloop.sweep.tuning import read_tuning, trials_of

FOLDER = Path(__file__).parents[2] / "experiments" / "fair_gender"


def script(name):
    found = importlib.util.spec_from_file_location(f"fair_gender_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_every_table_is_in_the_readme_and_the_readme_has_no_other():
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    printed = ["\n".join(lines) for lines in script("tables").all_tables()]
    assert [lines for lines in printed if lines not in page] == []
    assert page.count("\n| ---") == len(printed)


def test_the_summary_of_effects_is_that_of_its_steps():
    """Recomputed with pandas: Spearman as Pearson of the ranks, errors and shares by hand."""
    steps, summary = pd.read_csv(FOLDER / "effects.csv"), pd.read_csv(FOLDER / "effects_summary.csv")
    alone = steps[steps["size"] == 1].set_index("pairs")
    for _, row in summary.iterrows():
        some = steps[steps["size"] == row["size"]]
        assert row["groups"] == len(some)
        for name in ("influence", "mean_of_pairs", "knn", "output_layer"):
            if len(some) > 3 and some[name].notna().all():
                expected = some[name].rank().corr(some["really"].rank())
                assert row[f"spearman_{name}"] == pytest.approx(expected, abs=1e-5)
        assert row["mean_effect"] == pytest.approx(some["really"].mean(), rel=1e-4)
        assert row["mean_standard_error"] == pytest.approx(some["standard_error"].mean(), rel=1e-4)
        assert row["beyond_two_errors"] == pytest.approx(
            (some["really"].abs() > 2 * some["standard_error"]).mean(), abs=1e-5
        )
    assert (alone["mean_of_pairs"] == alone["influence"]).all()


def test_influence_ranks_single_pairs_as_really_taken_steps_do():
    steps = pd.read_csv(FOLDER / "effects.csv")
    alone = steps[steps["size"] == 1]
    assert len(alone) >= 100
    assert alone["influence"].rank().corr(alone["really"].rank()) >= 0.9
    assert alone["knn"].rank().corr(alone["really"].rank()) < 0.5


def test_the_trials_are_those_of_the_file_and_one_of_each_method_is_chosen():
    trials = pd.read_csv(FOLDER / "tuned" / "trials.csv")
    tuning = read_tuning(FOLDER / "tuning_reduced.yaml")
    expected = {(one.method, one.number): dict(one.settings) for one in trials_of(tuning)}
    for _, row in trials.iterrows():
        assert json.loads(row["settings"]) == expected[row["method"], row["trial"]]
    assert len(trials) == len(expected)
    chosen = trials[trials["chosen"] == 1].set_index("method")["trial"].to_dict()
    written = json.loads((FOLDER / "tuned" / "chosen.json").read_text())["chosen"]
    assert chosen == {method: settings["trial"] for method, settings in written.items()}
    best = trials.sort_values(["excess", "bias"]).groupby("method")["trial"].first().to_dict()
    assert chosen == best
    np.testing.assert_allclose(trials["bias"], trials[list(tuning.bias)].mean(axis=1))
    assert read_tuning(FOLDER / "tuning.yaml").each == 8
