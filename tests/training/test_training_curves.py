"""Loss curves: what a training logs, through a kill and from its workers, and that logging changes nothing."""

import hashlib

import numpy as np
import pytest
from plm_tasks import plm_tasks
from test_training_resume import EXAMPLES, LORA, SETTINGS

from fairloop.training import trainer
from fairloop.training.causal_lm import CausalLMTask
from fairloop.training.contrastive import ContrastiveTask
from fairloop.training.module import TrainingModule
from fairloop.training.settings import ClassifierSettings, TrainerSettings
from incorporations import EARLY, OFF, StoppedError, incorporation
from masked_models import tiny_masked
from tiny_models import pairs, tiny_encoder, tiny_generator, tiny_masked_lm
from trainings import classified, trained

CPU = TrainerSettings(accelerator="cpu", precision="float32", threads=1, checkpoint_every_steps=2)


class Logged(list):
    """What a training reports."""

    def __call__(self, curve, step, values):
        self.append((curve, step, values))

    def of(self, curve):
        return {step: values for name, step, values in self if name == curve}


@pytest.fixture(scope="module")
def plm(tmp_path_factory):
    return tiny_masked_lm(tmp_path_factory.mktemp("plm"), dropout=0.2)


def incorporate(plm, folder, logged=None, stop_at=None, **change):
    def on_progress(done, total):
        if done == stop_at:
            raise StoppedError

    settings = EARLY.model_copy(update={"text_weight": 0.3, **change})
    return trained(incorporation(settings), plm, CPU, folder, on_progress=on_progress, on_logged=logged)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_fair_gender_reports_its_loss_the_terms_and_the_rate_of_every_step(plm, tmp_path, accumulate):
    logged = Logged()
    incorporate(plm, tmp_path, logged, early_stopping=OFF, warmup_share=0.0, accumulate=accumulate)
    curve = logged.of("train/s")
    assert list(curve) == list(range(1, 9))
    for step, row in curve.items():
        assert row.keys() == {"loss", "L_b", "L_r", "kl", "language", "learning_rate"}
        assert row["loss"] == pytest.approx(row["L_b"] + 0.5 * row["L_r"], rel=1e-5)
        assert row["L_r"] == pytest.approx(row["kl"] + 0.3 * row["language"], rel=1e-5)
        assert row["learning_rate"] == pytest.approx(3e-3 * (9 - step) / 8)
    assert curve[1]["kl"] == pytest.approx(0, abs=1e-6)  # nothing has moved yet
    assert curve[8]["kl"] > 1e-5
    assert curve[8]["L_b"] < curve[1]["L_b"]


def test_the_terms_of_the_other_losses_add_up(tmp_path):
    model = tiny_masked(tmp_path / "plm", dropout=0.1)
    tasks = plm_tasks(model, 7, steps=1)
    rows = {}
    for name, task in tasks.items():
        logged = Logged()
        trained(task, model, CPU, tmp_path / name, on_logged=logged)
        rows[name] = logged.of("train/s")[1]
    row, settings = rows["pair_alignment"], tasks["pair_alignment"].settings
    assert row["loss"] == pytest.approx(
        row["contrastive"] + settings.alignment_weight * row["alignment"] + settings.mlm_weight * row["language"],
        rel=1e-5,
    )
    assert 2 < row["language"] < 8  # per masked token, in nats, of a model that knows nothing
    row, settings = rows["orthogonality"], tasks["orthogonality"].settings
    loss = settings.alpha * row["orthogonality"] + settings.beta * row["distance"]
    assert row["loss"] == pytest.approx(loss, rel=1e-5)
    for task in ("language_modeling", "prompt_divergence"):
        assert rows[task].keys() == {"loss", "learning_rate"}


@pytest.mark.parametrize("most", [500, 3])
def test_a_killed_training_reports_the_curve_of_an_uninterrupted_one(plm, tmp_path, monkeypatch, most):
    monkeypatch.setattr(trainer, "MOST_POINTS", most)
    whole = Logged()
    incorporate(plm, tmp_path / "whole", whole)
    assert list(whole.of("train/s")) == (list(range(1, 9)) if most == 500 else [3, 6, 8])
    logged = Logged()
    for stop in (1, 4, 5, 8):
        with pytest.raises(StoppedError):
            incorporate(plm, tmp_path / "killed", logged, stop_at=stop)
    incorporate(plm, tmp_path / "killed", logged)
    assert logged.of("train/s") == whole.of("train/s")
    assert all(point in whole for point in logged), "a step came a second time under another value"


def test_a_point_is_the_mean_over_its_steps(plm, tmp_path, monkeypatch):
    each, few = Logged(), Logged()
    incorporate(plm, tmp_path / "each", each)
    monkeypatch.setattr(trainer, "MOST_POINTS", 2)
    incorporate(plm, tmp_path / "few", few)
    each, few = each.of("train/s"), few.of("train/s")
    assert list(few) == [4, 8]
    for last, row in few.items():
        for name, value in row.items():
            assert value == pytest.approx(np.mean([each[step][name] for step in range(last - 3, last + 1)]), rel=1e-6)


def test_logging_changes_no_weight_by_a_bit(plm, tmp_path, monkeypatch):
    encoder = tiny_encoder(tmp_path / "encoder", dropout=0.2)
    generator = tiny_generator(tmp_path / "generator", dropout=0.1)

    def weights(where, logged):
        results = (
            incorporate(plm, where / "incorporation", logged),
            trained(ContrastiveTask(SETTINGS, tuple(pairs())), encoder, CPU, where / "encoder", on_logged=logged),
            trained(CausalLMTask(LORA, EXAMPLES), generator, CPU, where / "generator", on_logged=logged),
        )
        files = [next(one.folder.glob("*.safetensors")) for one in results]
        return [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]

    logged = Logged()
    with_curves = weights(tmp_path / "with", logged)
    assert logged
    for name in ("log", "log_dict", "log_terms"):
        monkeypatch.setattr(TrainingModule, name, lambda *_, **__: None)
    assert weights(tmp_path / "without", None) == with_curves


def test_a_classifier_reports_what_is_held_out_after_each_epoch(tmp_path):
    rng = np.random.default_rng(0)
    labels = [n % 2 for n in range(24)]
    vectors = (rng.normal(size=(24, 4)) + np.array(labels)[:, None]).astype(np.float32)
    settings = ClassifierSettings(epochs=3, batch_size=8, select=("accuracy",))
    logged = Logged()
    classified(
        vectors, labels, settings, CPU, tmp_path, validation=(vectors[:6], labels[:6]),
        on_logged=logged,
    )  # fmt: skip
    assert list(logged.of("train/s")) == list(range(1, 10))
    held_out = logged.of("validation/s")
    assert list(held_out) == [3, 6, 9]
    assert all(row.keys() == {"loss", "agreement"} for row in held_out.values())
    assert all(0 <= row["agreement"] <= 1 for row in held_out.values())
