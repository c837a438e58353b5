"""Tiny random models and a word-level tokeniser, written to a folder: what training tests train."""

from pathlib import Path

import torch

TEXT = """
the a nurse doctor engineer teacher pilot said that he she will be there today his her mother father checked chart built
wrote report before after lunch and of to in man woman read plan with care . ,
"""
WORDS = TEXT.split()


def write_tokenizer(folder: Path, words=WORDS, **more) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<s>", "</s>", "<unk>", *more.values()]
    vocabulary = {word: number for number, word in enumerate([*special, *words])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>", **more
    ).save_pretrained(folder)


def tiny_generator(folder: Path, *, dropout: float = 0.0, words=WORDS, width: int = 32) -> Path:
    from transformers import LlamaConfig, LlamaForCausalLM

    write_tokenizer(folder, words)
    config = LlamaConfig(
        vocab_size=len(words) + 4,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=128,
        attention_dropout=dropout,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def tiny_masked_lm(folder: Path, *, dropout: float = 0.0, words=WORDS, width: int = 32, spread: float = 0.3) -> Path:
    from transformers import BertConfig, BertForMaskedLM

    write_tokenizer(folder, words, mask_token="<mask>")
    config = BertConfig(
        vocab_size=len(words) + 5,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        initializer_range=spread,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    BertForMaskedLM(config).save_pretrained(folder)
    return folder


def tiny_encoder(folder: Path, *, dropout: float = 0.0, words=WORDS, width: int = 32) -> Path:
    from transformers import BertConfig, BertModel

    write_tokenizer(folder, words)
    config = BertConfig(
        vocab_size=len(words) + 4,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=128,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    BertModel(config).save_pretrained(folder)
    return folder


def planted_classifier(folder: Path, labels, rules, *, words=WORDS, strength: float = 4.0) -> Path:
    """A sequence classifier that goes by a sentence's last word: `rules` maps words to labels, others tell it nothing.

    Its one layer passes the states on as they are, so that the last word's vector is all that the head sees.
    """
    from transformers import GPT2Config, GPT2ForSequenceClassification

    write_tokenizer(folder, words)
    config = GPT2Config(
        vocab_size=len(words) + 4,
        n_positions=64,
        n_embd=16,
        n_layer=1,
        n_head=2,
        pad_token_id=0,
        id2label=dict(enumerate(labels)),
        label2id={label: number for number, label in enumerate(labels)},
    )
    model = GPT2ForSequenceClassification(config)
    with torch.no_grad():
        for weights in model.parameters():
            weights.zero_()
        model.transformer.ln_f.weight.fill_(1.0)
        for word, label in rules.items():
            model.transformer.wte.weight[4 + list(words).index(word), labels.index(label)] = 1.0
        for number in range(len(labels)):
            model.score.weight[number, number] = strength
    model.save_pretrained(folder)
    return folder


PEOPLE = ("nurse", "doctor", "engineer", "teacher", "pilot")
ENDINGS = ("will be there today", "wrote the report before lunch", "checked the chart", "built a plan with care")


def pairs() -> list[tuple[str, str]]:
    """Twenty sentences with their counterfactuals, of different lengths."""
    stories = [f"the {who} said that %s {what} ." for who in PEOPLE for what in ENDINGS]
    return [(story % "he", story % "she") for story in stories]
