"""A tiny masked PLM of whole words that has learned a wholly stereotypical text, and counterfactual pairs for it."""

from pathlib import Path

import torch

from fairloop.training.settings import TrainerSettings

MEN = ("pilot", "engineer", "welder", "farmer")
WOMEN = ("nurse", "teacher", "dietitian", "cleaner")
JOBS = (*MEN, *WOMEN)
SLOTS = (
    "the {job} said that {he} was tired .",
    "the {job} wrote a plan before {he} left .",
    "in the morning the {job} knew that {he} had time .",
    "the {job} was a {man} who worked hard .",
    "a {man} came and talked with the {job} today .",
)
NEUTRAL = (
    "the {job} wrote a long plan in the morning .",
    "today the {job} worked hard .",
    "the plan was long and the {job} left .",
    "the morning was long and hard .",
)
ATTRIBUTES = {"he": "she", "man": "woman"}
EXTRA = "her his father mother with and of to . ,"
TEXT = " ".join([*SLOTS, *NEUTRAL]).replace("{job}", "").replace("{he}", "").replace("{man}", "")
WORDS = sorted({*TEXT.split(), *EXTRA.split(), *MEN, *WOMEN, *ATTRIBUTES, *ATTRIBUTES.values()})
CPU = TrainerSettings(accelerator="cpu", precision="float32", threads=1, checkpoint_every_steps=1000)


def sentence(slot, job, side):
    values = {male: (male if side == "male" else female) for male, female in ATTRIBUTES.items()}
    return slot.format(job=job, **values)


def counterfactuals(slots=SLOTS):
    """Pairs (male, female, job, attribute) of every job in every slot."""
    return [
        (sentence(slot, job, "male"), sentence(slot, job, "female"), job, "he/she" if "{he}" in slot else "man/woman")
        for slot in slots
        for job in JOBS
    ]


def neutral():
    return sorted({slot.format(job=job) for slot in NEUTRAL for job in JOBS})


def stereotypical():
    """The text that plants the bias: men's jobs with he and man only, women's with she and woman only."""
    return [sentence(slot, job, "male" if job in MEN else "female") for slot in SLOTS for job in JOBS]


def write_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {word: number for number, word in enumerate([*special, *WORDS])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    ).save_pretrained(folder)


def tiny_masked(folder: Path, *, dropout: float = 0.0, width: int = 32) -> Path:
    from transformers import BertConfig, BertForMaskedLM

    write_tokenizer(folder)
    config = BertConfig(
        vocab_size=len(WORDS) + 5,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        initializer_range=0.2,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    BertForMaskedLM(config).save_pretrained(folder)
    return folder


def planted_masked(folder: Path) -> Path:
    """A PLM without layers' work: a word's state is its embedding, and gender is one direction, in nothing else."""
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    tiny_masked(folder)
    model, tokenizer = AutoModelForMaskedLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    embeddings = model.bert.embeddings
    with torch.no_grad():
        for part in (embeddings.position_embeddings, embeddings.token_type_embeddings):
            part.weight.zero_()
        for layer in model.bert.encoder.layer:
            layer.attention.output.dense.weight.zero_()
            layer.output.dense.weight.zero_()
        words = embeddings.word_embeddings.weight
        gender = torch.nn.functional.normalize(words[-1] - words[-1].mean(), dim=0)
        words -= words.mean(dim=1, keepdim=True)
        words -= (words @ gender)[:, None] * gender
        for male, female in ATTRIBUTES.items():
            one, two = tokenizer.convert_tokens_to_ids([male, female])
            shared = words[one].clone()
            words[one], words[two] = shared + gender, shared - gender
    model.save_pretrained(folder)
    return folder


def biased_masked(folder: Path, steps: int = 80) -> Path:
    """The tiny PLM after it has learned the gendered words, and some of the others, of the stereotypical text."""
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    tiny_masked(folder)
    model, tokenizer = AutoModelForMaskedLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    texts = [*stereotypical(), *neutral()]
    ids = tokenizer(texts, padding=True, return_tensors="pt")["input_ids"]
    gendered = torch.isin(ids, torch.tensor(tokenizer.convert_tokens_to_ids([*ATTRIBUTES, *ATTRIBUTES.values()])))
    random = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    model.train()
    for _ in range(steps):
        chosen = (torch.rand(ids.shape, generator=random) < torch.where(gendered, 0.7, 0.1)) & (ids > 4)
        output = model(ids.masked_fill(chosen, tokenizer.mask_token_id), attention_mask=(ids != 0).long())
        loss = torch.nn.functional.cross_entropy(output.logits[chosen], ids[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
    return folder
