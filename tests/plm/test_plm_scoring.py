"""The engine against one plain forward pass per token, for every family."""

import numpy as np
import pytest
import torch
from plm_models import CAUSAL, MASKED, SENTENCES

from fairloop.errors import Fault, UserError
from fairloop.plm.memory import FolderMemory
from fairloop.plm.model import LanguageModel, ScoreRequest
from fairloop.plm.scoring import token_scores


@torch.no_grad()
def plain_masked(model, tokenizer, sentence):
    """Salazar et al. 2020, equation 1: each token masked in turn, one whole forward pass each."""
    ids = tokenizer(sentence, return_tensors="pt")["input_ids"][0]
    inner = range(1, len(ids) - 1)
    scores = []
    for place in inner:
        variant = ids.clone()
        variant[place] = tokenizer.mask_token_id
        scores.append(torch.log_softmax(model(variant[None]).logits[0, place], dim=-1)[ids[place]].item())
    return scores


@torch.no_grad()
def plain_causal(model, tokenizer, sentence):
    """The chain rule, one prefix at a time."""
    ids = tokenizer(sentence, return_tensors="pt")["input_ids"][0]
    starts_itself = ids[0] == tokenizer.bos_token_id
    scores = []
    for place in range(1 if starts_itself else 0, len(ids)):
        prefix = ids[:place] if place else torch.tensor([tokenizer.bos_token_id])
        scores.append(torch.log_softmax(model(prefix[None]).logits[0, -1], dim=-1)[ids[place]].item())
    return scores


@pytest.mark.parametrize("family", MASKED + CAUSAL)
@pytest.mark.parametrize(("batch_tokens", "side"), [(1, "right"), (7 * 20, "left"), (64 * 40, "right")])
def test_equals_one_token_at_a_time(tiny_plm, family, batch_tokens, side):
    plm = tiny_plm(family, batch_tokens=batch_tokens)
    plm.tokenizer.padding_side = side
    sentences = [*SENTENCES, " leading space", "nurse", SENTENCES[0]]
    plain = plain_masked if plm.kind == "masked" else plain_causal
    for sentence, scores in zip(sentences, token_scores(plm, sentences), strict=True):
        expected = plain(plm.model, plm.tokenizer, sentence)
        assert len(scores.tokens) == len(expected)
        np.testing.assert_allclose(scores.log_probabilities, expected, atol=1e-5)


@pytest.mark.parametrize("family", MASKED + CAUSAL)
def test_the_models_differ_between_sentences(tiny_plm, family):
    totals = [scores.total for scores in token_scores(tiny_plm(family), SENTENCES)]
    assert len(set(np.round(totals, 3))) == len(SENTENCES)
    assert all(total < -1 for total in totals)


def test_words_split_into_several_tokens(tiny_plm):
    for family in MASKED + CAUSAL:
        plm = tiny_plm(family)
        assert any(
            len(encoded.words) > len(text.split()) + 3
            for encoded, text in zip(plm.encode(SENTENCES), SENTENCES, strict=True)
        )


def test_each_distinct_input_is_computed_once(tiny_plm, monkeypatch):
    plm = tiny_plm("bert")
    seen = []
    original = LanguageModel._score_batch

    def counting(self, model, inputs, pairs):
        seen.extend(inputs)
        return original(self, model, inputs, pairs)

    monkeypatch.setattr(LanguageModel, "_score_batch", counting)
    ids = plm.encode([SENTENCES[0]])[0].ids
    requests = [ScoreRequest(ids, (1, 2), (5, 6)), ScoreRequest(ids, (2,), (6,)), ScoreRequest(ids, (1, 1), (9, 5))]
    first, second, third = plm.score(requests)
    assert seen == [ids]
    assert first[1] == second[0]
    assert first[0] == third[1]


@pytest.mark.parametrize("family", ["bert", "distilbert", "gemma2"])
def test_a_large_vocabulary_is_computed_in_parts(tiny_plm, monkeypatch, family):
    plm = tiny_plm(family)
    whole = token_scores(plm, SENTENCES)
    monkeypatch.setattr("fairloop.plm.model._ROWS_AT_ONCE", 5)
    for one, two in zip(whole, token_scores(plm, SENTENCES), strict=True):
        np.testing.assert_allclose(one.log_probabilities, two.log_probabilities, atol=1e-5)


def test_progress_ends_complete(tiny_plm):
    calls = []
    token_scores(
        tiny_plm("bert", batch_tokens=100), SENTENCES, on_progress=lambda done, total: calls.append((done, total))
    )
    assert calls[-1][0] == calls[-1][1]
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)


def test_two_replicas_give_the_same(tiny_plm):
    import copy

    plm = tiny_plm("roberta", batch_tokens=120)
    pair = LanguageModel(plm.model, plm.tokenizer, "masked", batch_tokens=120, replicas=[copy.deepcopy(plm.model)])
    for one, two in zip(token_scores(plm, SENTENCES), token_scores(pair, SENTENCES), strict=True):
        np.testing.assert_array_equal(one.log_probabilities, two.log_probabilities)


class KilledError(Exception):
    pass


def test_a_killed_scoring_goes_on_and_ends_bit_for_bit_the_same(tiny_plm, tmp_path, monkeypatch):
    monkeypatch.setattr("fairloop.plm.model._BATCHES_BETWEEN_KEEPS", 2)
    plm = tiny_plm("bert", batch_tokens=60)
    whole = token_scores(plm, SENTENCES)
    counts = []

    def kill(done, total):
        counts.append(total)
        if len(counts) == 9:
            raise KilledError

    memory = FolderMemory(tmp_path)
    with pytest.raises(KilledError):
        token_scores(plm, SENTENCES, on_progress=kill, memory=memory)
    computed = []
    original = LanguageModel._score_batch

    def counting(self, model, inputs, pairs):
        computed.append(len(inputs))
        return original(self, model, inputs, pairs)

    monkeypatch.setattr(LanguageModel, "_score_batch", counting)
    resumed = token_scores(plm, SENTENCES, memory=memory)
    for one, two in zip(whole, resumed, strict=True):
        np.testing.assert_array_equal(one.log_probabilities, two.log_probabilities)
    again = token_scores(plm, SENTENCES, memory=memory)
    assert sum(computed) < counts[0]
    np.testing.assert_array_equal(again[0].log_probabilities, whole[0].log_probabilities)


def test_a_damaged_memory_is_computed_again(tiny_plm, tmp_path):
    plm = tiny_plm("bert")
    memory = FolderMemory(tmp_path)
    whole = token_scores(plm, SENTENCES, memory=memory)
    (file,) = tmp_path.glob("*.npy")
    file.write_bytes(file.read_bytes()[:200])
    again = token_scores(plm, SENTENCES, memory=memory)
    np.testing.assert_array_equal(again[3].log_probabilities, whole[3].log_probabilities)


def test_too_long_for_the_window_is_named(tiny_plm):
    plm = tiny_plm("bert", window=16)
    with pytest.raises(Fault, match="sentence 1: 'The nurse"):
        token_scores(plm, ["short", SENTENCES[0] * 3])


@pytest.mark.parametrize("family", ["bert", "roberta", "gpt2"])
def test_the_window_is_used_to_its_last_place(tiny_plm, family):
    plm = tiny_plm(family, window=16)
    assert plm.window == 16
    ids = tuple([5] * 16)
    assert np.isfinite(plm.score([ScoreRequest(ids, (15,), (6,))])[0]).all()
    with pytest.raises(Fault, match="17 tokens"):
        plm.score([ScoreRequest((*ids, 5), (3,), (6,))])


def test_nan_logits_name_the_item(tiny_plm):
    import copy

    plm = tiny_plm("bert")
    broken = copy.deepcopy(plm.model)
    with torch.no_grad():
        broken.cls.predictions.bias[3] = float("nan")
    damaged = LanguageModel(broken, plm.tokenizer, "masked", name="damaged")
    with pytest.raises(Fault, match=r"plm=damaged: .* not a finite number, at sentence 0"):
        token_scores(damaged, SENTENCES)


def test_no_mask_token_and_no_head_are_the_users_mistakes(tiny_plm):
    with pytest.raises(UserError, match="plm=gpt2: a masked protocol needs a masked language model"):
        _ = tiny_plm("gpt2").mask_id
    bert = tiny_plm("bert")
    encoder = LanguageModel(bert.model.base_model, bert.tokenizer, "encoder", name="minilm_encoder")
    with pytest.raises(UserError, match="no likelihoods"):
        encoder.score([ScoreRequest((2, 3), (0,), (1,))])


def test_nothing_asked_is_nothing_answered(tiny_plm):
    assert token_scores(tiny_plm("bert"), []) == []
    (scores,) = token_scores(tiny_plm("gpt2"), [""])
    assert scores.tokens == ()
    assert scores.total == 0
