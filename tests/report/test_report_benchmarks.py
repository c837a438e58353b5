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


def make_cell(runs_dir, name, path, benchmark, measures, plm="bert_base", protocol=None):
    """Write a finished cell of the study evaluate; without a protocol one from before it was kept."""
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
    if protocol:
        (folder / "stages" / "01-scores").mkdir(parents=True)
        (folder / "stages" / "01-scores" / "outcome.json").write_text(json.dumps({"protocol": protocol}))


CROWS = {
    "crows_pairs/gender/score": 58.0,
    "crows_pairs/meade2022_overall/score": 60.7,
    "crows_pairs/overall/score": 60.5,
    "crows_pairs/overall/ties": 1.0,
    "crows_pairs/age/score": 55.0,
}


def table(runs_dir):
    return benchmark_table(read_runs(runs_dir).cells)


def test_published_scores_stand_beside_the_measured_model(tmp_path):
    make_cell(tmp_path, "a", "google-bert/bert-base-uncased", {"name": "crows_pairs", "protocol": "meade2022"}, CROWS)
    shown = {row[1]: row[2:] for row in table(tmp_path).rows}
    # Meade et al. 2022, table of CrowS-Pairs: BERT 60.81 over gender, race and religion, and 57.25 for gender.
    assert shown["crows_pairs/meade2022_overall/score"] == ("60.70 [58.7, 62.7]", "60.81")
    assert shown["crows_pairs/overall/score"] == ("60.50 [58.5, 62.5]", "–")
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
    assert "Published: " not in table(tmp_path).note
    assert "bert_base, nangia2020 (published: meade2022)" in table(tmp_path).note
    assert "crows_pairs/overall (all types; the published overall is crows_pairs/meade2022_overall)" in (
        table(tmp_path).note
    )


STEREO = {"stereoset/gender/ss": 60.0, "stereoset/meade2022_overall/ss": 58.0, "stereoset/overall/ss": 57.0}


def test_figures_of_the_test_split_stand_beside_no_score_of_the_dev_split(tmp_path):
    for split in ("dev", "test"):
        protocol = f"nadeem2021, {split} split"
        benchmark = {"name": "stereoset", "split": split}
        make_cell(tmp_path, split, "bert-base-uncased", benchmark, STEREO, protocol=protocol)
    shown = {row[:2]: row[3] for row in table(tmp_path).rows}
    assert shown == {
        ("bert_base, nadeem2021, dev split, seed 0", "stereoset/overall/ss"): "–",
        ("bert_base, nadeem2021, test split, seed 0", "stereoset/gender/ss"): "60.28",
        ("bert_base, nadeem2021, test split, seed 0", "stereoset/meade2022_overall/ss"): "57.82",
        ("bert_base, nadeem2021, test split, seed 0", "stereoset/overall/ss"): "–",
    }
    note = table(tmp_path).note
    assert note.count("Not comparable") == 1
    assert "bert_base, nadeem2021, dev split (published: nadeem2021, test split)" in note
    assert "stereoset/overall (all types" in note


def test_a_causal_model_that_keeps_its_start_token_has_no_published_figure_beside_it(tmp_path):
    make_cell(tmp_path, "a", "gpt2", {"name": "crows_pairs", "protocol": "meade2022"}, CROWS, "gpt2", "meade2022")
    make_cell(tmp_path, "b", "gpt2", {"name": "crows_pairs", "protocol": "meade2022"}, CROWS, "gpt2", "meade2022_bos")
    figures = {row[:2]: row[3] for row in table(tmp_path).rows}
    assert figures["gpt2, meade2022, seed 0", "crows_pairs/meade2022_overall/score"] == "59.22"
    assert {figure for (model, _), figure in figures.items() if "meade2022_bos" in model} == {"–"}


@pytest.mark.parametrize("damage", ["", "[]", '{"protocol": 3}', "\ufeff{"])
def test_a_damaged_outcome_leaves_the_settings_word_for_the_protocol(tmp_path, damage):
    make_cell(tmp_path, "a", "gpt2", {"name": "crows_pairs", "protocol": "meade2022"}, CROWS, "gpt2", "meade2022_bos")
    (tmp_path / "evaluate" / "a" / "stages" / "01-scores" / "outcome.json").write_text(damage)
    assert table(tmp_path).rows[0][0] == "gpt2, meade2022, seed 0"


def test_a_debiased_model_is_found_by_the_publications_name(tmp_path):
    name, protocol = "BERT + CDA (Ensemble)", "nadeem2021, test split"
    make_cell(tmp_path, "a", "./models/cda", {"name": "stereoset"}, {"stereoset/gender/ss": 59.0}, name, protocol)
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
