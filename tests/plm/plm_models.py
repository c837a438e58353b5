"""Random models of every family, small enough for exhaustive checks, with tokenizers trained on a few sentences."""

import functools
import json
import string

import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

SENTENCES = [
    "The nurse said that she would help the developer with his work.",
    "The engineer asked the receptionist whether he could use her telephone.",
    "Most African people are kind, and most of them like to read books!",
    "My mother is a mechanic; your father teaches mathematics to children.",
    "He didn't want to talk about it, she said, because nobody listened.",
    "Women and men work as carpenters, bakers, hairdressers and physicians.",
    "The chess player was asian and the schoolgirl was girly.",
    "Unbelievably, the construction worker counselled the cashier's assistant.",
]

MASKED = ("bert", "albert", "roberta", "distilbert")
CAUSAL = ("gpt2", "gemma2", "gemma3")


def wordpiece():
    """Whole words for a few, letters for the rest: the trainer of this model is not deterministic."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = string.ascii_lowercase
    pieces = [*string.punctuation, *string.digits, *letters, *(f"##{letter}" for letter in letters)]
    words = "the she he her his is was and to of that would he with most a it about as like them because worker men"
    words += " nurse mother father kind work works said ##ing ##er ##ly ##an ##ion ##th ##re ##at ##al ##ch ##ist ##en"
    words += " un con de ##ver ##be ##ll ##ou ##ab ##ti ##ar ##le ##or ##in ##st ##el ##op ##ople ##ess ##ma ##lp ##ea"
    vocabulary = {piece: place for place, piece in enumerate(dict.fromkeys([*special, *pieces, *words.split()]))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def unigram(special, *, single, mask=None, **roles):
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKD(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=120, special_tokens=special, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(SENTENCES, trainer)
    # The trainer splits the pronouns; the tokenizers of real models keep them whole.
    state = json.loads(tokenizer.to_str())
    state["model"]["vocab"] += [["▁he", -3.0], ["▁she", -3.0]]
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single, special_tokens=[(token, special.index(token)) for token in special]
    )
    if mask:
        roles["mask_token"] = AddedToken(mask, lstrip=True)
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", **roles)


def byte_level(special, *, roberta):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    pronouns = ["He is here.", "She is here."] * 40
    trainer = trainers.BpeTrainer(
        vocab_size=360,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES + pronouns, trainer)
    if not roberta:
        return transformers.PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, bos_token=special[0], eos_token=special[0], unk_token=special[0]
        )
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        cls_token="<s>",
        eos_token="</s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token=AddedToken("<mask>", lstrip=True),
    )


def tiny(family, window=64):
    """Return (model, tokenizer, kind) of a random model; logits are spread so that scores differ clearly."""
    return _tiny(family, window)


@functools.cache
def _tiny(family, window):
    sizes = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "initializer_range": 0.2,
    }
    torch.manual_seed(7)
    if family == "bert":
        tokenizer = wordpiece()
        config = transformers.BertConfig(vocab_size=len(tokenizer), max_position_embeddings=window, **sizes)
        model = transformers.BertForMaskedLM(config)
    elif family == "albert":
        special = ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]
        tokenizer = unigram(
            special,
            single="[CLS] $A [SEP]",
            mask="[MASK]",
            pad_token="<pad>",
            cls_token="[CLS]",
            sep_token="[SEP]",
        )
        config = transformers.AlbertConfig(
            vocab_size=len(tokenizer), max_position_embeddings=window, embedding_size=16, **sizes
        )
        model = transformers.AlbertForMaskedLM(config)
    elif family == "roberta":
        tokenizer = byte_level(["<s>", "<pad>", "</s>", "<unk>", "<mask>"], roberta=True)
        config = transformers.RobertaConfig(
            vocab_size=len(tokenizer), max_position_embeddings=window + 2, pad_token_id=1, type_vocab_size=1, **sizes
        )
        model = transformers.RobertaForMaskedLM(config)
    elif family == "distilbert":
        tokenizer = wordpiece()
        config = transformers.DistilBertConfig(
            vocab_size=len(tokenizer),
            max_position_embeddings=window,
            dim=32,
            n_layers=2,
            n_heads=4,
            hidden_dim=48,
            initializer_range=0.2,
        )
        model = transformers.DistilBertForMaskedLM(config)
    elif family == "gpt2":
        tokenizer = byte_level(["<|endoftext|>"], roberta=False)
        config = transformers.GPT2Config(
            vocab_size=len(tokenizer), n_positions=window, n_embd=32, n_layer=2, n_head=4, initializer_range=0.2
        )
        model = transformers.GPT2LMHeadModel(config)
    elif family in ("gemma2", "gemma3"):
        special = ["<pad>", "<unk>", "<bos>", "<eos>"]
        tokenizer = unigram(
            special, single="<bos> $A", pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", padding_side="left"
        )
        shape = {**sizes, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": window}
        if family == "gemma2":
            config = transformers.Gemma2Config(
                vocab_size=len(tokenizer), sliding_window=8, final_logit_softcapping=5.0, **shape
            )
            model = transformers.Gemma2ForCausalLM(config)
        else:
            config = transformers.Gemma3TextConfig(vocab_size=len(tokenizer), sliding_window=8, **shape)
            model = transformers.Gemma3ForCausalLM(config)
    else:
        raise ValueError(family)
    return model.eval(), tokenizer, "masked" if family in MASKED else "causal"
