"""Shared beginnings against one whole input at a time, for every causal family."""

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from plm_models import CAUSAL, SENTENCES, tiny

from fairloop.plm.beginnings import by_beginning, groups_of, shared_states, shares_beginnings
from fairloop.plm.model import LanguageModel, ScoreRequest

TOKENS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12).map(tuple), min_size=1, max_size=25, unique=True)


@settings(max_examples=150, deadline=None)
@given(inputs=TOKENS, budget=st.integers(1, 60))
def test_groups_share_what_they_say_and_batches_hold_each_input_once(inputs, budget):
    for shared, members in groups_of(inputs):
        assert len({inputs[place][:shared] for place in members}) == 1
        assert all(2 * shared >= len(inputs[place]) for place in members)
    places = [place for _, members in groups_of(inputs) for place in members]
    assert sorted(places) == list(range(len(inputs)))
    batches = by_beginning(inputs, budget)
    assert sorted(place for batch in batches for place in batch) == list(range(len(inputs)))


def test_answers_of_a_question_share_it():
    question = tuple(range(40))
    inputs = [(*question, 50, 51), (7, 8, 9), (*question, 52), (*question, 50, 53, 54), question]
    assert groups_of(inputs) == [(40, [4, 0, 3, 2]), (3, [1])]


def branching(tokenizer):
    """Texts with a shared beginning and other ends, one of them the beginning itself, and some that stand alone."""
    begin = "The nurse said that she would help the developer with his"
    texts = [begin, f"{begin} work.", f"{begin} book about mothers", f"{begin} book.", *SENTENCES[1:4]]
    return [tuple(tokenizer(text)["input_ids"]) for text in texts]


@torch.no_grad()
@pytest.mark.parametrize("family", CAUSAL)
def test_scores_equal_one_whole_input_at_a_time(family):
    model, tokenizer, kind = tiny(family)
    assert shares_beginnings(model.base_model)
    inputs = branching(tokenizer)
    assert len(groups_of(inputs)) < len(inputs)
    plm = LanguageModel(model, tokenizer, kind, batch_tokens=300)
    requests = [ScoreRequest(ids, tuple(range(len(ids) - 1)), ids[1:]) for ids in inputs]
    for ids, answer in zip(inputs, plm.score(requests), strict=True):
        log_probabilities = torch.log_softmax(model(torch.tensor([ids])).logits[0], dim=-1)
        expected = [log_probabilities[place, ids[place + 1]].item() for place in range(len(ids) - 1)]
        np.testing.assert_allclose(answer, expected, atol=2e-5)


@torch.no_grad()
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_families_with_rotary_positions(family):
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    config = {"llama": transformers.LlamaConfig, "qwen2": transformers.Qwen2Config}[family](
        vocab_size=60, num_key_value_heads=2, initializer_range=0.3, max_position_embeddings=64, **sizes
    )
    torch.manual_seed(0)
    model = transformers.AutoModel.from_config(config).eval()
    draw = np.random.default_rng(0)
    begin = draw.integers(60, size=15).tolist()
    inputs = [tuple(begin + draw.integers(60, size=size).tolist()) for size in (3, 1, 6, 4)]
    asked = np.arange(sum(map(len, inputs)))
    together = shared_states(model, inputs, 0, asked).numpy()
    one_by_one = [model(torch.tensor([ids])).last_hidden_state[0].numpy() for ids in inputs]
    np.testing.assert_allclose(together, np.concatenate(one_by_one), atol=2e-5)
