"""The exported tasks: what the harness would compute of them has the scores that Fairloop has."""

import json

import pytest
import torch
import yaml

from fairloop.benchmarks import heldout_templates as heldout
from fairloop.benchmarks import lpbs
from fairloop.benchmarks.data_command import main
from fairloop.benchmarks.lm_eval import fairloop_tasks as tasks
from fairloop.benchmarks.lm_eval.export import TASKS, write_tasks
from fairloop.benchmarks.registry import measure, settings_of
from fairloop.lexicon import occupations
from fairloop.lexicon import targets as all_targets


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """A part of the subjects, templates and words: the formulas are the same."""
    full, words = heldout.heldout_templates, heldout.attributes
    chosen = [one for kind in ("occupation", "trait", "activity") for one in all_targets("heldout") if one.kind == kind]
    chosen = [*chosen[:4], *[one for one in chosen if one.kind != "occupation"][::8]]
    monkeypatch.setattr(heldout, "targets", lambda split: tuple(chosen))
    monkeypatch.setattr(heldout, "heldout_templates", lambda word: full(word)[:2])
    monkeypatch.setattr(heldout, "attributes", lambda split: words(split)[:2])
    some = tuple(occupations())[::10]
    monkeypatch.setattr(lpbs, "occupations", lambda: some)
    monkeypatch.setattr("fairloop.benchmarks.lm_eval.export.occupations", lambda: some)


@torch.no_grad()
def log_likelihood(plm, context, continuation):
    """The log likelihood as the harness has it: both tokenized together, the context's tokens taken off."""
    whole, before = plm.tokenizer.encode(context + continuation), plm.tokenizer.encode(context)
    assert whole[: len(before)] == before
    scores = torch.log_softmax(plm.models[0](torch.tensor([whole])).logits[0].double(), -1)
    return sum(scores[place - 1, whole[place]].item() for place in range(len(before), len(whole)))


@pytest.mark.parametrize("family", ["gpt2", "gemma3"])
def test_the_tasks_have_the_scores_of_the_benchmarks(tiny_plm, tmp_path, family):
    plm = tiny_plm(family, window=200)
    write_tasks(tmp_path)
    for name, (row, measures) in TASKS.items():
        lines = [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()]
        asked = [(line, [(log_likelihood(plm, line["context"], line["continuation"]), False)]) for line in lines]
        rows = [getattr(tasks, row)(line, answers) for line, answers in asked]
        assert all(one.keys() == measures.keys() for one in rows)
        own = measure(plm, settings_of({"name": name.removeprefix("fairloop_"), "resamples": 20})).measurements
        expected = {one.metric.rpartition("/")[2]: one.value for one in own}
        for metric, aggregate in measures.items():
            found = aggregate([one[metric] for one in rows])
            assert found == pytest.approx(expected[metric], rel=1e-4, abs=1e-5), metric


def test_the_first_requests_alone_have_scores(tmp_path):
    write_tasks(tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "fairloop_heldout_templates.jsonl").read_text().splitlines()]
    rows = [(line, float(place)) for place, line in enumerate(lines[: len(lines) // 2])]
    assert tasks.mean_abs_log_odds(rows) >= 0
    assert tasks.mean_abs_log_odds(rows[:2]) != tasks.mean_abs_log_odds(rows[:2])  # none yet: not a number


def test_the_files_are_what_the_harness_reads(tmp_path):
    class Loader(yaml.SafeLoader):
        pass

    Loader.add_constructor("!function", lambda loader, node: loader.construct_scalar(node))
    names = {path.name for path in write_tasks(tmp_path)}
    assert names == {path.name for path in tmp_path.iterdir()}
    for name, (row, measures) in TASKS.items():
        task = yaml.load((tmp_path / f"{name}.yaml").read_text(), Loader)
        assert (task["task"], task["output_type"], task["target_delimiter"]) == (name, "loglikelihood", "")
        assert [one["metric"] for one in task["metric_list"]] == list(measures)
        functions = [task["custom_dataset"], task["process_results"], *(m["aggregation"] for m in task["metric_list"])]
        for function in functions:
            module, _, attribute = function.partition(".")
            assert f"{module}.py" in names
            assert callable(getattr(tasks, attribute))
        assert task["process_results"].endswith(row)


def test_the_command_writes_the_folder_and_refuses_what_makes_no_sense(tmp_path, capsys):
    assert main(["--lm-eval", str(tmp_path / "tasks")]) == 0
    said = capsys.readouterr().out
    assert f"--include_path {tmp_path / 'tasks'} --tasks fairloop_heldout_templates,fairloop_lpbs" in said
    (tmp_path / "file").write_text("")
    for wrong in (["--lm-eval", str(tmp_path / "file")], ["--lm-eval", str(tmp_path / "x"), "seat"]):
        assert main(wrong) == 2
        assert capsys.readouterr().err.startswith("fairloop-data: --lm-eval=")
