"""Cells are grouped by what decides their results, and a configuration that was edited since is noticed."""

import json
import os

import pytest
import yaml
from fair_gender_store import make_method
from report_store import make_cell, make_demo, write_cell

from fairloop import composition
from fairloop.errors import UserError
from fairloop.measures.measurement import Measurement
from fairloop.report.difference.changes import compare, select
from fairloop.report.fair_gender.effects import debiasings
from fairloop.report.payload import cell_data, configurations
from fairloop.report.read import read_runs
from fairloop.report.recursion.conditions import conditions
from fairloop.report.write import write_report
from fairloop.sweep.jobs import jobs_of
from fairloop.tracking.store import Cell


def change(folder, **more):
    """Change a configuration, as an older cell's that was run in other circumstances."""
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **more}, sort_keys=False))


def found(runs_dir):
    return conditions(read_runs(runs_dir).cells)


@pytest.mark.parametrize(
    "more",
    [
        {"gpu_share": 0.5},
        {"on_failure": "stop"},
        {"retry_failed": False, "objective": "downstream/bias@3"},
        {"plm": {"name": "bert_base", "path": "google-bert/bert-base-uncased"}},
        {"debias": {"name": "fair_gender", "lambda_r": 0.05}},
        {"trainer": {"name": "ddp"}, "tracking": {"mode": "online"}},
    ],
)
def test_what_decides_no_result_does_not_split_a_condition(tmp_path, more):
    for folder in make_demo(tmp_path, seeds=(0, 1)):
        if yaml.safe_load((folder / "config.yaml").read_text())["seed"] == 1:
            change(folder, **more)
    (condition,) = found(tmp_path)
    assert len(condition.cells) == 6
    assert condition.settings == ()


def test_what_decides_a_result_does(tmp_path):
    for folder in make_demo(tmp_path, seeds=(0, 1)):
        config = yaml.safe_load((folder / "config.yaml").read_text())
        if config["seed"] == 1:
            change(folder, initial_bias={**config["initial_bias"], "neutral_share": 0.5})
    assert [one.settings for one in found(tmp_path)] == [
        ("initial_bias.neutral_share=0.2",),
        ("initial_bias.neutral_share=0.5",),
    ]


ALL = ["rule_based", "embedding", "downstream", "downstream_pronoun", "downstream_hiring", "diversity"]


def test_which_metrics_were_chosen_makes_no_condition_and_no_recursion_counts_twice(tmp_path):
    """Seed 1 is measured by rules alone; seed 0 as usual, and once more by rules alone."""
    others = ("embedding/effect_size", "downstream/bias", "downstream/accuracy", "diversity/distinct_2")
    for mitigation in ((), ("prompt",)):
        make_cell(tmp_path, mitigation=mitigation, metrics=ALL, resamples=200)
        for seed in (0, 1):
            make_cell(tmp_path, mitigation=mitigation, seed=seed, metrics=["rule_based"], drop=others)
    without, prompted = found(tmp_path)
    for one in (without, prompted):
        assert one.settings == ()
        assert [cell.seed for cell in one.cells] == ["0", "1"]
        assert len(one.settling("rule/net_stereotype_rate").trajectories) == 2
        assert [cell.get("downstream/bias", 1).defined for cell in one.cells] == [True, False]
    assert without.under == prompted.under
    assert write_report(tmp_path, tmp_path / "report").page.exists()


def test_one_measure_by_two_classifiers_is_no_repetition(tmp_path):
    paths = ("org/one", "org/other", None)
    for seed, path in enumerate(paths):
        folder = make_cell(tmp_path, seed=seed, metrics=[*ALL, "toxicity"] if path else ["rule_based"])
        config = yaml.safe_load((folder / "config.yaml").read_text())
        change(folder, metric={"toxicity": {"labels": path}} if path else {}, study={**config["study"], "encoder": "e"})
    assert [(one.settings, len(one.cells)) for one in found(tmp_path)] == [
        (("metric.toxicity.labels=org/one",), 1),
        (("metric.toxicity.labels=org/other",), 1),
        (("metric.toxicity.labels=unset",), 1),
    ]


def record(runs_dir, level, seed, weights="0a1b", path="google/gemma", files=None, by_contents=(), **more):
    """Write a cell of today with the run store's own functions."""
    config = {
        "study": {"name": "recursion", "generations": 2, "sentences": 200, **more},
        "model": {"name": "gemma", "path": path, "temperature": 0.8},
        "initial_bias": {"level": level, "neutral_share": 0.2},
        "mitigation": {},
        "plm": {"name": "minilm"},
        "seed": seed,
        "runs_dir": str(runs_dir),
    }
    groups = {group: config[group] for group in ("study", "model", "initial_bias", "mitigation", "seed")}
    groups["model"] = {"temperature": 0.8}
    groups["study"] = {key: None if key in by_contents else value for key, value in config["study"].items()}
    deciding = {**groups, "weights": {"model.path": weights}, **({"files": files} if files else {})}
    cell = Cell.open(runs_dir, "recursion", deciding, config, method=2)
    with cell.working():
        cell.write_results(
            {one: [Measurement("rule/net_stereotype_rate", level / (one + 1), 0, 1, 200)] for one in range(3)}
        )
    return cell.folder


def test_weights_count_by_their_contents_and_are_shown_by_their_path(tmp_path):
    for level in (0.1, 0.6):
        record(tmp_path, level, 0)
        record(tmp_path, level, 1, path="/copies/gemma")
        record(tmp_path, level, 0, weights="ffffffffffff")
        record(tmp_path, level, 0, weights="eeeeeeeeeeee", path="google/gemma-2")
    assert [(one.settings, len(one.cells)) for one in found(tmp_path)] == [
        (("model.path=google/gemma (0a1b)",), 4),
        (("model.path=google/gemma (ffffffff)",), 2),
        (("model.path=google/gemma-2",), 2),
    ]


def test_cells_from_before_the_record_are_one_condition_with_those_after(tmp_path):
    for level in (0.1, 0.3):
        folder = record(tmp_path, level, 0)
        record(tmp_path, level, 1)
        (folder / "deciding.json").unlink(missing_ok=True)
        status = json.loads((folder / "status.json").read_text())
        status["seal"] = {name: seal for name, seal in status["seal"].items() if name.endswith(("csv", "result.json"))}
        (folder / "status.json").write_text(json.dumps(status))
    (condition,) = found(tmp_path)
    assert len(condition.cells) == 4


def test_a_group_that_a_method_does_not_use_makes_no_variant(tmp_path):
    for seed in range(3):
        folder = make_method(tmp_path, "cda", seed, 0.6)
        if seed == 1:
            config = yaml.safe_load((folder / "config.yaml").read_text())
            status = json.loads((folder / "status.json").read_text())
            config["mitigation"] = {"augment": {}}
            config["plm"] |= {"device": "cuda", "batch_tokens": 64}
            (folder / "deciding.json").unlink(missing_ok=True)
            status.pop("seal")
            (folder / "status.json").write_text(json.dumps(status))
            (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (one,) = debiasings(read_runs(tmp_path).cells)
    assert [variant.label for variant in one.variants] == ["cda"]


def test_the_difference_of_two_cells_lists_what_decides_their_results(tmp_path):
    first = make_cell(tmp_path, level=0.1)
    second = make_cell(tmp_path, level=0.3)
    change(second, gpu_share=0.5, debias={"name": "cda"}, runs_dir="elsewhere")
    difference = compare(select(str(first)), select(str(second)))
    assert difference.settings == (("initial_bias.level", "0.1", "0.3"),)


# --- the page names what a cell used


def test_a_calibration_shows_no_generator_mitigation_or_level(tmp_path):
    config = {
        "study": {"name": "metric_calibration", "reference": 0.0},
        "model": {"name": "gemma_3_270m"},
        "initial_bias": {"level": 0.3},
        "mitigation": {"augment": {}},
        "plm": {"name": "minilm"},
        "debias": {"name": "cda"},
        "seed": 0,
    }
    rows = [
        (None, f"calibration/rule/net_stereotype_rate/n50/{what}", 1.0, 0.9, 1.1, 6)
        for what in ("mean_at_0", "mean_at_0.5", "slope", "mde")
    ]
    write_cell(tmp_path / "metric_calibration" / "a", config, rows)
    cells = read_runs(tmp_path).cells
    (cell,) = cells
    assert (cell.subject, cell.choice, cell.mitigation) == ("", "", "")
    data, _ = cell_data(cells, configurations(cells)[1])
    page = write_report(tmp_path).page.read_text()
    for text in (data, page, (tmp_path / "report" / "cells.csv").read_text()):
        assert "gemma" not in text
    assert "mitigation none" not in page
    assert "mitigation.augment" not in page


def test_an_evaluated_model_and_its_benchmark_are_named_and_no_generator(tmp_path):
    config = {
        "study": {"name": "evaluate"},
        "plm": {"name": "bert_base"},
        "benchmark": {"name": "seat"},
        "model": {"name": "gemma_3_270m"},
        "mitigation": {"augment": {}},
        "seed": 0,
    }
    write_cell(tmp_path / "evaluate" / "a", config, [(None, "seat/mean_abs_effect_size", 0.5, 0.4, 0.6, 6)])
    page = write_report(tmp_path).page.read_text()
    assert "evaluate · bert_base · seat · seed 0" in page
    assert "gemma" not in page


@pytest.mark.parametrize("order", [("prompt", "augment"), ("augment", "prompt")])
def test_strategies_have_one_name_whatever_their_order(tmp_path, order):
    make_cell(tmp_path, mitigation=order)
    (cell,) = read_runs(tmp_path).cells
    assert cell.mitigation == "augment+prompt"


# --- a configuration that was edited


def edit(folder, old, new):
    path = folder / "config.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def reason(runs_dir):
    (one,) = read_runs(runs_dir).unusable
    return one.reason


def test_an_edited_configuration_is_named_and_the_cell_left_out(tmp_path):
    record(tmp_path, 0.1, 0)
    edit(record(tmp_path, 0.3, 0), "sentences: 200", "sentences: 500")
    assert "config.yaml" in reason(tmp_path)


def test_it_is_noticed_without_a_seal_too(tmp_path):
    record(tmp_path, 0.1, 0)
    folder = record(tmp_path, 0.3, 0)
    status = json.loads((folder / "status.json").read_text())
    status.pop("seal")
    (folder / "status.json").write_text(json.dumps(status))
    edit(folder, "sentences: 200", "sentences: 500")
    assert "study.sentences is 500, the result is of 200" in reason(tmp_path)
    assert reason(tmp_path) in write_report(tmp_path).page.read_text().replace("&#39;", "'")


def test_numbers_are_the_same_however_they_are_written(tmp_path):
    record(tmp_path, 0.1, 0, levels=[-0.5, 0.0, 1.0], share=2.0, nothing=None)
    assert not read_runs(tmp_path).unusable


def test_a_path_whose_contents_decide_is_no_edit(tmp_path):
    """A key declared with `by_contents` is null in what decides, which names the contents instead."""
    record(tmp_path, 0.1, 0, files={"study.text": "0a1b"}, by_contents=["text"], text="/texts/a.txt")
    assert not read_runs(tmp_path).unusable


def test_benchmarks_with_settings_of_their_own_are_no_edit_unless_they_are(tmp_path):
    """What decides names them in a list, and holds their settings beside it."""
    chosen = "study.benchmarks=[lpbs,{name: perplexity, part: test}]"
    line = ["study=fair_gender", "debias=none", chosen, f"runs_dir={tmp_path}", "tracking=none"]
    with composition.composer():
        (job,) = jobs_of([line])
    with job.cell.working():
        job.cell.write_results({None: [Measurement("lpbs/gap", 0.5, 0, 1, 20)]})
    assert not read_runs(tmp_path).unusable
    edit(job.cell.folder, "part: test", "part: development")
    status = json.loads((job.cell.folder / "status.json").read_text())
    status.pop("seal")
    (job.cell.folder / "status.json").write_text(json.dumps(status))
    with pytest.raises(UserError, match=r"benchmarks.perplexity.part is development, the result is of test"):
        read_runs(tmp_path)


def old(folder):
    """Make a cell one from before configurations were sealed, whose files were written in their order."""
    (folder / "deciding.json").unlink(missing_ok=True)
    status = json.loads((folder / "status.json").read_text())
    status["seal"] = {name: status["seal"][name] for name in ("metrics.csv", "result.json")}
    (folder / "status.json").write_text(json.dumps(status))
    for name in ("config.yaml", "status.json"):
        os.utime(folder / name, ns=(status["seal"]["metrics.csv"][2],) * 2)
    return folder


def test_an_old_cell_is_held_against_its_name_where_its_configuration_is_newer(tmp_path):
    old(record(tmp_path, 0.1, 0))
    folder = old(record(tmp_path, 0.3, 0))
    assert not read_runs(tmp_path).unusable
    edit(folder, "level: 0.3", "level: 0.4")
    assert f"it does not give the name {folder.name}" in reason(tmp_path)
