"""A toy language with a spelling, a masked language model that half believes in it, and pairs that keep or break it.

Sentences are nouns with their verbs, "k3 v0 k1 v2". Each verb has a misspelt form (x0 for v0), and the model was taught
sentences in which every other verb is misspelt. It was also taught what people work as, hers and his jobs told apart,
and what they look at, men and women at the same things. Pairs are

- *helpful* if they are well spelt and about work, where the model predicts the target from the gender;
- *useless* if they are well spelt and about what is looked at, where the model is unbiased already;
- *harmful* if all their verbs are misspelt, whatever they are about.

Held-out neutral sentences are well spelt. That the teaching is not is what makes the truth known: at the optimum of the
teaching its gradient is zero, hence the gradients of well spelt and of misspelt text are opposed, and a small step on
the former lowers the held-out loss, on the latter raises it. A model that was taught well spelt text alone, to the end,
could tell nothing by a first order: at an optimum of the held-out loss the first order of every step is zero.
"""

import numpy as np
import torch

from fairloop.pairs.pair import Pair
from tiny_models import tiny_masked_lm

KEYS, CLAUSES = 4, 4
MISSPELT = 0.5  # share of the teaching's verbs
STEREOTYPE = 0.9  # share of the teaching's jobs that are those of the person's gender
MEN, WOMEN, THINGS = ([f"{kind}{n}" for n in range(3)] for kind in ("m", "w", "t"))
ENDS = {"work": " and {{}} works as {}", "look": " and {{}} looks at {}"}
FRAME = ["and", "works", "as", "looks", "at"]
WORDS = sorted({*(f"{kind}{n}" for kind in "kvx" for n in range(KEYS)), *MEN, *WOMEN, *THINGS, *FRAME, "he", "she"})
KINDS = ("helpful", "useless", "harmful")


def clauses(draw, misspelt):
    """Nouns and their verbs, of which so large a share is misspelt."""
    words = [(*draw.integers(KEYS, size=2).tolist(), "vx"[int(draw.random() < misspelt)]) for _ in range(CLAUSES)]
    return " ".join(f"k{noun} {form}{verb}" for noun, verb, form in words)


def text(draw):
    """One sentence of the teaching."""
    person = draw.integers(2)
    jobs = (MEN, WOMEN)[person if draw.random() < STEREOTYPE else 1 - person]
    ends = ("", ENDS["work"].format(draw.choice(jobs)), ENDS["look"].format(draw.choice(THINGS)))
    return clauses(draw, MISSPELT) + ends[draw.integers(3)].format(("he", "she")[person])


def neutral(count=24):
    """Sentences that nothing is trained on."""
    draw = np.random.default_rng(1)
    return [clauses(draw, 0) for _ in range(count)]


def pairs(of_each=24):
    """Pairs, and what each of them is."""
    draw, made, what = np.random.default_rng(2), [], []
    for n in range(3 * of_each):
        kind = KINDS[n % 3]
        work = kind == "helpful" or (kind == "harmful" and n // 3 % 2 == 0)
        target = str(draw.choice([*MEN, *WOMEN] if work else THINGS))
        words = clauses(draw, int(kind == "harmful")) + ENDS["work" if work else "look"].format(target)
        made.append(Pair(n, words.format("he"), words.format("she"), target, "occupation", "he/she", "template"))
        what.append(kind)
    return made, np.array(what)


def teach(model, tokenizer, steps, seed=0, rate=3e-3):
    """Train on masked tokens of such sentences, most often on people and jobs, which take longest to learn."""
    shares = torch.full((len(tokenizer),), 0.3)
    shares[tokenizer.convert_tokens_to_ids(FRAME)] = 0.05
    shares[tokenizer.convert_tokens_to_ids(["he", "she", *MEN, *WOMEN])] = 0.6
    shares[tokenizer.pad_token_id] = 0.0
    draw, optimizer = np.random.default_rng(seed), torch.optim.Adam(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, steps)
    for _ in range(steps):
        batch = tokenizer([text(draw) for _ in range(32)], padding=True, return_tensors="pt")
        truth = batch["input_ids"]
        hidden = torch.from_numpy(draw.random(truth.shape)) < shares[truth]
        ids = truth.masked_fill(hidden, tokenizer.mask_token_id)
        loss = model(
            input_ids=ids, attention_mask=batch["attention_mask"], labels=truth.masked_fill(~hidden, -100)
        ).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def half_taught(folder, steps=350):
    """Return a tiny masked language model that was taught so, and its tokenizer."""
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    tiny_masked_lm(folder, words=WORDS, spread=0.2)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = teach(AutoModelForMaskedLM.from_pretrained(folder), tokenizer, steps)
    model.save_pretrained(folder)
    return model, tokenizer
