"""The script that trains ``minilm``: its fast loss against a plain ``BertForMaskedLM``, its rounding, what it packs."""

import copy
import importlib
import itertools

import numpy as np
import pytest
import scipy
import torch

from fairloop.composition import conf_dir
from fairloop.plm.minilm import BITS, DENSE, LINEARS, MASK_ID, MASK_ROW, WORDS, merge_update

HIDDEN, WORD_RANK = 32, 3


@pytest.fixture(scope="module", autouse=True)
def scripts():
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(str(conf_dir().parent / "experiments" / "minilm_mlm"))
        yield importlib.import_module("train")


@pytest.fixture(scope="module")
def model():
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=150, hidden_size=HIDDEN, num_hidden_layers=6, num_attention_heads=2, intermediate_size=48,
        max_position_embeddings=32, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, initializer_range=0.2,
    )  # fmt: skip
    model = BertForMaskedLM(config).eval()
    for value in model.parameters():
        if value.dim() == 1:
            value.data.add_(0.2 * torch.randn_like(value))
    return model


def parameters_of(model):
    """Random parameters, with changes of the layers' weights."""
    state = model.state_dict()
    found = {name: value.clone() for name, value in state.items() if value.dim() == 1 and "decoder" not in name}
    found[DENSE] = state[DENSE].clone()
    for name in LINEARS:
        found[name] = state[name] + 0.1 * torch.randn(state[name].shape)
    found[f"{WORDS}.lora_a"] = torch.randn(WORD_RANK, HIDDEN)
    found[f"{WORDS}.lora_b"] = 0.1 * torch.randn(150, WORD_RANK)
    change = found[f"{WORDS}.lora_b"] @ found[f"{WORDS}.lora_a"]
    found[MASK_ROW] = (state[WORDS] + change)[MASK_ID].clone()  # the fast loss predicts [MASK] by its old row
    return {name: value.requires_grad_(True) for name, value in found.items()}


def encoder_of(model):
    return {name.removeprefix("bert."): v for name, v in model.state_dict().items() if name.startswith("bert.")}


def fast_loss():
    return importlib.import_module("fast_loss")


def by_hand(change):
    """Number by number: what is larger than 1.06 root mean squares of its row becomes the mean size of all those."""
    rows = []
    for row in change.tolist():
        threshold = 1.06 * (sum(v * v for v in row) / len(row)) ** 0.5
        kept = [abs(v) for v in row if abs(v) > threshold]
        scale = sum(kept) / len(kept) if kept else 0.0
        rows.append([0.0 if abs(v) <= threshold else scale if v > 0 else -scale for v in row])
    return torch.tensor(rows)


def test_ternary_codes_and_scales():
    torch.manual_seed(4)
    change = torch.randn(30, 50) * torch.rand(30, 1)
    change[7] = 0
    codes, scale = fast_loss().ternary(change)
    torch.testing.assert_close(codes * scale[:, None], by_hand(change))
    assert set(codes.unique().tolist()) == {-1.0, 0.0, 1.0}
    assert not codes[7].any()
    assert scale[7] == 0


def test_ternary_of_normal_numbers_is_as_their_density_says():
    """Share of zeros 2Φ(t) - 1, scale φ(t) / (1 - Φ(t)), and a squared error of 1 - 2φ(t)² / (1 - Φ(t)): t = 1.06."""
    t, normal = fast_loss().THRESHOLD, scipy.stats.norm
    torch.manual_seed(5)
    change = torch.randn(4, 1_000_000)
    codes, scale = fast_loss().ternary(change)
    expected = normal.pdf(t) / normal.sf(t)
    assert (codes == 0).float().mean().item() == pytest.approx(2 * normal.cdf(t) - 1, abs=1e-3)
    assert scale.tolist() == pytest.approx([expected] * 4, rel=3e-3)
    error = (codes * scale[:, None] - change).square().mean().item()
    assert error == pytest.approx(1 - 2 * normal.pdf(t) * expected, rel=5e-3)


def sentences(draw, count):
    return [np.array([101, *draw.integers(1, 100, draw.integers(3, 12)), 102]) for _ in range(count)]


@pytest.fixture
def batch(scripts, monkeypatch):
    monkeypatch.setattr(scripts, "ROWS", 3)
    monkeypatch.setattr(scripts, "ROW", 24)
    rows = list(scripts.packed(sentences(np.random.default_rng(0), 20), np.random.default_rng(1)))[:3]
    assert max(len(row) for row in rows) > 1
    return scripts.batch_of(rows, np.random.default_rng(2), masks=14)


def sentence_by_sentence(model, batch):
    """Mean cross-entropy at the masked places, every sentence of the packed rows given to the model on its own."""
    losses = []
    for row in range(len(batch.pieces)):
        starts = [p for p in range(batch.pieces.shape[1]) if batch.pieces[row, p] == 101]
        for start in starts:
            end = start + batch.pieces[row, start:].tolist().index(102) + 1
            assert batch.places[row, start:end].tolist() == list(range(end - start))
            places = [divmod(int(m), batch.pieces.shape[1]) for m in batch.masked]
            logits = model(input_ids=batch.pieces[row : row + 1, start:end]).logits[0]
            for (r, place), wanted in zip(places, batch.wanted, strict=True):
                if r == row and start <= place < end:
                    assert batch.pieces[row, place] == MASK_ID
                    losses.append(-logits[place - start].log_softmax(-1)[wanted])
    assert len(losses) == len(batch.wanted)
    return torch.stack(losses).mean()


@pytest.mark.parametrize(
    ("dtype", "error"), [(torch.float32, 1e-5), (torch.bfloat16, 0.2)], ids=["float32", "bfloat16"]
)
@pytest.mark.parametrize("rounding", [False, True], ids=["whole", "ternary"])
def test_the_fast_loss_is_that_of_a_plain_model(scripts, model, batch, rounding, dtype, error):
    """Loss and gradients; the reference has its input and output embeddings apart. A gradient is that at the rounded
    weights, and passes the rounding unchanged."""
    torch.manual_seed(3)
    parameters = parameters_of(model)
    fast = fast_loss().loss_function(model, rounding, dtype=dtype, compiled=False)
    loss = fast(parameters, batch.pieces, batch.places, batch.visible, batch.masked, batch.wanted)
    (3 * loss).backward()

    plain = copy.deepcopy(model)
    state = scripts.merged(parameters, encoder_of(model), False)
    for name in LINEARS if rounding else ():
        state[name] = model.state_dict()[name] + by_hand(parameters[name].detach() - model.state_dict()[name])
    plain.load_state_dict(state, strict=False)
    output = torch.nn.Parameter(plain.bert.embeddings.word_embeddings.weight.detach().clone())
    plain.cls.predictions.decoder.weight = output
    expected = sentence_by_sentence(plain, batch)
    (3 * expected).backward()
    assert loss.item() == pytest.approx(expected.item(), rel=error / 5)

    wanted = {name: value.grad for name, value in plain.named_parameters()}
    of_words = wanted[WORDS].clone()
    wanted[MASK_ROW] = of_words[MASK_ID].clone()
    of_words[MASK_ID] = 0
    of_words += output.grad
    a, b = parameters[f"{WORDS}.lora_a"].detach(), parameters[f"{WORDS}.lora_b"].detach()
    wanted[f"{WORDS}.lora_a"], wanted[f"{WORDS}.lora_b"] = b.T @ of_words, of_words @ a.T
    scale = torch.cat([wanted[name].flatten() for name in parameters if name in wanted]).norm()
    for name, value in parameters.items():
        # the gradient of a key's bias is zero but for rounding
        assert (value.grad - wanted[name]).norm() < error * (wanted[name].norm() + 0.02 * scale), name


def test_what_ships_is_what_was_trained_but_for_rounding(scripts, model):
    torch.manual_seed(5)
    parameters, encoder = parameters_of(model), encoder_of(model)
    shipped = merge_update(encoder, scripts.shipped(parameters, encoder))
    trained = scripts.merged(parameters, encoder, True)
    assert shipped.keys() == trained.keys()
    for name in LINEARS:
        base = encoder[name.removeprefix("bert.")]
        change = by_hand(parameters[name].detach() - base)
        for found, error in ((shipped, 1e-3), (trained, 1e-5)):  # scales ship in float16
            assert (found[name] - base - change).norm() < error * change.norm(), name
    for row, was in zip(shipped[DENSE], parameters[DENSE].detach(), strict=True):
        step = was.abs().max() / 2 ** (BITS - 1)
        assert (row - was).abs().max() < (0.5 + 2 ** (BITS - 12)) * step  # the scale ships in float16
    change = trained[WORDS] - encoder[WORDS.removeprefix("bert.")]
    assert (shipped[WORDS] - trained[WORDS]).norm() < 0.03 * change.norm()  # six bits
    for name in trained.keys() - {*LINEARS, WORDS, DENSE}:
        torch.testing.assert_close(shipped[name], trained[name], atol=1e-3, rtol=1e-3)  # float16


def test_every_parameter_has_one_optimizer(scripts, model):
    parameters = parameters_of(model)
    muon, adam = scripts.optimizers(parameters, 1e-3)
    of_muon, of_adam = ([id(v) for g in o.param_groups for v in g["params"]] for o in (muon, adam))
    assert set(of_muon) == {id(parameters[name]) for name in (*LINEARS, DENSE)}
    assert sorted(of_muon + of_adam) == sorted(map(id, parameters.values()))


def test_rates_rise_then_fall_to_zero(scripts):
    shares = [scripts.share_of_peak(step, 1000) for step in range(1001)]
    assert shares[:100] == sorted(shares[:100])
    assert shares[100:] == sorted(shares[100:], reverse=True)
    assert shares[500] == pytest.approx(0.5)
    assert shares[1000] == 0


def test_every_sentence_is_packed_once_and_whole(scripts):
    draw = np.random.default_rng(4)
    given = sentences(draw, 300)
    rows = list(scripts.packed(given, draw))
    packed = sorted(tuple(s) for row in rows for s in row)
    assert packed == sorted(tuple(s) for s in given)
    lengths = [sum(map(len, row)) for row in rows]
    assert max(lengths) <= scripts.ROW
    assert sum(lengths) / (len(lengths) * scripts.ROW) > 0.9


def test_workers_share_the_batches_of_one(scripts, monkeypatch):
    """Two workers draw together what one draws alone, and a resumed one goes on where it stopped."""
    monkeypatch.setattr(scripts, "ROWS", 2)
    monkeypatch.setattr(scripts, "MASKS", 9)
    monkeypatch.setattr(scripts, "FEWER", 5)
    given = sentences(np.random.default_rng(6), 60)

    def pieces(**place):
        return [b.pieces.tolist() for b in itertools.islice(scripts.batches(given, 0, 7, **place), 6)]

    alone = pieces(first_step=0)
    pair = [pieces(first_step=0, worker=n, workers=2) for n in (0, 1)]
    assert [batch for two in zip(*pair, strict=True) for batch in two][:6] == alone
    assert pieces(first_step=4)[:2] == alone[4:]
    masked = [sum(row.count(MASK_ID) for row in batch) for batch in alone]
    assert masked == [9, 9, 9, 9, 9, 5]  # the step after 60% of seven is the sixth
