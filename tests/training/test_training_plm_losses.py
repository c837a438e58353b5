"""The losses that train a PLM: each term against a plain computation; resumed and split, they stay the same."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from plm_tasks import plm_tasks
from scipy.spatial.distance import cosine, jensenshannon

from fairloop.training.hook import Training
from fairloop.training.job import TrainingJob
from fairloop.training.masking import Masking, collated, encode
from fairloop.training.settings import LowRankSettings, TrainerSettings
from masked_models import counterfactuals, tiny_masked
from trainings import trained

CPU = TrainerSettings(accelerator="cpu", precision="float32", threads=1, checkpoint_every_steps=1)
TASKS = ("language_modeling", "orthogonality", "prompt_divergence", "pair_alignment", "entailment")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_masked(tmp_path_factory.mktemp("plm"), dropout=0.1)


@pytest.fixture(scope="module")
def tasks(model):
    return plm_tasks(model, 7)


def built(model, task):
    """Module in evaluation mode (no dropout) and its only batch."""
    one = task.components(TrainingJob(task, str(model), Training(CPU, 0, model.parent), "s"))
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


def test_masked_language_modelling_by_hand(model, tasks):
    module, batch, _ = built(model, tasks["language_modeling"])
    total, count = module.loss_parts(batch)
    expected, number = masked_lm(module, batch)
    assert int(count) == number
    np.testing.assert_allclose(float(total), expected, rtol=1e-5)


@torch.no_grad()
def test_orthogonality_by_hand(model, tasks):
    module, batch, _ = built(model, tasks["orthogonality"])
    for weight in module.model.base_model.parameters():
        weight.add_(0.05)  # or nothing would be away from the reference
    task = tasks["orthogonality"]
    total, count = module.loss_parts(batch)

    def layers(network, ids):
        return network(torch.tensor([ids]), output_hidden_states=True).hidden_states

    network = module.model.base_model
    vectors = []  # [attribute][layer]
    for attribute in task.attributes:
        rows = attribute.sentences
        states = [[layer[0, places].mean(dim=0) for layer in layers(network, ids)] for ids, places in rows]
        vectors.append([sum(some) / len(rows) for some in zip(*states, strict=True)])
    expected = 0.0
    for sentence in task.sentences:
        ids, targets, kept = sentence.ids, sentence.targets, sentence.kept
        now, before = layers(network, ids), layers(module.reference, ids)
        products = [
            float(layer[0, targets].mean(dim=0) @ vector[number]) ** 2
            for number, layer in enumerate(now)
            for vector in vectors
        ]
        distances = [float((one[0, kept] - two[0, kept]).pow(2).mean()) for one, two in zip(now, before, strict=True)]
        expected += 0.2 * np.mean(products) + 0.8 * np.mean(distances)
    assert int(count) == len(task.sentences)
    np.testing.assert_allclose(float(total), expected, rtol=1e-4)


def test_orthogonality_gives_no_gradient_to_reference_attributes_and_head(model, tasks):
    module, batch, _ = built(model, tasks["orthogonality"])
    module.directions = module.attribute_vectors()
    assert not module.directions.requires_grad
    module.loss_parts(batch)[0].backward()
    with_gradient = {name for name, weight in module.named_parameters() if weight.grad is not None}
    assert with_gradient
    assert all(name.startswith("model.bert.") for name in with_gradient), with_gradient


@torch.no_grad()
def test_prompt_divergence_by_hand(model, tasks):
    module, batch, tokenizer = built(model, tasks["prompt_divergence"])
    total, count = module.loss_parts(batch)
    expected = 0.0
    for probe in tasks["prompt_divergence"].probes:
        place = probe.male.index(tokenizer.mask_token_id)
        both = [
            module.model(torch.tensor([ids])).logits[0, place].double().softmax(dim=-1)
            for ids in (probe.male, probe.female)
        ]
        expected += jensenshannon(*[one.numpy() for one in both]) ** 2
    assert int(count) == 7
    np.testing.assert_allclose(float(total), expected, rtol=1e-4)


@torch.no_grad()
def test_pair_alignment_by_hand(model, tasks):
    module, batch, tokenizer = built(model, tasks["pair_alignment"])
    total, count = module.loss_parts(batch)
    texts = [text for row in tasks["pair_alignment"].pairs for text in row]
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


@torch.no_grad()
def test_mabels_losses_on_entailment_pairs_are_the_published_ones(model, tasks):
    """The formulas of He et al. 2022, section 3, as their released code computes them, a sentence at a time."""
    module, batch, tokenizer = built(model, tasks["entailment"])
    total, count = module.loss_parts(batch)
    rows = tasks["entailment"].rows

    def vector(text):
        hidden = module.model.base_model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0, 0]
        return module.head(hidden).double().numpy()

    def similar(ones, others):
        return np.array([[(1 - cosine(one, two)) / 0.05 for two in others] for one in ones])

    premises, hypotheses, swapped_premises, swapped_hypotheses = ([vector(row[k]) for row in rows] for k in range(4))
    every = similar([*premises, *swapped_premises], [*hypotheses, *swapped_hypotheses])
    contrastive = np.mean([np.log(np.exp(line).sum()) - line[number] for number, line in enumerate(every)])
    difference = similar(premises, hypotheses) - similar(swapped_premises, swapped_hypotheses)
    alignment = np.mean([np.linalg.norm(line) ** 2 for line in difference])
    summed, number = masked_lm(module, batch)
    assert int(count) == 2 * len(rows)
    expected = contrastive + 0.05 * alignment + 0.1 * summed / number
    np.testing.assert_allclose(float(total) / int(count), expected, rtol=1e-4)


class StoppedError(Exception):
    pass


def changed(task, **settings):
    return replace(task, settings=type(task.settings)(**settings))


@pytest.mark.parametrize("name", TASKS)
def test_a_training_interrupted_inside_an_epoch_ends_with_the_same_weights(model, tasks, tmp_path, name):
    from safetensors.torch import load_file

    task = changed(tasks[name], batch_size=3, steps=9, learning_rate=1e-3)

    def train(folder, stop_at=None):
        def on_progress(done, total):
            if done == stop_at:
                raise StoppedError

        return trained(task, model, CPU, folder, on_progress=on_progress)

    whole = train(tmp_path / "whole")
    with pytest.raises(StoppedError):
        train(tmp_path / "parts", stop_at=5)
    resumed = train(tmp_path / "parts")
    one, two, start = (load_file(folder / "model.safetensors") for folder in (whole.folder, resumed.folder, model))
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert any(not torch.equal(one[key], start[key]) for key in one)


@pytest.mark.parametrize("name", TASKS)
def test_a_low_rank_training_ends_as_a_whole_model(model, tasks, tmp_path, name):
    pytest.importorskip("peft")
    from safetensors.torch import load_file

    lora = {"weights": "lora", "lora": LowRankSettings(rank=2)}
    task = changed(tasks[name], batch_size=3, steps=3, learning_rate=1e-2, **lora)
    result = trained(task, model, CPU, tmp_path)
    one, start = (load_file(folder / "model.safetensors") for folder in (result.folder, model))
    assert one.keys() == start.keys()
    changed_weights = {key for key in one if not torch.equal(one[key], start[key])}
    assert changed_weights
    assert all(key.endswith("weight") and "LayerNorm" not in key and "embeddings" not in key for key in changed_weights)


@pytest.mark.parametrize("name", TASKS)
def test_a_worker_reads_the_task_that_was_written(model, tasks, tmp_path, name):
    job = TrainingJob(tasks[name], str(model), Training(CPU, 3, tmp_path), "s", revision="main")
    assert TrainingJob.read(job.write()) == job
