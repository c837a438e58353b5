"""No way into a model runs its code, reads pickled weights, or computes with what its checkpoint does not hold."""

import ast
import contextlib
import io
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import transformers
from plm_models import tiny
from safetensors.torch import load_file, save_file

import fairloop
from fairloop.errors import UserError
from fairloop.generation.in_process import InProcessGenerator
from fairloop.generation.settings import ModelSettings
from fairloop.pairs.toxicity import ToxicityClassifier
from fairloop.plm import locate
from fairloop.plm.encoder import SentenceEncoder
from fairloop.plm.loading import HeadError, load_config, load_model, load_tokenizer
from fairloop.plm.model import LanguageModel, detect_kind
from fairloop.plm.next_sentence import has_next_sentence_head
from fairloop.plm.settings import PlmSettings
from fairloop.training.causal_lm import CausalExample, CausalLMTask
from fairloop.training.contrastive import ContrastiveTask
from fairloop.training.plm import load_plm
from fairloop.training.settings import (
    BudgetSettings,
    CausalLMSettings,
    ClassifierSettings,
    ContrastiveSettings,
    TrainerSettings,
)
from trainings import classified, trained

CPU = TrainerSettings(accelerator="cpu", precision="float32", threads=1)
JOBS = ["nurse", "doctor", "teacher", "pilot", "welder", "farmer", "cleaner", "engineer"]
TEXTS = [f"the {job} said that {who} was kind ." for job in JOBS for who in ("he", "she")]
SOURCES = sorted(Path(fairloop.__file__).parent.rglob("*.py"))


def called(path):
    """Return (file, name) of each call, and what each gives as trust_remote_code."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            trust = [keyword.value for keyword in node.keywords if keyword.arg == "trust_remote_code"]
            yield name, trust


def test_one_place_loads_models_and_never_with_their_code():
    package = Path(fairloop.__file__).parent / "plm"
    loaders = (package / "loading.py", package / "gguf.py")
    trusts = 0
    for path in SOURCES:
        for name, trust in called(path):
            assert name != "from_pretrained" or path in loaders, f"{path} loads a model by itself"
            assert name != "from_pretrained" or trust or "PeftModel" in path.read_text(), path
            for value in trust:
                trusts += 1
                assert isinstance(value, ast.Constant), path
                assert value.value is False, path
    assert trusts == 3  # everything, and a GGUF file's model and tokenizer


def plm(kind):
    return lambda path, work: LanguageModel.load(PlmSettings(name="x", path=path, kind=kind, device="cpu"))


def incorporate(path, work):
    job = SimpleNamespace(model=path, revision=None, trainer=CPU, seed=0, stage="s")
    load_plm(job, "masked", BudgetSettings())


WAYS = {
    "plm auto": plm("auto"),
    "plm masked": plm("masked"),
    "plm causal": plm("causal"),
    "plm encoder": plm("encoder"),
    "its kind": lambda path, work: detect_kind(path),
    "its configuration": lambda path, work: load_config(path),
    "tokenizer": lambda path, work: load_tokenizer(path),
    "study.encoder": lambda path, work: SentenceEncoder.load(path),
    "model": lambda path, work: InProcessGenerator.load(ModelSettings(name="x", path=path)),
    "toxicity": lambda path, work: ToxicityClassifier(path),
    "next sentence": lambda path, work: has_next_sentence_head(SimpleNamespace(path=path, revision=None)),
    "GLUE": lambda path, work: classified(
        TEXTS, [0, 1] * 8, ClassifierSettings(weights="full", batch_size=2), CPU, work, encoder=path
    ),
    "contrastive": lambda path, work: trained(
        ContrastiveTask(ContrastiveSettings(batch_size=2), tuple(zip(TEXTS[::2], TEXTS[1::2], strict=True))),
        path,
        CPU,
        work,
    ),
    "finetune": lambda path, work: trained(
        CausalLMTask(CausalLMSettings(batch_size=2), tuple(CausalExample("", text) for text in TEXTS)), path, CPU, work
    ),
    "debias": incorporate,
}


@pytest.fixture
def planted(tmp_path):
    """Return a writer of a folder whose code leaves a file when it is run, and that file."""

    def write(model_type):
        folder, trace = tmp_path / "model", tmp_path / "RUN"
        model, tokenizer, _ = tiny("bert")
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        config = json.loads((folder / "config.json").read_text())
        classes = ("AutoConfig", "AutoModel", "AutoModelForMaskedLM", "AutoModelForCausalLM")
        more = ("AutoModelForSequenceClassification", "AutoModelForNextSentencePrediction")
        names = {name: f"evil.{name}" for name in (*classes, *more)}
        (folder / "config.json").write_text(json.dumps(config | {"model_type": model_type, "auto_map": names}))
        written = json.loads((folder / "tokenizer_config.json").read_text())
        own = {"tokenizer_class": "EvilTokenizer", "auto_map": {"AutoTokenizer": ["evil.Tokenizer", "evil.Tokenizer"]}}
        (folder / "tokenizer_config.json").write_text(json.dumps(written | own))
        (folder / "evil.py").write_text(f"open({str(trace)!r}, 'w').close()\n")
        return str(folder), trace

    return write


@pytest.fixture
def willing(monkeypatch):
    """A terminal where somebody says yes to every question."""
    stdin = io.StringIO("y\n" * 20)
    monkeypatch.setattr("sys.stdin", stdin)
    return stdin


def one_line(caught, path):
    assert caught.value.exit_status == 2
    assert "\n" not in str(caught.value)
    assert path in str(caught.value)


@pytest.mark.parametrize("early", [True, False], ids=["found early", "found by transformers"])
@pytest.mark.parametrize("way", WAYS)
def test_code_in_a_folder_is_never_run(planted, willing, capfd, monkeypatch, tmp_path, way, early):
    path, trace = planted("evil")
    if not early:
        monkeypatch.setattr(locate, "_needs_own_code", lambda config: False)
    with pytest.raises(UserError, match="code") as caught:
        WAYS[way](path, tmp_path / "work")
    one_line(caught, path)
    assert not trace.exists()
    assert willing.tell() == 0, "nobody is asked"
    assert "[y/N]" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("way", WAYS)
def test_a_family_that_transformers_knows_is_loaded_without_the_code_beside_it(planted, willing, tmp_path, way):
    path, trace = planted("bert")
    lacks = way in ("plm causal", "model", "toxicity", "finetune")  # a masked BERT has no such head
    with pytest.raises(UserError, match=r"no causal|no sequence") if lacks else contextlib.nullcontext():
        WAYS[way](path, tmp_path / "work")
    assert not trace.exists()
    assert willing.tell() == 0


@pytest.mark.parametrize("way", [way for way in WAYS if way not in ("tokenizer", "its configuration", "its kind")])
@pytest.mark.parametrize("beside", [False, True], ids=["only pickled", "with a stray file"])
def test_pickled_weights_are_refused_everywhere(tmp_path, way, beside):
    model, tokenizer, _ = tiny("gpt2" if way in ("model", "finetune", "plm causal") else "bert")
    folder = tmp_path / "model"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    if beside:
        save_file({"basis": torch.zeros(1)}, folder / "other.safetensors")
    with pytest.raises(UserError, match="safetensors") as caught:
        WAYS[way](str(folder), tmp_path / "work")
    one_line(caught, str(folder))


# heads


@pytest.fixture
def saved(tmp_path):
    def save(model, family="bert"):
        model.save_pretrained(tmp_path / "model")
        tiny(family)[1].save_pretrained(tmp_path / "model")
        return str(tmp_path / "model")

    return save


def llama(tied):
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=360, tie_word_embeddings=tied, **shape))


def config_of(family, **more):
    config = type(tiny(family)[0].config).from_dict(tiny(family)[0].config.to_dict() | more)
    return config


@pytest.mark.parametrize(
    ("family", "head", "named"),
    [
        ("bert", "masked", "cls.predictions"),
        ("roberta", "masked", "lm_head"),
        ("albert", "masked", "predictions"),
        ("distilbert", "masked", "vocab_"),
        ("bert", "classifier", "classifier"),
        ("gpt2", "classifier", "score"),
        ("bert", "next_sentence", "seq_relationship"),
    ],
)
def test_a_head_that_the_checkpoint_lacks_is_refused(saved, family, head, named):
    path = saved(tiny(family)[0].base_model, family)
    with pytest.raises(HeadError, match=named) as caught:
        load_model(path, head)
    one_line(caught, path)


def test_a_causal_head_is_there_or_tied_to_the_embeddings(saved):
    assert load_model(saved(llama(True).base_model), "causal")
    path = saved(llama(False).base_model)
    with pytest.raises(HeadError, match=r"lm_head\.weight"):
        load_model(path, "causal")


def test_a_discriminator_is_no_masked_language_model(saved):
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    path = saved(transformers.ElectraForPreTraining(transformers.ElectraConfig(vocab_size=360, **shape)))
    with pytest.raises(HeadError, match="generator"):
        LanguageModel.load(PlmSettings(name="x", path=path, device="cpu"))


def test_a_layer_that_the_checkpoint_lacks_is_refused(saved):
    path = saved(tiny("bert")[0])
    assert load_model(path, "none")  # its pooler is drawn, and nothing reads it
    weights = load_file(Path(path) / "model.safetensors")
    del weights["bert.encoder.layer.1.output.dense.weight"]
    save_file(weights, Path(path) / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"layer\.1\.output\.dense\.weight"):
        load_model(path, "none")


@pytest.mark.parametrize(
    ("family", "kind", "why"),
    [
        ("bert", "causal", "both directions"),
        ("roberta", "causal", "both directions"),
        ("albert", "causal", "no such head"),
        ("distilbert", "causal", "no such head"),
        ("gpt2", "masked", "no such head"),
        ("gemma3", "masked", "no such head"),
    ],
)
def test_a_model_of_the_other_direction_is_refused(saved, family, kind, why):
    path = saved(tiny(family)[0], family)
    with pytest.raises(UserError, match=why) as caught:
        LanguageModel.load(PlmSettings(name="x", path=path, kind=kind, device="cpu"))
    one_line(caught, path)


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_a_decoder_of_a_masked_family_is_causal(saved, family):
    kind = {"bert": transformers.BertLMHeadModel, "roberta": transformers.RobertaForCausalLM}[family]
    path = saved(kind(config_of(family, is_decoder=True)), family)
    assert LanguageModel.load(PlmSettings(name="x", path=path, device="cpu")).kind == "causal"
    with pytest.raises(UserError, match="decoder"):
        load_model(path, "masked")


def test_a_generator_that_reads_in_both_directions_is_refused(saved):
    path = saved(tiny("bert")[0])
    with pytest.raises(UserError, match=r"model\.path=.*both directions"):
        InProcessGenerator.load(ModelSettings(name="x", path=path))
