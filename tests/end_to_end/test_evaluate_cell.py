"""A cell of the study evaluate in this process, on a small random model: killed, resumed, tracked."""

import json
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
sys.path += [str(TESTS / folder) for folder in ("plm", "tracking", "benchmarks")]

from fairloop import composition  # noqa: E402
from fairloop.app import Job  # noqa: E402
from fairloop.plm.model import LanguageModel  # noqa: E402
from fairloop.studies.runner import run_cell  # noqa: E402


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A folder with a random BERT and CrowS-Pairs rows, one of which its protocol skips."""
    from plm_models import tiny
    from test_benchmarks_crows_pairs import PAIRS, to_csv

    folder = tmp_path_factory.mktemp("inputs")
    model, tokenizer, _ = tiny("bert")
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    (folder / "crows_pairs_anonymized.csv").write_text(to_csv(PAIRS))
    return folder


def job(inputs, runs_dir, *overrides):
    chosen = [
        "study=evaluate",
        "plm=bert_base",
        f"plm.path={inputs / 'model'}",
        "plm.device=cpu",
        "plm.batch_tokens=60",
        "benchmark=crows_pairs",
        f"benchmark.data={inputs}",
        "benchmark.verify=false",
        "benchmark.resamples=50",
        f"runs_dir={runs_dir}",
        *overrides,
    ]
    with composition.composer():
        return Job.of(composition.validate(composition.compose_config(chosen)))


def test_a_killed_cell_goes_on_where_it_was_and_ends_with_the_same_result(inputs, tmp_path, monkeypatch):
    monkeypatch.setattr("fairloop.plm.model._BATCHES_BETWEEN_KEEPS", 1)
    computed = []
    original = LanguageModel._score_batch

    def counting(self, model, texts, pairs):
        if limit and len(computed) == limit[0]:
            raise KeyboardInterrupt
        computed.append(len(texts))
        return original(self, model, texts, pairs)

    monkeypatch.setattr(LanguageModel, "_score_batch", counting)
    limit = []
    whole = job(inputs, tmp_path / "whole", "tracking=none")
    run_cell(whole.configuration, whole.cell)
    batches = len(computed)
    assert batches >= 6
    computed.clear()
    limit.append(4)
    killed = job(inputs, tmp_path / "killed", "tracking=none")
    with pytest.raises(KeyboardInterrupt):
        run_cell(killed.configuration, killed.cell)
    computed.clear()
    limit.clear()
    again = job(inputs, tmp_path / "killed", "tracking=none")
    run_cell(again.configuration, again.cell)
    assert len(computed) == batches - 4
    for name in ("result.json", "metrics.csv", "stages/01-scores/items.csv", "stages/01-scores/outcome.json"):
        assert (again.cell.folder / name).read_bytes() == (whole.cell.folder / name).read_bytes(), name


def test_the_run_holds_the_scores_the_items_and_the_skipped_ones(inputs, tmp_path, monkeypatch):
    from wandb_reader import ended_run

    for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    tracked = job(inputs, tmp_path / "runs", "tracking=offline")
    run_cell(tracked.configuration, tracked.cell)
    result = json.loads((tracked.cell.folder / "result.json").read_text())
    run = ended_run(tracked.cell.folder)
    assert run.job_type == "evaluate"
    assert {"bert_base", "crows_pairs"} <= set(run.tags)
    (row,) = [row for row in run.history if "items" in row]
    for metric, value in result.items():
        if value is not None:
            assert row[metric] == pytest.approx(value)
            assert run.summary[metric] == pytest.approx(value)
    measures = run.measures()
    defined = {key: one["value"] for key, one in measures.items() if one["value"] is not None}
    assert defined == pytest.approx({(metric, None): value for metric, value in result.items()})
    score = measures["crows_pairs/overall/score", None]
    assert score["low"] <= score["value"] <= score["high"]
    items = run.table(row, "items")
    assert len(items["data"]) == score["n"]
    by_name = dict(zip(items["columns"], items["data"][0], strict=True))
    assert by_name["bias_type"] == "gender"
    assert by_name["more_score"] < 0
    skipped = run.table(row, "skipped")
    assert [line[0] for line in skipped["data"]] == ["5"]
    assert row["crows_pairs/skipped"] == len(skipped["data"])
    assert run.exit_code == 0
