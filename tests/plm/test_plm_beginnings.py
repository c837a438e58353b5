"""Shared beginnings against one whole input at a time, for every causal family."""

import types

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from plm_models import CAUSAL, SENTENCES, tiny

from fairloop.plm.beginnings import _masks, by_beginning, rows_of, shared_states, shares_beginnings
from fairloop.plm.model import LanguageModel, ScoreRequest

TOKENS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12).map(tuple), min_size=1, max_size=25, unique=True)


def width_of(inputs, row):
    """How many tokens the prefix tree of a row's inputs has, counted one by one."""
    return len({inputs[place][:end] for place, _ in row for end in range(1, len(inputs[place]) + 1)})


@settings(max_examples=150, deadline=None)
@given(inputs=TOKENS, budget=st.integers(1, 60), width=st.sampled_from([4, 10, 128]))
def test_rows_are_prefix_trees_and_batches_hold_each_input_once(inputs, budget, width):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fairloop.plm.beginnings._WIDTH", width)
        rows = rows_of(inputs)
        for row in rows:
            assert sum(len(inputs[place]) - shared for place, shared in row) == width_of(inputs, row)
            assert len(row) == 1 or width_of(inputs, row) <= max(width, max(shared for _, shared in row) + width // 2)
        batches = by_beginning(inputs, budget)
        assert [place for batch in batches for place in batch] == [place for row in rows for place, _ in row]
        for batch in batches:
            again = rows_of([inputs[place] for place in batch])
            assert [[(batch[place], shared) for place, shared in row] for row in again] == [
                row for row in rows if row[0][0] in batch
            ]
            size = len(again) * max(width_of([inputs[place] for place in batch], row) for row in again)
            assert size <= budget or len(again) == 1


@settings(max_examples=100, deadline=None)
@given(inputs=TOKENS, window=st.sampled_from([None, 3]))
def test_a_token_sees_the_beginning_of_its_own_input(inputs, window):
    """Masks of one row against each token's own prefix, found by walking the row."""
    (row,) = rows_of(inputs) if sum(map(len, inputs)) <= 128 else [rows_of(inputs)[0]]
    prefixes = list(dict.fromkeys(inputs[place][:end] for place, _ in row for end in range(1, len(inputs[place]) + 1)))
    depths = torch.tensor([[len(prefix) - 1 for prefix in prefixes] + [0, 0]])
    kinds = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": window} if window else {}
    model = torch.nn.Linear(1, 1)
    model.config = types.SimpleNamespace(**kinds)
    masks = _masks(model, depths)
    for kind in masks if window else [None]:
        seen = (masks[kind] if kind else masks)[0, 0] == 0
        near = window if kind == "sliding_attention" else 99
        expected = [
            [here[: len(there)] == there and len(here) - len(there) < near for there in prefixes] for here in prefixes
        ]
        assert seen[: len(prefixes), : len(prefixes)].tolist() == expected
        alone = torch.eye(len(depths[0]), dtype=torch.bool)[len(prefixes) :]
        assert seen[len(prefixes) :].tolist() == alone.tolist()


def test_answers_of_a_question_share_it_and_short_inputs_a_row():
    question = tuple(range(40))
    inputs = [(*question, 50, 51), (7, 8, 9), (*question, 52), (*question, 50, 53, 54), question]
    assert rows_of(inputs) == [[(4, 0), (0, 40), (3, 41), (2, 40), (1, 0)]]
    long = tuple(range(150))
    assert rows_of([(*long, 1), (*long, 2), (7, 8)]) == [[(0, 0), (1, 150)], [(2, 0)]]


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
    assert len(rows_of(inputs)) < len(inputs)
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
