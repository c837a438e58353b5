"""Fair-Gender's changes, tested again by the report's analysis of today, from the tables of an older report."""

import csv
import importlib.util
import io

import pytest
from readme_tables import EXPERIMENTS, one, read

from fairloop.report.fair_gender.tables import ablation_csv, debiasing_csv

HEADLINE, WORDS = "heldout_templates/mean_abs_log_odds", "heldout_templates/attribute_words"


def test_fair_genders_changes_tested_again_from_its_own_tables():
    """What `figures.py` writes is what is committed; what the README says of it stands in it."""
    spec = importlib.util.spec_from_file_location("figures", EXPERIMENTS / "fair_gender" / "figures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    ablated = ablation_csv([module.ablation_of("debias_methods.csv", "ablation.csv")])
    methods = debiasing_csv([module.methods_of("baselines.csv")])
    for text, name in ((ablated, "ablation_reanalysed.csv"), (methods, "baselines_reanalysed.csv")):
        for row, committed in zip(csv.DictReader(io.StringIO(text)), read(f"fair_gender/{name}"), strict=True):
            for key, value in committed.items():
                if key in ("p", "p_holm") and value:
                    assert float(row[key]) == pytest.approx(float(value), rel=1e-6, abs=1e-12)
                else:
                    assert row[key] == value
    page = " ".join((EXPERIMENTS / "fair_gender" / "README.md").read_text(encoding="utf-8").split())
    rows = read("fair_gender/ablation_reanalysed.csv")
    least = min(rows, key=lambda row: float(row["p_holm"]))
    assert (least["variant"], least["metric"]) == ("fair_gender, 200 pairs", WORDS)
    assert (
        f"Of the ablation's {len(rows)} changes none remains**: the least of Holm's p is {float(least['p_holm']):.2f}"
        in page
    )
    own = {
        metric: float(one("fair_gender/baselines_reanalysed.csv", variant="fair_gender", metric=metric)["p_holm"])
        for metric in ("winobias/overall/gap", "lpbs/gap", HEADLINE)
    }
    gap, lpbs, headline = own.values()
    assert f"Holm's p {gap:.2f} for WinoBias' gap, {lpbs:.2f} for LPBS, {headline:.2f} for the headline" in page
    passed = [
        row
        for row in read("fair_gender/baselines_reanalysed.csv")
        if row["variant"] == "sentence_debias"
        and row["kind"] == "bias"
        and row["p_holm"]
        and float(row["p_holm"]) < 0.05
    ]
    assert len(passed) == 6
