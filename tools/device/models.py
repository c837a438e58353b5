"""Random weights in the shapes of Gemma 2 2B and BERT base, in folders that Fairloop loads like any other model."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from fairloop.corpus.counterfactual import swap_gender
from fairloop.corpus.seed import seed_corpus
from fairloop.lexicon import occupations

OPENING = "the sentences below are about people at work each on its own line :"
"""Words of prompts that the sentences lack; any other word is read as the unknown one."""


@dataclass(frozen=True)
class Shapes:
    """How large the random models are, and what they are given.

    Attributes:
        gemma: what Gemma2Config is given.
        bert: what BertConfig is given.
        rows: texts that are written side by side.
        tokens: tokens of each text that is written.
        batch: items of a training step.
        steps: training steps that are timed, after two that are not.
        items: of StereoSet.
        matrix: side of the square matrices of which the peak is measured.
        copied: bytes that are copied to measure the memory's bandwidth.
    """

    gemma: dict[str, int]
    bert: dict[str, int]
    rows: int
    tokens: int
    batch: int
    steps: int
    items: int
    matrix: int
    copied: int


FULL = Shapes(
    gemma={
        "vocab_size": 256_000, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
        "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
    },
    bert={
        "vocab_size": 30_522, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
        "num_attention_heads": 12, "max_position_embeddings": 512,
    },
    rows=64, tokens=32, batch=32, steps=8, items=400, matrix=8192, copied=2**31,
)  # fmt: skip

TINY = Shapes(
    gemma={
        "vocab_size": 1500, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16,
    },
    bert={
        "vocab_size": 1500, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 2, "max_position_embeddings": 128,
    },
    rows=4, tokens=6, batch=8, steps=1, items=6, matrix=128, copied=2**20,
)  # fmt: skip


def sentences(count: int) -> list[tuple[str, str, str]]:
    """Return gendered sentences about occupations, each with its counterfactual and the occupation."""
    rows = [row for row in seed_corpus(0.5, 4 * count, 0.0, 0).to_list() if swap_gender(row["text"]) != row["text"]]
    return [(row["text"], swap_gender(row["text"]), row["occupation"]) for row in rows[:count]]


def vocabulary(size: int, special: Sequence[str]) -> dict[str, int]:
    """Return as many words: those of the sentences and occupations, and fillers up to the size of the model's."""
    texts = [text for one in sentences(400) for text in one] + [one.name for one in occupations()] + [OPENING]
    words = [word for text in texts for word in _split(text)]
    found = list(dict.fromkeys([*special, *words]))[:size]
    return {word: number for number, word in enumerate([*found, *(f"w{n}" for n in range(size - len(found)))])}


def _split(text: str) -> list[str]:
    from tokenizers.pre_tokenizers import Whitespace

    return [piece for piece, _ in Whitespace().pre_tokenize_str(text)]


def _write_tokenizer(folder: Path, size: int, special: dict[str, str], *, ends: tuple[str, str] | None) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    words = vocabulary(size, list(special.values()))
    tokenizer = Tokenizer(WordLevel(words, unk_token=special["unk_token"]))
    tokenizer.pre_tokenizer = Whitespace()
    if ends is not None:
        first, last = ends
        numbered = [(token, words[token]) for token in ends]
        tokenizer.post_processor = TemplateProcessing(single=f"{first} $A {last}", special_tokens=numbered)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)


def write_gemma(folder: Path, shape: dict[str, int], device: str, *, layers: int | None = None) -> Path:
    """Write a generator with random weights in bfloat16; `layers`: with so many instead of all."""
    from transformers import Gemma2Config, Gemma2ForCausalLM

    special = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}
    _write_tokenizer(folder, shape["vocab_size"], special, ends=None)
    config = Gemma2Config(pad_token_id=0, bos_token_id=1, eos_token_id=2)
    config.update({**shape, **({"num_hidden_layers": layers} if layers else {})})
    config.layer_types = config.layer_types[: config.num_hidden_layers]
    with torch.device(device):
        torch.manual_seed(0)
        Gemma2ForCausalLM._from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    return folder


def write_bert(folder: Path, shape: dict[str, int]) -> Path:
    """Write a masked language model with random weights."""
    from transformers import BertConfig, BertForMaskedLM

    special = {
        "pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]",
    }  # fmt: skip
    _write_tokenizer(folder, shape["vocab_size"], special, ends=("[CLS]", "[SEP]"))
    torch.manual_seed(0)
    BertForMaskedLM(BertConfig(pad_token_id=0, **shape)).save_pretrained(folder)
    return folder
