"""The sampler against transformers' own processors, and its samples against its probabilities."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from fairloop.generation import sampler
from fairloop.generation.sampler import Sampling, choose_candidates, sample


def theirs(logits, sampling, seen):
    """Probabilities [rows, vocabulary] that `generate` samples from."""
    steps = LogitsProcessorList()
    if sampling.repetition_penalty != 1.0:
        steps.append(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    steps.append(TemperatureLogitsWarper(sampling.temperature))
    if sampling.top_k:
        steps.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1.0:
        steps.append(TopPLogitsWarper(sampling.top_p))
    return steps(torch.tensor(seen), logits.float()).double().softmax(-1)


def ours(logits, sampling, seen):
    candidates = choose_candidates(logits, sampling, seen)
    return torch.zeros(logits.shape, dtype=torch.float64).scatter_add_(1, candidates.ids, candidates.probabilities)


def same_distribution(expected, got, *, atol=1e-5):
    """Equal probabilities token by token; of several equally likely tokens at top-p's border, equally many are kept.

    Which of those equals stay is left open by transformers: it sorts with an unstable `torch.sort`.
    """
    for theirs_row, ours_row in zip(expected, got, strict=True):
        if not torch.allclose(theirs_row.sort()[0], ours_row.sort()[0], atol=atol, rtol=1e-3):
            return False
        border = theirs_row[theirs_row > 0].min()
        inner = (theirs_row > border * 1.0001) | (ours_row > border * 1.0001)
        if not torch.allclose(theirs_row[inner], ours_row[inner], atol=atol, rtol=1e-3):
            return False
    return True


def random_logits(seed, rows, vocabulary, *, spread=3.0, decimals=None, dtype=torch.float32):
    values = np.random.default_rng(seed).normal(0, spread, (rows, vocabulary))
    if decimals is not None:
        values = values.round(decimals)
    return torch.tensor(values).to(dtype)


@given(
    seed=st.integers(0, 10_000),
    vocabulary=st.sampled_from([5, 40, 300]),
    decimals=st.sampled_from([None, 0, 1]),
    temperature=st.sampled_from([0.01, 0.3, 0.7, 1.0, 2.5, 100.0]),
    top_k=st.sampled_from([0, 1, 3, 20, 1000]),
    top_p=st.sampled_from([1.0, 0.95, 0.6, 0.05]),
    penalty=st.sampled_from([1.0, 1.3, 0.7]),
)
@settings(max_examples=150, deadline=None)
def test_probabilities_equal_those_of_transformers(seed, vocabulary, decimals, temperature, top_k, top_p, penalty):
    logits = random_logits(seed, 3, vocabulary, decimals=decimals)
    seen = np.random.default_rng(seed + 1).integers(0, vocabulary, (3, 6)).tolist()
    sampling = Sampling(temperature, top_k, top_p, penalty)
    expected, got = theirs(logits, sampling, seen), ours(logits, sampling, seen)
    for row in range(3):
        if same_distribution(expected[row : row + 1], got[row : row + 1]):
            continue
        # A token exactly on top-p's border may fall on either side by the rounding of a float32 sum.
        assert top_p < 1.0
        assert _lies_on_the_border(logits[row : row + 1], sampling, [seen[row]], got[row : row + 1])


def _lies_on_the_border(logits, sampling, seen, got):
    for shift in (-2e-6, 2e-6):
        moved = Sampling(sampling.temperature, sampling.top_k, sampling.top_p + shift, sampling.repetition_penalty)
        if same_distribution(theirs(logits, moved, seen), got):
            return True
    return False


@pytest.mark.parametrize("top_k", [1, 40, 200])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_large_vocabulary_takes_the_short_cut_to_the_same_result(top_k, dtype):
    logits = random_logits(5, 4, 40_007, dtype=dtype)
    assert logits.shape[1] // 32 > 4 * (top_k + 32)
    sampling = Sampling(0.9, top_k, 0.97)
    assert same_distribution(theirs(logits, sampling, [[0]] * 4), ours(logits, sampling, [[0]] * 4))


def test_ties_that_reach_far_beyond_k_are_all_kept():
    logits = torch.zeros(2, 9_000)
    logits[0, 17] = 2.0
    sampling = Sampling(1.0, 10, 1.0)
    got = ours(logits, sampling, [[0]] * 2)
    assert int((got[1] > 0).sum()) == 9_000
    torch.testing.assert_close(got, theirs(logits, sampling, [[0]] * 2), atol=1e-7, rtol=1e-4)


@pytest.mark.parametrize("spread", [0.01, 8.0])
def test_nuclei_wide_and_narrow_in_a_large_vocabulary(spread):
    logits = random_logits(3, 2, 20_000, spread=spread)
    sampling = Sampling(1.0, 0, 0.9)
    torch.testing.assert_close(
        ours(logits, sampling, [[0]] * 2), theirs(logits, sampling, [[0]] * 2), atol=1e-6, rtol=1e-3
    )


@pytest.mark.parametrize("sampling", [Sampling(1.3, 12, 1.0), Sampling(0.8, 0, 0.9), Sampling(1.0, 0, 1.0)])
def test_samples_follow_the_probabilities(sampling):
    logits = random_logits(11, 1, 60, spread=1.5)
    draws = 40_000
    uniforms = torch.tensor(np.random.Generator(np.random.Philox(7)).random(draws))
    drawn = sample(logits.expand(draws, -1), uniforms, sampling)
    counts = torch.bincount(drawn, minlength=60).double()
    expected = theirs(logits, sampling, [[0]])[0] * draws
    assert int(counts[expected == 0].sum()) == 0
    rare = expected < 5
    observed = [*counts[~rare].tolist(), float(counts[rare].sum())]
    wanted = [*expected[~rare].tolist(), float(expected[rare].sum())]
    if wanted[-1] == 0:
        observed, wanted = observed[:-1], wanted[:-1]
    assert chisquare(observed, wanted).pvalue > 1e-3


@pytest.mark.parametrize("uniform", [0.0, 0.5, 1.0 - 2**-53])
@pytest.mark.parametrize("sampling", [Sampling(1.0, 5, 0.9), Sampling(1.0, 0, 1.0)])
def test_the_ends_of_the_unit_interval_give_possible_tokens(uniform, sampling):
    logits = random_logits(2, 8, 1_300)
    drawn = sample(logits, torch.full((8,), uniform, dtype=torch.float64), sampling)
    possible = theirs(logits, sampling, [[0]] * 8)
    assert bool((possible.gather(1, drawn[:, None]) > 0).all())


def test_a_rows_draw_does_not_depend_on_its_neighbours():
    logits, uniforms = random_logits(4, 6, 5_000), torch.rand(6, dtype=torch.float64)
    together = sample(logits, uniforms, Sampling(1.0, 30, 0.95))
    alone = [int(sample(logits[i : i + 1], uniforms[i : i + 1], Sampling(1.0, 30, 0.95))) for i in range(6)]
    assert together.tolist() == alone


def test_temperature_zero_takes_the_likeliest():
    logits = torch.tensor([[0.0, 3.0, 3.0, 1.0]])
    assert sample(logits, torch.tensor([0.99], dtype=torch.float64), Sampling(0.0)).tolist() == [1]


def test_greedy_with_a_repetition_penalty():
    logits = torch.tensor([[2.0, 1.9, -1.0]])
    drawn = sample(logits, torch.zeros(1, dtype=torch.float64), Sampling(0.0, repetition_penalty=2.0), [[0, 0]])
    assert drawn.tolist() == [1]


def test_the_penalty_needs_the_ids_seen():
    with pytest.raises(ValueError, match="seen"):
        sampler.sample(torch.zeros(1, 3), torch.zeros(1), Sampling(repetition_penalty=1.1))
