"""The masked-LM loss of a training step, for a processor: products in bfloat16, the head only where it is asked.

It is the loss of a plain ``BertForMaskedLM`` with the merged weights (tests/plm/test_plm_minilm_training.py). A weight
of a layer is trained whole, or as W + B·A with factors A and B, rounded to few bits or not; the word embeddings always
as W + B·A.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.nn import functional

from fairloop.plm.minilm import HEAD, LAYERS, MASK_ID, MASK_ROW, WORDS

Parameters = Mapping[str, torch.Tensor]
DENSE = HEAD + "dense.weight"
EPSILON = 1e-12  # of the layer norms


STEPS = torch.tensor([0, 0, 0.9957, 0.5860, 0.3352, 0.1881, 0.1041, 0.0569, 0.0308])
ERRORS = (1.0, 1.0, 0.1188, 0.03744, 0.01154, 0.003490, 0.001040, 0.0003043, 0.0000877)
"""Of a uniform quantiser with 0 to 8 bits, best for normally distributed numbers of variance 1: its step, and its mean
squared error (Max 1960, Quantizing for Minimum Distortion, table II; 6 bits and more by the same minimisation)."""


def quantised(x: torch.Tensor, bits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes [rank, n], of rank r from 0 to 2^bits[r] - 1, and steps [rank]: x is (code - 2^(bits-1) + 1/2) · step."""
    half = (2.0 ** (bits - 1.0))[:, None]
    step = STEPS[bits.long()][:, None] * x.square().mean(1, keepdim=True).sqrt()
    codes = torch.minimum((x / step).floor() + half, 2 * half - 1).clamp(min=0)
    return codes, step[:, 0]


def rounded(x: torch.Tensor, bits: torch.Tensor) -> torch.Tensor:
    """x [rank, n] as its codes give it back; the gradient passes as if nothing was rounded (straight-through)."""
    codes, step = quantised(x.detach(), bits)
    return x + ((codes - (2.0 ** (bits - 1.0))[:, None] + 0.5) * step[:, None] - x).detach()


class Adapted(torch.autograd.Function):
    """x · (W + B·A)ᵀ of rows x [n, in] with the sum formed once for all rows, and gradients of x, A and B alone: the
    gradient of the sum, as large as W, would cost a third of all products of a step."""

    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any, a: Any, b: Any) -> torch.Tensor:
        """Return [n, out] in the precision of x."""
        a, b = a.to(x.dtype), b.to(x.dtype)
        merged = (weight + (b @ a)).to(x.dtype)
        ctx.save_for_backward(x, merged, a, b)
        return x @ merged.T

    @staticmethod
    def backward(ctx: Any, grad: Any) -> tuple[torch.Tensor | None, ...]:
        """Return the gradients of x, W (none), A and B."""
        x, merged, a, b = ctx.saved_tensors
        return grad @ merged, None, ((grad @ b).T @ x).float(), (grad.T @ (x @ a.T)).float()


class WordLoss(torch.autograd.Function):
    """Mean cross-entropy of rows x [M, hidden] over all words, logits x · (W + B·A)ᵀ + bias, with (1 - trust) times the
    wanted words plus trust times the probabilities [M, words] of a teacher. The gradient of the logits, the largest
    tensor of a step, is made once and in the precision of x, and W has none."""

    @staticmethod
    def forward(
        ctx: Any, x: Any, words: Any, a: Any, b: Any, bias: Any, wanted: Any, taught: Any, trust: float
    ) -> torch.Tensor:
        """Return the loss, a scalar in float32."""
        a, b = a.to(x.dtype), b.to(x.dtype)
        inner = x @ a.T
        logits = (x @ words.T).float() + (inner @ b.T).float() + bias
        total = logits.logsumexp(-1)
        ctx.save_for_backward(x, words, a, b, inner, logits.to(x.dtype), total, wanted, taught)
        ctx.trust = trust
        loss = total - (1 - trust) * logits.gather(1, wanted[:, None])[:, 0]
        if trust:
            loss = loss - trust * (taught.float() * logits).sum(-1)
        return loss.mean()

    @staticmethod
    def backward(ctx: Any, grad: Any) -> tuple[torch.Tensor | None, ...]:
        """Return the gradients of x, A, B and the bias."""
        x, words, a, b, inner, logits, total, wanted, taught = ctx.saved_tensors
        share = grad / len(wanted)
        change = (logits.float() - total[:, None]).exp()
        if ctx.trust:
            change = change - ctx.trust * taught.float()
        change = (change * share).to(x.dtype)
        told = (-(1 - ctx.trust) * share).to(x.dtype).expand(len(wanted))
        change = change.index_put((torch.arange(len(wanted)), wanted), told, accumulate=True)
        inward = change @ b
        of_bias = change.float().sum(0)
        of_a, of_b = (inward.T @ x).float(), (change.T @ inner).float()
        return change @ words + inward @ a, None, of_a, of_b, of_bias, None, None, None


def loss_function(
    model: Any,
    bits: Parameters | None = None,
    teacher: Parameters | None = None,
    trust: float = 0.75,
    dtype: torch.dtype = torch.bfloat16,
    compiled: bool = True,
) -> Callable[..., torch.Tensor]:
    """Return the loss of (parameters, pieces, places, visible, masked, wanted), the latter as in ``train.Batch``.

    With a teacher, what it says of each masked piece counts ``trust`` times and the piece itself the rest, and for each
    layer the squared distance of the hidden states from the teacher's is added, as a share of the teacher's square.

    Args:
        model: The ``BertForMaskedLM`` whose weights are those that no parameter replaces.
        bits: Of each rank of the factors and each row of the head's matrix; none: they are not rounded.
        teacher: Its parameters, whole weights.
        trust: From 0 to 1.
        dtype: Precision of the products; sums, norms and the softmax are in float32.
        compiled: Whether ``torch.compile`` makes it fast, for batches of one shape.
    """
    frozen = {name: value.detach() for name, value in model.state_dict().items() if name.startswith("bert.")}
    words, positions = frozen[WORDS], frozen["bert.embeddings.position_embeddings.weight"]
    kinds = frozen["bert.embeddings.token_type_embeddings.weight"][0]
    output_words = words.to(dtype)
    heads, hidden = model.config.num_attention_heads, model.config.hidden_size

    def norm(x: torch.Tensor, p: Parameters, name: str) -> torch.Tensor:
        scale, shift = p[f"{name}.LayerNorm.weight"], p[f"{name}.LayerNorm.bias"]
        return functional.layer_norm(x.float(), (hidden,), scale, shift, eps=EPSILON).to(dtype)

    def linear(x: torch.Tensor, p: Parameters, name: str) -> torch.Tensor:
        weight = f"{name}.weight"
        if weight in p:
            y = x @ p[weight].to(dtype).T
        else:
            a, b = p[f"{weight}.lora_a"], p[f"{weight}.lora_b"]
            if bits:
                a, b = rounded(a, bits[weight]), rounded(b.T, bits[weight]).T
            y = Adapted.apply(x, frozen[weight], a, b)
        return y + p[f"{name}.bias"].to(dtype)

    def encoded(p: Parameters, pieces: Any, places: Any, visible: Any, masked: Any) -> list[torch.Tensor]:
        """Hidden states after each layer [pieces, hidden], after the last one those of the masked pieces alone."""
        rows, width = pieces.shape

        def split(x: torch.Tensor) -> torch.Tensor:
            return x.view(rows, width, heads, -1).transpose(1, 2)

        x = functional.embedding(pieces, words)
        x = x + functional.embedding(pieces, p[f"{WORDS}.lora_b"]) @ p[f"{WORDS}.lora_a"]
        x = torch.where((pieces == MASK_ID)[..., None], p[MASK_ROW], x)
        x = norm(x + functional.embedding(places, positions) + kinds, p, "bert.embeddings").view(-1, hidden)
        states = []
        for number in range(LAYERS):
            layer = f"bert.encoder.layer.{number}"
            query, key, value = (split(linear(x, p, f"{layer}.attention.self.{n}")) for n in ("query", "key", "value"))
            shares = ((query @ key.transpose(-1, -2)).float() * query.shape[-1] ** -0.5 + visible).softmax(-1)
            seen = (shares.to(dtype) @ value).transpose(1, 2).reshape(-1, hidden)
            x = norm(linear(seen, p, f"{layer}.attention.output.dense") + x, p, f"{layer}.attention.output")
            if number == LAYERS - 1:  # above the last attention, pieces that nobody asks for serve nothing
                x = x[masked]
            inner = functional.gelu(linear(x, p, f"{layer}.intermediate.dense").float()).to(dtype)
            x = norm(linear(inner, p, f"{layer}.output.dense") + x, p, f"{layer}.output")
            states.append(x)
        return states

    def transformed(p: Parameters, x: torch.Tensor) -> torch.Tensor:
        """The head up to its product with the words."""
        weight = p[DENSE]
        if bits and p is not teacher:
            weight = rounded(weight, bits[DENSE])
        x = x @ weight.T.to(dtype) + p[HEAD + "dense.bias"].to(dtype)
        scale, shift = p[HEAD + "LayerNorm.weight"], p[HEAD + "LayerNorm.bias"]
        return functional.layer_norm(functional.gelu(x.float()), (hidden,), scale, shift, eps=EPSILON).to(dtype)

    @torch.no_grad()
    def lesson(t: Parameters, *inputs: Any) -> tuple[list[torch.Tensor], torch.Tensor]:
        """The teacher's hidden states, and its probabilities of all words at the masked pieces."""
        states = encoded(t, *inputs)
        x = transformed(t, states[-1])
        logits = (x @ output_words.T).float() + t["cls.predictions.bias"]
        logits = logits + ((x @ t[f"{WORDS}.lora_a"].T.to(dtype)) @ t[f"{WORDS}.lora_b"].T.to(dtype)).float()
        return states, logits.softmax(-1).to(dtype)

    def loss(p: Parameters, pieces: Any, places: Any, visible: Any, masked: Any, wanted: Any) -> torch.Tensor:
        states = encoded(p, pieces, places, visible, masked)
        change = (p[f"{WORDS}.lora_a"], p[f"{WORDS}.lora_b"], p["cls.predictions.bias"])
        output = (transformed(p, states[-1]), output_words, *change, wanted)
        if teacher is None:
            return WordLoss.apply(*output, wanted, 0.0)
        taught, probabilities = lesson(teacher, pieces, places, visible, masked)
        total = WordLoss.apply(*output, probabilities, trust)
        filled = (pieces != 0).view(-1, 1).float()
        for number, (mine, theirs) in enumerate(zip(states, taught, strict=True)):
            weight = filled if number < LAYERS - 1 else torch.ones(len(masked), 1)
            theirs = theirs.float()
            total = total + ((mine.float() - theirs).square() * weight).sum() / (theirs.square() * weight).sum()
        return total

    return torch.compile(loss, dynamic=False) if compiled else loss
