"""Scores of evaluated models, and published ones of the same model beside them."""

import csv
import io
import json
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from fairloop.report.cli import show_report
from fairloop.report.evaluate import benchmark_table
from fairloop.report.page import other_studies
from fairloop.report.read import read_runs
from fairloop.report.write import write_report


def make_cell(runs_dir, name, path, benchmark, measures, plm="bert_base"):
    """Write a finished cell of the study evaluate."""
    folder = Path(runs_dir) / "evaluate" / name
    folder.mkdir(parents=True)
    config = {"study": {"name": "evaluate"}, "plm": {"name": plm, "path": path}, "benchmark": benchmark, "seed": 0}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["generation", "metric", "value", "low", "high", "n"])
        writer.writerows(["", metric, value, value - 2, value + 2, 1508] for metric, value in measures.items())
    (folder / "result.json").write_text(json.dumps(measures))
    (folder / "status.json").write_text(json.dumps({"status": "complete"}))


CROWS = {
    "crows_pairs/gender/score": 58.0,
    "crows_pairs/overall/score": 60.5,
    "crows_pairs/overall/ties": 1.0,
    "crows_pairs/age/score": 55.0,
}


def table(runs_dir):
    return benchmark_table(read_runs(runs_dir).cells)


def test_published_scores_stand_beside_the_measured_model(tmp_path):
    make_cell(tmp_path, "a", "google-bert/bert-base-uncased", {"name": "crows_pairs", "protocol": "meade2022"}, CROWS)
    shown = {row[1]: row[2:] for row in table(tmp_path).rows}
    # Meade et al. 2022, table of CrowS-Pairs: BERT 60.81 overall and 57.25 for gender.
    assert shown["crows_pairs/overall/score"] == ("60.50 [58.5, 62.5]", "60.81")
    assert shown["crows_pairs/gender/score"] == ("58.00 [56.0, 60.0]", "57.25")
    assert "crows_pairs/overall/ties" not in shown
    assert "crows_pairs/age/score" not in shown
    assert "Meade et al. 2022" in table(tmp_path).note


def test_another_protocol_or_model_has_nothing_beside_it(tmp_path):
    make_cell(tmp_path, "a", "google-bert/bert-base-uncased", {"name": "crows_pairs", "protocol": "nangia2020"}, CROWS)
    make_cell(tmp_path, "b", "embedded:minilm", {"name": "crows_pairs", "protocol": "meade2022"}, CROWS, "minilm")
    rows = table(tmp_path).rows
    assert {row[0] for row in rows} == {"bert_base, nangia2020, seed 0", "minilm, meade2022, seed 0"}
    assert {row[3] for row in rows} == {"–"}
    assert "Published" not in table(tmp_path).note


def test_a_debiased_model_is_found_by_the_publications_name(tmp_path):
    benchmark = {"name": "stereoset"}
    make_cell(tmp_path, "a", "./models/cda", benchmark, {"stereoset/gender/ss": 59.0}, "BERT + CDA (Ensemble)")
    (row,) = table(tmp_path).rows
    assert row[1] == "stereoset/gender/ss"
    assert float(row[3]) == pytest.approx(59.61)


def test_terminal_and_page_show_it(tmp_path):
    make_cell(tmp_path, "a", "google-bert/bert-base-uncased", {"name": "crows_pairs", "protocol": "meade2022"}, CROWS)
    stream = io.StringIO()
    show_report(tmp_path, console=Console(file=stream, width=120, highlight=False))
    assert "60.81" in stream.getvalue()
    assert "Cells of other studies" not in stream.getvalue()
    page = write_report(tmp_path, tmp_path / "out").page.read_text()
    assert "60.81" in page
    assert other_studies(read_runs(tmp_path).cells)[1] is None
