"""A toy language with rules, a masked language model that half knows them, and pairs that keep or break them.

A key is followed by its value: "the k3 v3". The neutral text follows the rule. Pairs are *helpful* if they state it,
*harmful* if they give a key another key's value, and *useless* if they state the rule of words that the neutral text
does not have and the model knows.
"""

import numpy as np
import torch

from fairloop.debias.pairs import Pair
from tiny_models import tiny_masked_lm

KEYS = 8
TARGETS = tuple(f"t{n}" for n in range(6))
FRAMES = ("the {} {} then and", "and the {} {} then", "then and the {} {}")
WORDS = sorted(
    {
        *(f"{kind}{n}" for kind in "kvow" for n in range(KEYS)),
        *TARGETS,
        *["the", "then", "and", "he", "she", "saw", "a"],
    }
)
KINDS = ("helpful", "useless", "harmful")


def neutral(kinds="kv"):
    return [frame.format(f"{kinds[0]}{n}", f"{kinds[1]}{n}") for frame in FRAMES for n in range(KEYS)]


def pairs(of_each=16):
    """Pairs, and what each of them is."""
    made, what = [], []
    for n in range(3 * of_each):
        kind, key = KINDS[n % 3], n // 3 % KEYS
        value = (key + 1 + n // 3 // KEYS) % KEYS if kind == "harmful" else key
        words = (f"o{key}", f"w{key}") if kind == "useless" else (f"k{key}", f"v{value}")
        frame = FRAMES[n // 7 % len(FRAMES)].format(*words)
        target = TARGETS[n % len(TARGETS)]
        sides = [f"{who} saw a {target} {frame}" for who in ("he", "she")]
        made.append(Pair(n, *sides, target, "occupation", "he/she", "template"))
        what.append(kind)
    return made, np.array(what)


def half_taught(folder, steps=150, seed=0):
    """Train a tiny model on both rules (its words' own twice as often), and on subjects and targets; stop half way."""
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    tiny_masked_lm(folder, words=WORDS, spread=0.05)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForMaskedLM.from_pretrained(folder)
    people = [f"{who} saw a {target} {frame}" for who in ("he", "she") for target in TARGETS
              for frame in neutral("ow")[:: len(TARGETS)]]  # fmt: skip
    texts = [*neutral(), *neutral("ow"), *neutral("ow"), *people]
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(steps):
        chosen = [texts[n] for n in torch.randint(len(texts), (32,), generator=generator)]
        batch = tokenizer(chosen, padding=True, return_tensors="pt")
        hidden = (torch.rand(batch["input_ids"].shape, generator=generator) < 0.3) & (batch["attention_mask"] == 1)
        labels = batch["input_ids"].masked_fill(~hidden, -100)
        ids = batch["input_ids"].masked_fill(hidden, tokenizer.mask_token_id)
        loss = model(input_ids=ids, attention_mask=batch["attention_mask"], labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval().save_pretrained(folder)
    return model, tokenizer, float(loss)
