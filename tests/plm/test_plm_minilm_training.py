"""The script that trains ``minilm``: its fast loss against a plain ``BertForMaskedLM``, its factors, what it packs."""

import copy
import functools
import importlib
import itertools

import numpy as np
import pytest
import scipy
import torch

from fairloop.config import conf_dir
from fairloop.plm.minilm import HEAD, LINEARS, MASK_ID, MASK_ROW, WORDS, merge_update

HIDDEN, WORD_RANK, RANK = 32, 3, 4
DENSE = HEAD + "dense.weight"


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


def parameters_of(model, whole):
    """Random parameters of a stage: whole weights, or factors."""
    state = model.state_dict()
    found = {name: value.clone() for name, value in state.items() if value.dim() == 1 and "decoder" not in name}
    found["cls.predictions.transform.dense.weight"] = state["cls.predictions.transform.dense.weight"].clone()
    for name in LINEARS:
        out, inner = state[name].shape
        if whole:
            found[name] = state[name] + 0.1 * torch.randn(out, inner)
        else:
            found[f"{name}.lora_a"], found[f"{name}.lora_b"] = torch.randn(RANK, inner), 0.1 * torch.randn(out, RANK)
    found[f"{WORDS}.lora_a"] = torch.randn(WORD_RANK, HIDDEN)
    found[f"{WORDS}.lora_b"] = 0.1 * torch.randn(150, WORD_RANK)
    change = found[f"{WORDS}.lora_b"] @ found[f"{WORDS}.lora_a"]
    found[MASK_ROW] = (state[WORDS] + change)[MASK_ID].clone()  # the fast loss predicts [MASK] by its old row
    return {name: value.requires_grad_(True) for name, value in found.items()}


def fast_loss():
    return importlib.import_module("fast_loss")


def some_bits():
    ranks = {name: torch.tensor([7, 4, 3, 2], dtype=torch.uint8) for name in LINEARS}
    return ranks | {DENSE: torch.full((HIDDEN,), 5, dtype=torch.uint8)}


def by_hand(x, bits):
    """Each row rounded to the middle of one of 2^bits steps, all alike and as many below zero as above."""
    rows = []
    for row, width in zip(x.tolist(), bits.tolist(), strict=True):
        step = best_step(width)[0] * (sum(v * v for v in row) / len(row)) ** 0.5
        middles = [(k + 0.5) * step for k in range(-(2 ** (width - 1)), 2 ** (width - 1))]
        rows.append([min(middles, key=lambda middle, v=v: abs(middle - v)) for v in row])
    return torch.tensor(rows)


@functools.cache
def best_step(bits):
    """(step, mean squared error) of the best uniform quantiser of a standard normal, by numerical integration."""
    grid = np.linspace(-8, 8, 200_001)
    weight = scipy.stats.norm.pdf(grid) * (grid[1] - grid[0])

    def error(step):
        half = 2 ** (bits - 1)
        codes = np.clip(np.floor(grid / step), -half, half - 1)
        return (((codes + 0.5) * step - grid) ** 2 * weight).sum()

    found = scipy.optimize.minimize_scalar(error, bounds=(0.5 / 2**bits, 8 / 2**bits), method="bounded")
    return float(fast_loss().STEPS[bits]), float(found.x), float(found.fun)


@pytest.mark.parametrize("bits", range(2, 9))
def test_the_steps_and_errors_of_the_quantiser(bits):
    step, best, error = best_step(bits)
    assert step == pytest.approx(best, rel=0.01)
    assert fast_loss().ERRORS[bits] == pytest.approx(error, rel=0.01)


def sentences(draw, count):
    return [np.array([101, *draw.integers(1, 100, draw.integers(3, 12)), 102]) for _ in range(count)]


@pytest.fixture
def batch(scripts, monkeypatch):
    monkeypatch.setattr(scripts, "ROWS", 3)
    monkeypatch.setattr(scripts, "ROW", 24)
    monkeypatch.setattr(scripts, "MASKS", 14)
    rows = list(scripts.pack(sentences(np.random.default_rng(0), 20), np.random.default_rng(1)))[:3]
    assert max(len(row) for row in rows) > 1
    return scripts.batch_of(rows, np.random.default_rng(2))


def sentence_by_sentence(model, batch, teacher=None, trust=0.0):
    """Mean cross-entropy at the masked places, every sentence of the packed rows given to the model on its own; with a
    teacher, also from its probabilities, and the distance of the hidden states from its own."""
    losses = []
    apart, square = [0.0] * 6, [0.0] * 6
    for row in range(len(batch.pieces)):
        starts = [p for p in range(batch.pieces.shape[1]) if batch.pieces[row, p] == 101]
        for start in starts:
            end = start + batch.pieces[row, start:].tolist().index(102) + 1
            assert batch.places[row, start:end].tolist() == list(range(end - start))
            places = [divmod(int(m), batch.pieces.shape[1]) for m in batch.masked]
            ids = batch.pieces[row : row + 1, start:end]
            found = model(input_ids=ids, output_hidden_states=True)
            logits = found.logits[0]
            if teacher is not None:
                with torch.no_grad():
                    taught = teacher(input_ids=ids, output_hidden_states=True)
                for layer in range(6):
                    mine, theirs = found.hidden_states[layer + 1][0], taught.hidden_states[layer + 1][0]
                    if layer == 5:
                        mine, theirs = mine[ids[0] == MASK_ID], theirs[ids[0] == MASK_ID]
                    apart[layer] = apart[layer] + ((mine - theirs) ** 2).sum()
                    square[layer] += (theirs**2).sum()
            for (r, place), wanted in zip(places, batch.wanted, strict=True):
                if r == row and start <= place < end:
                    assert batch.pieces[row, place] == MASK_ID
                    said = logits[place - start].log_softmax(-1)
                    losses.append(-(1 - trust) * said[wanted])
                    if teacher is not None:
                        losses[-1] = losses[-1] - trust * (taught.logits[0, place - start].softmax(-1) * said).sum()
    assert len(losses) == len(batch.wanted)
    return torch.stack(losses).mean() + sum(a / s for a, s in zip(apart, square, strict=True) if s)


@pytest.mark.parametrize(
    ("dtype", "error"), [(torch.float32, 1e-5), (torch.bfloat16, 0.2)], ids=["float32", "bfloat16"]
)
@pytest.mark.parametrize("stage", ["whole", "factors", "rounded factors", "taught factors"])
def test_the_fast_loss_is_that_of_a_plain_model(scripts, model, batch, stage, dtype, error):
    """Loss and gradients; the reference has its input and output embeddings apart."""
    torch.manual_seed(3)
    parameters = parameters_of(model, whole=stage == "whole")
    bits = some_bits() if stage == "rounded factors" else {}
    teacher = parameters_of(model, whole=True) if stage == "taught factors" else None
    fast = fast_loss().loss_function(model, bits, teacher, trust=0.6, dtype=dtype, compiled=False)
    loss = fast(parameters, batch.pieces, batch.places, batch.visible, batch.masked, batch.wanted)
    loss.backward()

    plain = copy.deepcopy(model)
    encoder = {name.removeprefix("bert."): value for name, value in model.state_dict().items() if "bert." in name}
    plain.load_state_dict(scripts.merged(parameters, encoder, bits), strict=False)
    output = torch.nn.Parameter(plain.bert.embeddings.word_embeddings.weight.detach().clone())
    plain.cls.predictions.decoder.weight = output
    if teacher:
        master = copy.deepcopy(model)
        master.load_state_dict(scripts.merged(teacher, encoder, {}), strict=False)
        expected = sentence_by_sentence(plain, batch, master, 0.6)
    else:
        expected = sentence_by_sentence(plain, batch)
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=error / 5)

    wanted = {name: value.grad for name, value in plain.named_parameters()}
    for name in LINEARS if stage != "whole" else ():
        a, b = parameters[f"{name}.lora_a"].detach(), parameters[f"{name}.lora_b"].detach()
        if bits:  # the gradient is that of the rounded factors, and passes the rounding unchanged
            a, b = by_hand(a, bits[name]), by_hand(b.T, bits[name]).T
        wanted[f"{name}.lora_a"], wanted[f"{name}.lora_b"] = b.T @ wanted[name], wanted[name] @ a.T
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


def changed(scripts):
    torch.manual_seed(0)
    encoder, whole = {}, {"bert.encoder.layer.0.output.dense.bias": torch.zeros(3), DENSE: torch.randn(7, 5)}
    for number, name in enumerate(LINEARS):
        encoder[name.removeprefix("bert.")] = torch.randn(6 + number % 3, 5)
        whole[name] = encoder[name.removeprefix("bert.")] + (1 + number) * torch.randn(6 + number % 3, 5)
    return encoder, whole


def test_factors_hold_the_largest_singular_values(scripts):
    encoder, whole = changed(scripts)
    factors, bits = scripts.factored(whole, encoder, 300)
    for name in LINEARS:
        change = whole[name] - encoder[name.removeprefix("bert.")]
        values = torch.linalg.svdvals(change.double())
        a, b = factors[f"{name}.lora_a"], factors[f"{name}.lora_b"]
        assert len(a) == b.shape[1] == len(bits[name])
        lost = (change - b @ a).norm() ** 2
        assert lost == pytest.approx((values[len(a) :] ** 2).sum().item(), rel=1e-4, abs=1e-6)
        assert bits[name].tolist() == sorted(bits[name].tolist(), reverse=True)
    assert "bert.encoder.layer.0.output.dense.bias" in factors
    assert not set(LINEARS) & set(factors)
    assert bits[DENSE].tolist() == [6] * 7


@pytest.mark.parametrize("size", [40, 150, 300, 900])
def test_bits_go_where_they_save_most(scripts, size):
    """No bit that was not given saves more of the squared change than the least useful one that was."""
    errors = [min(1.0, 2 * error) for error in fast_loss().ERRORS]
    encoder, whole = changed(scripts)
    changes = {name: whole[name] - encoder[name.removeprefix("bert.")] for name in LINEARS}
    bits = scripts.bits_of_ranks(changes, size)
    given, possible, used = [], [], 0
    for name, change in changes.items():
        squares = torch.linalg.svdvals(change).square().tolist()
        widths = [*bits[name].tolist(), *[0] * (len(squares) - len(bits[name]))]
        for square, width in zip(squares, widths, strict=True):
            used += width * sum(change.shape)
            if width:
                before = 0 if width == 2 else width - 1
                given.append(square * (errors[before] - errors[width]) / (width - before) / sum(change.shape))
            if width < 8:
                after = max(2, width + 1)
                possible.append(square * (errors[width] - errors[after]) / (after - width) / sum(change.shape))
    assert used <= 8 * size < used + 2 * 13 or not possible
    if possible:
        assert max(possible) <= min(given) * (1 + 1e-6)


def test_what_ships_is_what_was_trained_but_for_rounding(scripts, model):
    torch.manual_seed(5)
    parameters = parameters_of(model, whole=False)
    encoder = {name.removeprefix("bert."): v for name, v in model.state_dict().items() if name.startswith("bert.")}
    shipped = merge_update(encoder, scripts.shipped(parameters, some_bits()))
    trained = scripts.merged(parameters, encoder, some_bits())
    assert shipped.keys() == trained.keys()
    for name in LINEARS:
        a, b = parameters[f"{name}.lora_a"].detach(), parameters[f"{name}.lora_b"].detach()
        change = by_hand(b.T, some_bits()[name]).T @ by_hand(a, some_bits()[name])
        for found in (shipped, trained):
            assert (found[name] - encoder[name.removeprefix("bert.")] - change).norm() < 1e-4 * change.norm(), name
    for found in (shipped, trained):
        torch.testing.assert_close(found[DENSE], by_hand(parameters[DENSE].detach(), some_bits()[DENSE]))
    change = trained[WORDS] - encoder[WORDS.removeprefix("bert.")]
    assert (shipped[WORDS] - trained[WORDS]).norm() < 0.02 * change.norm()  # eight bits
    for name in trained.keys() - {*LINEARS, WORDS, DENSE}:
        torch.testing.assert_close(shipped[name], trained[name], atol=1e-3, rtol=1e-3)  # float16


def test_every_sentence_is_packed_once_and_whole(scripts):
    draw = np.random.default_rng(4)
    given = sentences(draw, 300)
    rows = list(scripts.pack(given, draw))
    packed = sorted(tuple(s) for row in rows for s in row)
    assert packed == sorted(tuple(s) for s in given)
    lengths = [sum(map(len, row)) for row in rows]
    assert max(lengths) <= scripts.ROW
    assert sum(lengths) / (len(lengths) * scripts.ROW) > 0.9


def test_workers_share_the_batches_of_one(scripts, monkeypatch):
    """Two workers draw together what one draws alone, and a resumed one goes on where it stopped."""
    monkeypatch.setattr(scripts, "ROWS", 2)
    monkeypatch.setattr(scripts, "MASKS", 9)
    given = sentences(np.random.default_rng(6), 60)

    def pieces(**place):
        return [b.pieces.tolist() for b in itertools.islice(scripts.batches(given, 0, **place), 6)]

    alone = pieces(first_step=0)
    pair = [pieces(first_step=0, worker=n, workers=2) for n in (0, 1)]
    assert [batch for two in zip(*pair, strict=True) for batch in two][:6] == alone
    assert pieces(first_step=4)[:2] == alone[4:]
