"""The losses that train a PLM: each term against a plain computation; resumed and split, they stay the same."""

import json

import numpy as np
import pytest
import torch
from plm_jobs import plm_jobs
from scipy.spatial.distance import cosine, jensenshannon

from fairloop.training.masking import Masking, collated, encode
from fairloop.training.settings import LowRankSettings, TrainerSettings
from fairloop.training.tasks import _SETTINGS, build, train_plm
from masked_models import counterfactuals, tiny_masked

CPU = TrainerSettings(accelerator="cpu", precision="float32", threads=1, checkpoint_every_steps=1)
TASKS = {
    "language_modeling": "fairloop.training.language_modeling",
    "orthogonality": "fairloop.debias.context_debias.loss",
    "prompt_divergence": "fairloop.debias.auto_debias.loss",
    "pair_alignment": "fairloop.debias.mabel.loss",
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_masked(tmp_path_factory.mktemp("plm"), dropout=0.1)


@pytest.fixture(scope="module")
def jobs(model, tmp_path_factory):
    rest = (json.loads(CPU.model_dump_json()), 0, "s", str(tmp_path_factory.mktemp("jobs")))
    return plm_jobs(model, rest, 7)


def built(jobs, task):
    """Module in evaluation mode (no dropout) and its only batch."""
    one = build(jobs[task])
    batch = next(iter(one.data.train_dataloader()))
    return one.module.eval(), batch, one.tokenizer


def test_masking_chooses_its_share_and_replaces_as_devlin_says(model):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    rows = encode([row[0] for row in counterfactuals()], tokenizer, 128)
    batch = collated(rows, range(len(rows)), 0)
    masking = Masking(tokenizer, 0.3, seed=0, stage="s")
    chosen_count = masked_count = same_count = total = 0
    for step in range(60):
        ids, chosen = masking(batch, step)
        assert (ids != batch["input_ids"])[~chosen].sum() == 0
        assert not chosen[:, 0].any()  # [CLS]
        assert not (chosen & (batch["input_ids"] == tokenizer.sep_token_id)).any()
        assert not (chosen & (batch["attention_mask"] == 0)).any()
        assert chosen.any(dim=1).all()
        chosen_count += int(chosen.sum())
        total += int(batch["maskable"].sum())
        masked_count += int((ids[chosen] == tokenizer.mask_token_id).sum())
        same_count += int((ids[chosen] == batch["input_ids"][chosen]).sum())
    assert 0.28 < chosen_count / total < 0.33
    assert 0.77 < masked_count / chosen_count < 0.85
    assert 0.08 < same_count / chosen_count < 0.14  # a tenth, and now and then a random word that is the same


def test_masking_depends_on_step_and_sentence_alone(model):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    rows = encode([row[0] for row in counterfactuals()[:6]], tokenizer, 128)
    masking = Masking(tokenizer, 0.15, seed=0, stage="s")
    together, _ = masking(collated(rows, range(6), 0), 3)
    alone, _ = masking(collated(rows[4:5], [4], 0), 3)
    assert together[4, : alone.shape[1]].tolist() == alone[0].tolist()
    later, _ = masking(collated(rows, range(6), 0), 4)
    assert together.tolist() != later.tolist()


@torch.no_grad()
def masked_lm(module, batch):
    """Sum of negative log-likelihoods, a sentence at a time, with the whole head."""
    ids, chosen = module.masking(batch, -1)
    total = 0.0
    for row in range(len(ids)):
        length = int(batch["attention_mask"][row].sum())
        logits = module.model(ids[row : row + 1, :length]).logits[0].log_softmax(dim=-1)
        for place in chosen[row].nonzero()[:, 0].tolist():
            total -= float(logits[place, batch["input_ids"][row, place]])
    return total, int(chosen.sum())


def test_masked_language_modelling_by_hand(jobs):
    module, batch, _ = built(jobs, "language_modeling")
    total, count = module.loss_parts(batch)
    expected, number = masked_lm(module, batch)
    assert int(count) == number
    np.testing.assert_allclose(float(total), expected, rtol=1e-5)


@torch.no_grad()
def test_orthogonality_by_hand(jobs):
    module, batch, _ = built(jobs, "orthogonality")
    for weight in module.model.base_model.parameters():
        weight.add_(0.05)  # or nothing would be away from the reference
    data = jobs["orthogonality"].data
    total, count = module.loss_parts(batch)

    def layers(network, ids):
        return network(torch.tensor([ids]), output_hidden_states=True).hidden_states

    network = module.model.base_model
    vectors = []  # [attribute][layer]
    for rows in data["attributes"]:
        states = [[layer[0, places].mean(dim=0) for layer in layers(network, ids)] for ids, places in rows]
        vectors.append([sum(some) / len(rows) for some in zip(*states, strict=True)])
    expected = 0.0
    for ids, targets, kept in data["sentences"]:
        now, before = layers(network, ids), layers(module.reference, ids)
        products = [
            float(layer[0, targets].mean(dim=0) @ vector[number]) ** 2
            for number, layer in enumerate(now)
            for vector in vectors
        ]
        distances = [float((one[0, kept] - two[0, kept]).pow(2).mean()) for one, two in zip(now, before, strict=True)]
        expected += 0.2 * np.mean(products) + 0.8 * np.mean(distances)
    assert int(count) == len(data["sentences"])
    np.testing.assert_allclose(float(total), expected, rtol=1e-4)


def test_orthogonality_gives_no_gradient_to_reference_attributes_and_head(jobs):
    module, batch, _ = built(jobs, "orthogonality")
    module.directions = module.attribute_vectors()
    assert not module.directions.requires_grad
    module.loss_parts(batch)[0].backward()
    with_gradient = {name for name, weight in module.named_parameters() if weight.grad is not None}
    assert with_gradient
    assert all(name.startswith("model.bert.") for name in with_gradient), with_gradient


@torch.no_grad()
def test_prompt_divergence_by_hand(jobs):
    module, batch, tokenizer = built(jobs, "prompt_divergence")
    total, count = module.loss_parts(batch)
    expected = 0.0
    for probe in jobs["prompt_divergence"].data["probes"]:
        place = probe[0].index(tokenizer.mask_token_id)
        both = [module.model(torch.tensor([ids])).logits[0, place].double().softmax(dim=-1) for ids in probe]
        expected += jensenshannon(*[one.numpy() for one in both]) ** 2
    assert int(count) == 7
    np.testing.assert_allclose(float(total), expected, rtol=1e-4)


@torch.no_grad()
def test_pair_alignment_by_hand(jobs):
    module, batch, tokenizer = built(jobs, "pair_alignment")
    total, count = module.loss_parts(batch)
    texts = [text for row in jobs["pair_alignment"].data["pairs"] for text in row]
    vectors = []
    for text in texts:
        hidden = module.model.base_model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0, 0]
        vectors.append(module.head(hidden).double().numpy())
    similar = np.array([[(1 - cosine(one, two)) / 0.05 for two in vectors] for one in vectors])
    contrastive = 0.0
    for row in range(len(texts)):
        partner = row + 1 if row % 2 == 0 else row - 1
        others = [column for column in range(len(texts)) if column != row]
        contrastive += np.log(np.exp(similar[row, others]).sum()) - similar[row, partner]
    male, female = np.arange(0, len(texts), 2), np.arange(1, len(texts), 2)
    difference = similar[np.ix_(male, male)] - similar[np.ix_(female, female)]
    alignment = (difference**2).sum(axis=1).mean()
    summed, number = masked_lm(module, batch)
    expected = contrastive / len(texts) + 0.05 * alignment + 0.1 * summed / number
    np.testing.assert_allclose(float(total) / int(count), expected, rtol=1e-4)


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("task", TASKS)
def test_a_training_interrupted_inside_an_epoch_ends_with_the_same_weights(model, jobs, tmp_path, task):
    from safetensors.torch import load_file

    known = jobs[task]
    from importlib import import_module

    settings = import_module(TASKS[task]).SETTINGS.model_validate(
        known.settings | {"batch_size": 3, "epochs": 3, "learning_rate": 1e-3}
    )
    assert TASKS[task] not in _SETTINGS

    def train(folder, stop_at=None):
        def on_progress(done, total):
            if done == stop_at:
                raise StoppedError

        return train_plm(
            TASKS[task], model, known.data, settings, CPU, folder, seed=0, stage="s", on_progress=on_progress
        )

    whole = train(tmp_path / "whole")
    with pytest.raises(StoppedError):
        train(tmp_path / "parts", stop_at=5)
    resumed = train(tmp_path / "parts")
    one, two, start = (load_file(folder / "model.safetensors") for folder in (whole.folder, resumed.folder, model))
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert any(not torch.equal(one[key], start[key]) for key in one)


@pytest.mark.parametrize("task", TASKS)
def test_a_low_rank_training_ends_as_a_whole_model(model, jobs, tmp_path, task):
    pytest.importorskip("peft")
    from importlib import import_module

    from safetensors.torch import load_file

    settings = import_module(TASKS[task]).SETTINGS.model_validate(
        jobs[task].settings
        | {"batch_size": 3, "max_steps": 3, "learning_rate": 1e-2, "weights": "lora"}
        | {"lora": LowRankSettings(rank=2).model_dump()}
    )
    trained = train_plm(TASKS[task], model, jobs[task].data, settings, CPU, tmp_path, seed=0, stage="s")
    one, start = (load_file(folder / "model.safetensors") for folder in (trained.folder, model))
    assert one.keys() == start.keys()
    changed = {key for key in one if not torch.equal(one[key], start[key])}
    assert changed
    assert all(key.endswith("weight") and "LayerNorm" not in key and "embeddings" not in key for key in changed)
