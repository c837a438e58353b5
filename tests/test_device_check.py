"""The check of one GPU: its parts, tiny, on the processor; what it says of what failed."""

import json

import pytest
from device import __main__ as check
from device import parts
from device.models import TINY, sentences
from device.tasks import tasks

MODULES = {
    "CausalLMModule", "MaskedLMModule", "ContrastiveModule", "ClassifierModule", "FairGenderModule",
    "OrthogonalityModule", "PromptDivergenceModule", "PairAlignmentModule", "EntailmentModule",
}  # fmt: skip


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return parts.Bench("cpu", TINY, tmp_path_factory.mktemp("device"))


def test_the_parts_run_tiny_on_the_processor(bench):
    most = parts.limits(bench)
    assert most["bytes_per_second"] > 1e8
    written = parts.generation(bench, most)
    assert 0 < written["share_of_limit"] < 1
    step = parts.training(bench, most, "contrastive")
    assert step["tokens_per_second"] > 0
    assert 0 < step["share_of_peak"] < 1
    assert step["tokens_of_a_step"] > TINY.batch * 2 * 5  # both sentences of each pair
    assert parts.scoring(bench)["items"] == TINY.items
    equal = parts.equality(bench)
    assert equal["bert float32"]["difference"] == 0  # the same computation twice
    assert 0 < equal["gemma bfloat16"]["difference"] < 0.2


def test_every_training_module_has_a_task(bench):
    from fairloop.training.module import TrainingModule

    found = {one.__name__ for one in _below(TrainingModule) if one.__module__.startswith("fairloop.")}
    # A part of the causal filter, which trains nothing by itself.
    assert found - {"OutputLayerModule"} == MODULES
    assert len(tasks(bench.bert(), 4, 1)) == len(MODULES)


def _below(kind):
    return {one for inner in kind.__subclasses__() for one in (inner, *_below(inner))}


def test_pairs_are_counterfactuals_of_each_other():
    found = sentences(20)
    assert len(found) == 20
    assert all(first != second and occupation in first for first, second, occupation in found)


def test_what_failed_or_differs_is_said_and_ends_with_status_1():
    sound = {"bert float32": {"difference": 1e-6, "tolerance": 1e-4, "equal": True}}
    found = {"device": "x", "seconds": 1.0, "tiny": False, "parts": {"equality": sound, "a": {"items": 3}}}
    assert check.is_sound(found)
    found["parts"]["b"] = {"failed": "OutOfMemoryError: 12 GiB"}
    assert not check.is_sound(found)
    assert "| b | failed: OutOfMemoryError: 12 GiB |" in check.table(found)
    del found["parts"]["b"]
    sound["bert float32"]["equal"] = False
    assert not check.is_sound(found)
    assert "NOT EQUAL" in check.table(found)


@pytest.mark.slow
def test_the_whole_check_writes_its_files(tmp_path):
    assert check.main(["--tiny", "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "device.json").read_text())
    assert found["tiny"]
    assert found["parts"]["two processes"]["equal"]
    assert sum(part.startswith("training ") for part in found["parts"]) == len(MODULES)
    assert (tmp_path / "device.md").read_text().count("\n| ") >= len(found["parts"])
