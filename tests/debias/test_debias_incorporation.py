"""A whole incorporation: early stopping, accumulation, interruption, and the folder that it leaves."""

import hashlib

import pytest
import torch

from fairloop.debias.fair_gender.settings import EarlyStoppingSettings
from fairloop.training.early_stopping import EarlyStopping, Evaluation
from fairloop.training.settings import TrainerSettings
from incorporations import EARLY, OFF, StoppedError, incorporation
from tiny_models import tiny_generator, tiny_masked_lm
from trainings import trained

CPU = TrainerSettings(accelerator="cpu", precision="float32", threads=1, checkpoint_every_steps=2)


@pytest.fixture(scope="module")
def plm(tmp_path_factory):
    return tiny_masked_lm(tmp_path_factory.mktemp("plm"), dropout=0.2)


def train(model, folder, settings=EARLY, stop_at=None, kind="masked"):
    seen = []

    def on_progress(done, total):
        seen.append(done)
        if done == stop_at:
            raise StoppedError

    return trained(incorporation(settings, kind), model, CPU, folder, on_progress=on_progress), seen


def predictions(folder):
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    batch = AutoTokenizer.from_pretrained(folder)("the nurse said that she will", return_tensors="pt")
    with torch.no_grad():
        return AutoModelForMaskedLM.from_pretrained(folder).eval()(batch["input_ids"]).logits.log_softmax(-1)


def checksum(result):
    return hashlib.sha256((result.folder / "model.safetensors").read_bytes()).hexdigest()


def test_an_interrupted_incorporation_ends_with_the_same_weights_and_the_same_evaluations(plm, tmp_path):
    whole, steps = train(plm, tmp_path / "whole")
    assert steps == list(range(1, 9))
    assert [one.step for one in whole.evaluations] == [0, 3, 6]
    assert whole.evaluations[2].bias < whole.evaluations[0].bias
    for stop in (1, 3, 6):
        with pytest.raises(StoppedError):
            train(plm, tmp_path / "parts", stop_at=stop)
    resumed, _ = train(plm, tmp_path / "parts")
    assert checksum(resumed) == checksum(whole)
    assert resumed.evaluations == whole.evaluations
    again, steps = train(plm, tmp_path / "whole")
    assert (steps, checksum(again)) == ([], checksum(whole))


def test_parts_of_a_batch_give_the_same_weights_and_are_resumed(plm, tmp_path):
    settings = EARLY.model_copy(update={"early_stopping": OFF, "steps": 3})
    whole, _ = train(plm, tmp_path / "whole", settings)
    parted = settings.model_copy(update={"accumulate": 2})
    parts, steps = train(plm, tmp_path / "parts", parted)
    assert steps == [0, 1, 1, 2, 2, 3]
    # Not the weights: Adam gives those without gradient (the biases of keys) a full step along their rounding error.
    one, two, untouched = (predictions(folder) for folder in (whole.folder, parts.folder, plm))
    assert torch.allclose(one, two, atol=1e-3)
    assert float((one - untouched).abs().max()) > 0.05
    with pytest.raises(StoppedError):
        train(plm, tmp_path / "again", parted, stop_at=3)
    assert checksum(train(plm, tmp_path / "again", parted)[0]) == checksum(parts)


def test_a_training_that_stopped_early_stays_stopped(plm, tmp_path):
    settings = EARLY.model_copy(
        update={
            "learning_rate": 1e-7,
            "clip_norm": 1e-9,
            "early_stopping": EarlyStoppingSettings(every=1, patience=2, tolerance=0.0),
        }
    )
    first, steps = train(plm, tmp_path, settings)
    assert len(steps) < 8
    assert [one.step for one in first.evaluations] == list(range(len(steps) + 1))
    again, more = train(plm, tmp_path, settings)
    assert (more, checksum(again)) == ([], checksum(first))


@pytest.mark.parametrize("kind", ["masked", "causal"])
def test_a_low_rank_update_is_merged_into_an_ordinary_folder(plm, tmp_path, kind):
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

    model = plm if kind == "masked" else tiny_generator(tmp_path / "causal")
    settings = EARLY.model_copy(update={"weights": "lora", "steps": 2, "learning_rate": 1e-2})
    result, _ = train(model, tmp_path / "run", settings, kind=kind)
    auto = AutoModelForMaskedLM if kind == "masked" else AutoModelForCausalLM
    loaded, untouched = auto.from_pretrained(result.folder).eval(), auto.from_pretrained(model).eval()
    assert not list(result.folder.glob("adapter*"))
    batch = AutoTokenizer.from_pretrained(result.folder)("the nurse said that she", return_tensors="pt")
    with torch.no_grad():
        moved = (loaded(batch["input_ids"]).logits - untouched(batch["input_ids"]).logits).abs().max()
    assert float(moved) > 1e-4
    checkpoint = torch.load(result.fit.last, weights_only=True)
    assert all("lora_" in name for name in checkpoint["state_dict"])


def test_an_evaluation_is_better_with_less_bias_unless_language_suffers():
    def stopping(*evaluations, patience=2):
        made = EarlyStopping(every=10, patience=patience, tolerance=0.01)
        answers = [made.add(Evaluation(10 * n, *one)) for n, one in enumerate(evaluations)]
        return made, answers

    made, answers = stopping((0.5, 2.0), (0.4, 2.005), (0.1, 2.05), (0.39, 2.0))
    assert answers == [False, True, False, True]
    assert made.best == Evaluation(30, 0.39, 2.0)
    made, answers = stopping((0.5, 2.0), (0.1, 2.2), (0.2, 2.1))  # both beyond the tolerance: the smaller rise
    assert answers == [False, True, True]
    made, _ = stopping((0.5, 2.0), (0.4, 2.0), (0.41, 2.0))
    assert not made.stopped
    made, _ = stopping((0.5, 2.0), (0.4, 2.0), (0.41, 2.0), (0.42, 2.0))
    assert made.stopped
    again = EarlyStopping(made.every, made.patience, made.tolerance)
    again.restore(made.state())
    assert (again.evaluations, again.best, again.stopped) == (made.evaluations, made.best, True)
    assert not stopping((0.5, 2.0), (0.4, 2.0), (0.41, 2.0), (0.42, 2.0), patience=0)[0].stopped
