"""Inference-time debiasing against plain loops: scores, embeddings and the next-sentence head of debiased folders."""

import json

import numpy as np
import pytest
import torch
from plm_models import CAUSAL, MASKED, SENTENCES, tiny

from fairloop.errors import Fault, UserError
from fairloop.plm.encoder import SentenceEncoder
from fairloop.plm.inference_time import (
    RECORD,
    TENSORS,
    Projection,
    rescale,
    write_projection,
    write_projections,
    write_record,
)
from fairloop.plm.model import LanguageModel
from fairloop.plm.scoring import token_scores
from fairloop.plm.settings import PlmSettings

PROMPTS = ("the nurse said:", "men and women")


def save(folder, family):
    model, tokenizer, _ = tiny(family)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


BASIS = np.linalg.qr(np.random.default_rng(0).normal(size=(32, 3)))[0]


def projection():
    return np.eye(32) - BASIS @ BASIS.T


def projected(folder, family):
    save(folder, family)
    write_projection(folder, BASIS)
    write_record(folder, "projection", "inlp", {})
    return str(folder)


def self_debiased(folder, family, decay=20.0, prompts=PROMPTS):
    save(folder, family)
    write_record(folder, "self_debias", "self_debias", {"prompts": list(prompts), "decay": decay, "epsilon": 0.01})
    return str(folder)


def load(path):
    return LanguageModel.load(PlmSettings(name="debiased", path=path, device="cpu", batch_tokens=150))


def variants(tokenizer, kind, sentence):
    """Inputs, and for each the place whose output is looked at and the token that is expected there."""
    ids = tokenizer(sentence)["input_ids"]
    if kind == "masked":
        for place in range(1, len(ids) - 1):
            yield [*ids[:place], tokenizer.mask_token_id, *ids[place + 1 :]], place, ids[place]
    else:
        first = 1 if ids[0] == tokenizer.bos_token_id else 0
        for place in range(first, len(ids)):
            yield ids[:place] or [tokenizer.bos_token_id], -1, ids[place]


@torch.no_grad()
def head_alone(model, hidden):
    """The family's head, written out: what the whole model does after its last layer."""
    if hasattr(model, "cls"):
        return model.cls(hidden)
    if hasattr(model, "predictions"):
        return model.predictions(hidden)
    if hasattr(model, "vocab_projector"):
        return model.vocab_projector(model.vocab_layer_norm(model.activation(model.vocab_transform(hidden))))
    logits = model.lm_head(hidden)
    cap = getattr(model.config, "final_logit_softcapping", None)
    return cap * torch.tanh(logits / cap) if cap else logits


@pytest.mark.parametrize("family", MASKED + CAUSAL)
def test_projected_scores_equal_the_head_on_projected_states(tmp_path, family):
    model, tokenizer, kind = tiny(family)
    plm = load(projected(tmp_path, family))
    assert plm.kind == kind
    if family == "gemma2":  # the saved folder is loaded with the attention kernel that has the soft cap
        model = plm.model.__class__.from_pretrained(tmp_path, attn_implementation="eager").eval()
    matrix = torch.tensor(projection(), dtype=torch.float32)
    sentences = SENTENCES[:3]
    for sentence, scores in zip(sentences, token_scores(plm, sentences), strict=True):
        expected = []
        for ids, place, token in variants(tokenizer, kind, sentence):
            with torch.no_grad():
                hidden = model.base_model(torch.tensor([ids])).last_hidden_state[:, place]
            expected.append(torch.log_softmax(head_alone(model, hidden @ matrix.T), dim=-1)[0, token].item())
        np.testing.assert_allclose(scores.log_probabilities, expected, atol=2e-5)


def affine(seed):
    """A projection along slanted directions about a point that is not the origin, and the map written out."""
    random = np.random.default_rng(seed)
    right = random.normal(size=(32, 2))
    left = random.normal(size=(32, 2))
    left = left @ np.linalg.inv(right.T @ left)
    mean = random.normal(size=32)
    return Projection(left, right, mean), lambda states: states - (states - mean) @ right @ left.T


def layer_by_layer(model, ids, between):
    """A model's final hidden states, its layers called one after the other, with `between` behind each."""
    ids = torch.tensor([ids])
    if model.config.model_type == "bert":
        base, states = model.bert, model.bert.embeddings(input_ids=ids)
        blocks, last = base.encoder.layer, lambda states: states
    else:
        base = model.transformer
        states = base.wte(ids) + base.wpe(torch.arange(ids.shape[1]))[None]
        blocks, last = base.h, base.ln_f
    for number, block in enumerate(blocks):
        out = block(states)
        states = out[0] if isinstance(out, tuple) else out
        if number == len(blocks) - 1:
            states = last(states)
        states = between(number, states)
    return states[0]


@torch.no_grad()
@pytest.mark.parametrize("inner", [False, True], ids=["final", "every layer"])
@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_affine_projections_equal_the_maps_written_out(tmp_path, family, inner):
    model, tokenizer, kind = tiny(family)
    folder = save(tmp_path, family)
    chosen = [affine(0), affine(1)] if inner else [affine(1)]
    write_projections(folder, [one for one, _ in chosen])
    write_record(folder, "projection", "leace", {})
    plm = load(str(folder))

    def between(number, states):
        place = number if inner else number - 1
        return torch.tensor(chosen[place][1](states.double().numpy())).float() if place >= 0 else states

    for sentence, scores in zip(SENTENCES[:2], token_scores(plm, SENTENCES[:2]), strict=True):
        expected = []
        for ids, place, token in variants(tokenizer, kind, sentence):
            hidden = layer_by_layer(model, ids, between)[place]
            expected.append(torch.log_softmax(head_alone(model, hidden[None]), dim=-1)[0, token].item())
        np.testing.assert_allclose(scores.log_probabilities, expected, atol=5e-4)
    vector = layer_by_layer(model, tokenizer(SENTENCES[0])["input_ids"], between).mean(dim=0)
    np.testing.assert_allclose(plm.encoder.embed(SENTENCES[:1])[0], vector, atol=1e-4)


def test_projections_of_every_layer_have_to_fit_the_model(tmp_path):
    folder = save(tmp_path / "albert", "albert")
    write_projections(folder, [affine(0)[0], affine(1)[0]])
    write_record(folder, "projection", "leace", {})
    with pytest.raises(UserError, match="albert: this family has no module of its own for each layer"):
        load(str(folder))
    folder = save(tmp_path / "bert", "bert")
    write_projections(folder, [affine(number)[0] for number in range(3)])
    write_record(folder, "projection", "leace", {})
    with pytest.raises(Fault, match=r"projections of 3 layers for a model of 2$"):
        load(str(folder))


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_projected_embeddings_lie_in_the_null_space(tmp_path, family):
    path = projected(tmp_path, family)
    model, tokenizer, _ = tiny(family)
    plain = SentenceEncoder(model.base_model, tokenizer).embed(SENTENCES)
    for encoder in (SentenceEncoder.load(path), load(path).encoder):
        np.testing.assert_allclose(encoder.embed(SENTENCES), plain @ projection(), atol=1e-5)
    assert not np.allclose(plain, plain @ projection(), atol=1e-2)


def test_a_projection_reaches_copies_and_is_not_saved_with_the_weights(tmp_path):
    import copy

    plm = load(projected(tmp_path / "debiased", "bert"))
    pair = LanguageModel(plm.model, plm.tokenizer, "masked", batch_tokens=60, replicas=[copy.deepcopy(plm.model)])
    for one, two in zip(token_scores(plm, SENTENCES), token_scores(pair, SENTENCES), strict=True):
        np.testing.assert_allclose(one.log_probabilities, two.log_probabilities, atol=1e-5)
    plm.model.save_pretrained(tmp_path / "again")
    from safetensors import safe_open

    with safe_open(tmp_path / "again" / "model.safetensors", "pt") as file:
        assert not any("projection" in name and "fairloop" in name for name in file.keys())  # noqa: SIM118


def test_a_debiased_folder_loads_without_fairloop(tmp_path):
    from transformers import AutoModelForMaskedLM

    model, _, _ = tiny("bert")
    plain = AutoModelForMaskedLM.from_pretrained(projected(tmp_path, "bert"))
    for one, two in zip(model.state_dict().values(), plain.state_dict().values(), strict=True):
        assert torch.equal(one, two)


def test_the_next_sentence_head_sees_the_projection(tmp_path):
    from transformers import BertForPreTraining

    from fairloop.plm.next_sentence import next_sentence_probabilities

    _, tokenizer, _ = tiny("bert")
    torch.manual_seed(0)
    whole = BertForPreTraining(tiny("bert")[0].config).eval()
    whole.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    write_projection(tmp_path, BASIS)
    write_record(tmp_path, "projection", "inlp", {})
    plm = load(str(tmp_path))
    pair = ("the nurse said", "he was kind")
    with torch.no_grad():
        hidden = whole.bert(**tokenizer(*pair, return_tensors="pt", return_token_type_ids=True)).last_hidden_state
        pooled = whole.bert.pooler(hidden @ torch.tensor(projection(), dtype=torch.float32))
        expected = whole.cls.seq_relationship(pooled).softmax(dim=-1)[0, 0].item()
    np.testing.assert_allclose(next_sentence_probabilities(plm, [pair]), [expected], atol=1e-5)


def test_damaged_files_are_named(tmp_path):
    path = projected(tmp_path, "bert")
    (tmp_path / TENSORS).write_bytes(b"short")
    with pytest.raises(Fault, match=f"{TENSORS}: missing or damaged"):
        load(path)
    write_projection(tmp_path, np.eye(4)[:, :2])
    with pytest.raises(Fault, match=r"a basis \(4, 2\) for a model of width 32"):
        load(path)
    for text in ("{", json.dumps({"kind": "projection"}), json.dumps({"kind": "x", "method": "y", "settings": {}})):
        (tmp_path / RECORD).write_text(text)
        with pytest.raises(Fault, match=RECORD):
            load(path)


# self-debiasing


@torch.no_grad()
def brute_force(model, tokenizer, kind, sentence, decay, epsilon, prompts=PROMPTS):
    """Schick et al. 2021 word by word: one forward pass each, the text behind a prompt tokenised as one text."""
    starts = {tokenizer.cls_token_id, tokenizer.bos_token_id} - {None}
    scores = []
    for ids, place, token in variants(tokenizer, kind, sentence):
        p = model(torch.tensor([ids])).logits[0, place].double().softmax(dim=-1)
        behind = []
        for prompt in prompts:
            extra = tokenizer(prompt + "\n", add_special_tokens=False)["input_ids"]
            cut = 1 if ids[0] in starts else 0
            longer = ids[:cut] + extra + ids[cut:]
            at = place + len(extra) if place >= 0 else place
            behind.append(model(torch.tensor([longer])).logits[0, at].double().softmax(dim=-1))
        weighted = []
        for word in range(len(p)):
            delta = min(float(p[word] - q[word]) for q in behind)
            alpha = 1.0 if delta >= 0 else max(np.exp(decay * delta), epsilon)
            weighted.append(alpha * float(p[word]))
        scores.append(np.log(weighted[token] / sum(weighted)))
    return scores


@pytest.mark.parametrize("family", MASKED + CAUSAL)
def test_self_debiased_scores_equal_the_formula(tmp_path, monkeypatch, family):
    monkeypatch.setattr("fairloop.plm.model._ROWS_AT_ONCE", 7)
    plm = load(self_debiased(tmp_path, family))
    plain = LanguageModel(plm.model, plm.tokenizer, plm.kind)
    sentences = SENTENCES[:2]
    moved = 0.0
    for sentence, scores in zip(sentences, token_scores(plm, sentences), strict=True):
        expected = brute_force(plm.model, plm.tokenizer, plm.kind, sentence, 20.0, 0.01)
        np.testing.assert_allclose(scores.log_probabilities, expected, atol=2e-5)
        untouched = token_scores(plain, [sentence])[0].log_probabilities
        moved = max(moved, float(np.abs(scores.log_probabilities - untouched).max()))
    assert moved > 0.1  # the test would see nothing if the prompts changed nothing


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_a_text_behind_a_prompt_is_tokenised_as_one_text(tmp_path, family):
    plm = load(self_debiased(tmp_path, family))
    ids = tuple(plm.tokenizer(SENTENCES[0])["input_ids"])
    for prompt, tokens in zip(PROMPTS, plm.self_debiasing.prompts, strict=True):
        assert list(plm.self_debiasing.behind(tokens, ids)) == plm.tokenizer(f"{prompt}\n{SENTENCES[0]}")["input_ids"]


def test_rescaling_by_hand():
    plain = torch.tensor([[0.5, 0.3, 0.2]]).log()
    biased = torch.tensor([[0.5, 0.1, 0.4]]).log()
    # Only the third word gains behind the prompt: α = exp(−λ·0.2).
    alpha = np.exp(-2.0)
    expected = np.array([0.5, 0.3, 0.2 * alpha]) / (0.8 + 0.2 * alpha)
    np.testing.assert_allclose(rescale(plain, [biased], 10.0, 0.01)[0].exp(), expected, rtol=1e-6)
    np.testing.assert_allclose(rescale(plain, [biased], 0.0, 0.01)[0], plain[0], rtol=1e-6)
    floor = np.array([0.5, 0.3, 0.2 * 0.01]) / (0.8 + 0.2 * 0.01)
    np.testing.assert_allclose(rescale(plain, [biased], 1e6, 0.01)[0].exp(), floor, rtol=1e-5)


def test_self_debiasing_leaves_embeddings_alone_and_shortens_the_window(tmp_path):
    plm = load(self_debiased(tmp_path / "a", "bert"))
    model, tokenizer, _ = tiny("bert")
    plain = SentenceEncoder(model.base_model, tokenizer).embed(SENTENCES)
    np.testing.assert_allclose(plm.encoder.embed(SENTENCES), plain, atol=1e-6)
    longest = max(len(tokenizer(f"{prompt}\n", add_special_tokens=False)["input_ids"]) for prompt in PROMPTS)
    assert plm.window == 64 - longest
    with pytest.raises(UserError, match=r"debias\.prompts: one has \d+ tokens, and plm=debiased takes 64"):
        load(self_debiased(tmp_path / "b", "bert", prompts=("nurse " * 70,)))
