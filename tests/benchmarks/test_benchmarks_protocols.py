"""The rules that docs/protocols.md compares, written out one sentence at a time, and the figures that it quotes."""

import csv
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from fairloop.plm.scoring import causal_protocol, token_scores

PAGE = Path(__file__).parents[2] / "docs" / "protocols.md"


@torch.no_grad()
def log_probabilities(plm, ids):
    """Log probability of every token but the first, given those before it."""
    found = torch.log_softmax(plm.model(torch.tensor([ids])).logits[0], -1)
    return [found[place - 1, ids[place]].item() for place in range(1, len(ids))]


def bias_bench(plm, sentence):
    ids, start = plm.tokenizer.encode(sentence), plm.tokenizer.bos_token_id
    return np.mean(log_probabilities(plm, [start, ids[0]]) + log_probabilities(plm, ids))


def lm_evaluation_harness(plm, sentence):
    return sum(log_probabilities(plm, [plm.tokenizer.bos_token_id, *plm.tokenizer.encode(sentence)]))


def test_the_figures_of_the_page(tiny_plm, benchmark_data):
    plm = tiny_plm("gpt2", window=512)
    with (benchmark_data / "crows_pairs" / "crows_pairs_anonymized.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["bias_type"] == "gender"]
    pairs = [(row["sent_more"], row["sent_less"]) for row in itertools.islice(rows, 60)]
    ours = np.reshape([one.mean for one in token_scores(plm, [text for pair in pairs for text in pair])], (-1, 2))
    rules = {rule: np.array([[rule(plm, text) for text in pair] for pair in pairs]) for rule in (
        bias_bench, lm_evaluation_harness,
    )}  # fmt: skip
    assert ours == pytest.approx(rules[bias_bench], abs=1e-5)
    page = PAGE.read_text(encoding="utf-8").replace("−", "-")
    for name, scores in (("bias-bench", rules[bias_bench]), ("Fairloop, `meade2022`", ours)):
        assert f"| {name} | {100 * np.mean(scores[:, 0] > scores[:, 1]):.1f}% | {scores[0, 0]:.3f}, " in page
    harness = rules[lm_evaluation_harness]
    share = 100 * np.mean(harness[:, 0] > harness[:, 1])
    assert f"| lm-evaluation-harness | {share:.1f}% | {harness[0, 0]:.3f}, {harness[0, 1]:.3f} (sum) |" in page


@pytest.mark.parametrize(
    ("family", "name"), [("gpt2", "meade2022"), ("gemma3", "meade2022_bos"), ("bert", "meade2022")]
)
def test_the_protocols_name_says_whether_the_start_token_stays(tiny_plm, family, name):
    assert causal_protocol(tiny_plm(family), "meade2022") == name
