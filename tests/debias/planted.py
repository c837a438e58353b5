"""A toy language with rules, a masked language model that half knows them, and pairs that keep or break them.

A key is followed by its value: "the k3 v3". The neutral text follows the rule. Pairs are *helpful* if they state it,
*harmful* if they give a key another key's value, and *useless* if they state the rule of words that the neutral text
does not have and the model knows.
"""

import numpy as np
import torch

from fairloop.debias.pairs import Pair
from tiny_models import tiny_masked_lm

KEYS = 6
NOISE = 0.5  # share of the texts that teach the model a key with any value: it believes in the rule, and not too much
TARGETS = tuple(f"t{n}" for n in range(4))
WORDS = sorted({*(f"{kind}{n}" for kind in "kvow" for n in range(KEYS)), *TARGETS, *["the", "and", "he", "she", "saw"]})
KINDS = ("helpful", "useless", "harmful")


def neutral():
    return [f"the k{n} v{n} and" for n in range(KEYS)]


def pairs(of_each=24):
    """Pairs, and what each of them is."""
    made, what = [], []
    for n in range(3 * of_each):
        kind, key = KINDS[n % 3], n // 3 % KEYS
        value = (key + 1 + n // 3 // KEYS % (KEYS - 1)) % KEYS if kind == "harmful" else key
        words = f"o{key} w{key}" if kind == "useless" else f"k{key} v{value}"
        target = TARGETS[n // 3 % len(TARGETS)]
        sides = [f"{who} saw {target} the {words} and" for who in ("he", "she")]
        made.append(Pair(n, *sides, target, "occupation", "he/she", "template"))
        what.append(kind)
    return made, np.array(what)


def text(draw):
    """One sentence of the teaching: about keys, half of them at random, or about the other words, always right."""
    key = int(draw.integers(KEYS))
    value = int(draw.integers(KEYS)) if draw.random() < NOISE else key
    words = f"o{key} w{key}" if draw.random() < 0.5 else f"k{key} v{value}"
    person = f"{draw.choice(['he', 'she'])} saw {draw.choice(TARGETS)} " if draw.random() < 0.5 else ""
    return f"{person}the {words} and"


def teach(model, tokenizer, steps, seed=0, rate=5e-3):
    """Train on masked tokens of such sentences."""
    draw, optimizer = np.random.default_rng(seed), torch.optim.Adam(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, steps)
    for _ in range(steps):
        batch = tokenizer([text(draw) for _ in range(32)], padding=True, return_tensors="pt")
        hidden = torch.from_numpy(draw.random(batch["input_ids"].shape) < 0.3) & (batch["attention_mask"] == 1)
        labels = batch["input_ids"].masked_fill(~hidden, -100)
        ids = batch["input_ids"].masked_fill(hidden, tokenizer.mask_token_id)
        loss = model(input_ids=ids, attention_mask=batch["attention_mask"], labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def half_taught(folder, steps=400):
    """Return a tiny masked language model that was taught so, and its tokenizer."""
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    tiny_masked_lm(folder, words=WORDS, spread=0.05)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = teach(AutoModelForMaskedLM.from_pretrained(folder), tokenizer, steps)
    model.save_pretrained(folder)
    return model, tokenizer
