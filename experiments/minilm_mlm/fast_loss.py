"""The masked-LM loss of a training step, for a processor: products in bfloat16, the head only where it is asked.

It is the loss of a plain ``BertForMaskedLM`` with the merged weights (tests/plm/test_plm_minilm_training.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.nn import functional

from fairloop.plm.minilm import HEAD, LAYERS, LINEARS, MASK_ID, MASK_ROW, WORDS

Parameters = Mapping[str, torch.Tensor]
EPSILON = 1e-12  # of the layer norms
THRESHOLD = 1.06  # of the root mean square of a row; what is nearer to zero becomes zero, some 70% of normal numbers


def ternary(change: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes -1, 0 and 1 [out, in] of the numbers of each row, and a scale [out]: the mean size of those that are not 0
    (Li and Liu 2016, Ternary Weight Networks, with a higher threshold, so that a number needs 1.2 bits)."""
    size = change.abs()
    kept = (size > THRESHOLD * change.square().mean(1, keepdim=True).sqrt()).float()
    return change.sign() * kept, (size * kept).sum(1) / kept.sum(1).clamp(min=1)


def rounded(weight: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
    """base + the ternary change; the gradient passes as if nothing was rounded (straight-through)."""
    codes, scale = ternary(weight.detach() - base)
    return weight + (base + codes * scale[:, None] - weight).detach()


class WordLoss(torch.autograd.Function):
    """Mean cross-entropy of rows x [M, hidden] over all words, logits x · (W + B·A)ᵀ + bias. The gradient of the
    logits, the largest tensor of a step, is made with the loss, once and in the precision of x, and W has none."""

    @staticmethod
    def forward(ctx: Any, x: Any, words: Any, a: Any, b: Any, bias: Any, wanted: Any) -> torch.Tensor:
        """Return the loss, a scalar in float32."""
        merged = (words + b @ a).to(x.dtype)
        logits = (x @ merged.T).float() + bias
        total = logits.logsumexp(-1)
        hit = torch.arange(logits.shape[1]) == wanted[:, None]
        change = ((logits - total[:, None]).exp() - hit.float()) / len(wanted)
        ctx.save_for_backward(x, merged, a.to(x.dtype), b.to(x.dtype), change.to(x.dtype), change.sum(0))
        return (total - logits.gather(1, wanted[:, None])[:, 0]).mean()

    @staticmethod
    def backward(ctx: Any, grad: Any) -> tuple[torch.Tensor | None, ...]:
        """Return the gradients of x, A, B and the bias."""
        x, merged, a, b, change, of_bias = ctx.saved_tensors
        of_a, of_b = (change @ b).T @ x, change.T @ (x @ a.T)
        grads = (change @ merged, None, of_a.float(), of_b.float(), of_bias, None)
        return tuple(part if part is None else part * grad.to(part.dtype) for part in grads)


def loss_function(
    model: Any, rounding: bool, dtype: torch.dtype = torch.bfloat16, compiled: bool = True
) -> Callable[..., torch.Tensor]:
    """Return the loss of (parameters, pieces, places, visible, masked, wanted), the latter as in ``train.Batch``.

    Args:
        model: The ``BertForMaskedLM`` whose weights are those that no parameter replaces.
        rounding: Whether each layer's weight is its own plus the ternary of the parameter's change from it.
        dtype: Precision of the products; sums, norms and the softmax are in float32.
        compiled: Whether ``torch.compile`` makes it fast, for batches of one shape.
    """
    frozen = {name: value.detach() for name, value in model.state_dict().items() if name.startswith("bert.")}
    words, positions = frozen[WORDS], frozen["bert.embeddings.position_embeddings.weight"]
    kinds = frozen["bert.embeddings.token_type_embeddings.weight"][0]
    heads, hidden = model.config.num_attention_heads, model.config.hidden_size

    def norm(x: torch.Tensor, p: Parameters, name: str) -> torch.Tensor:
        scale, shift = p[f"{name}.LayerNorm.weight"], p[f"{name}.LayerNorm.bias"]
        return functional.layer_norm(x.float(), (hidden,), scale, shift, eps=EPSILON).to(dtype)

    def linear(x: torch.Tensor, p: Parameters, name: str) -> torch.Tensor:
        weight = p[f"{name}.weight"]
        if rounding and f"{name}.weight" in LINEARS:
            weight = rounded(weight, frozen[f"{name}.weight"])
        return x @ weight.to(dtype).T + p[f"{name}.bias"].to(dtype)

    def loss(p: Parameters, pieces: Any, places: Any, visible: Any, masked: Any, wanted: Any) -> torch.Tensor:
        rows, width = pieces.shape

        def split(x: torch.Tensor) -> torch.Tensor:
            return x.view(rows, width, heads, -1).transpose(1, 2)

        x = functional.embedding(pieces, words)
        x = x + functional.embedding(pieces, p[f"{WORDS}.lora_b"]) @ p[f"{WORDS}.lora_a"]
        x = torch.where((pieces == MASK_ID)[..., None], p[MASK_ROW], x)
        x = norm(x + functional.embedding(places, positions) + kinds, p, "bert.embeddings").view(-1, hidden)
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
        inner = functional.gelu(linear(x, p, HEAD + "dense").float())
        x = norm(inner, p, HEAD.removesuffix("."))
        change = (p[f"{WORDS}.lora_a"], p[f"{WORDS}.lora_b"], p["cls.predictions.bias"])
        return WordLoss.apply(x, words, *change, wanted)

    return torch.compile(loss, dynamic=False) if compiled else loss
