"""Sampling of the next token: the distribution of transformers' processors, without their cost.

transformers scales, sorts and samples over the whole vocabulary (262,144 entries for Gemma 3). Here the candidates
that top-k or top-p leave are found first, and one uniform number per row picks among them by the inverse of their
cumulative distribution. The order of the processors is that of transformers: repetition penalty, temperature, top-k,
top-p; so are their ties: top-k keeps every token as likely as the k-th, and top-p drops the lower of equal ids first.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

# Enough candidates for top-p without top-k; rows whose mass lies wider are sorted in full.
_NUCLEUS = 1024
# Looked at beyond k: what ties with the k-th candidate usually lies among them.
_TIES = 32


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn: see `ModelSettings` for the meaning and range of each number."""

    temperature: float = 1.0
    top_k: int = 50
    top_p: float = 1.0
    repetition_penalty: float = 1.0


@dataclass(frozen=True)
class Candidates:
    """What is left to choose from, likeliest first and by id among equals.

    Attributes:
        ids: token ids [rows, m].
        probabilities: float64 [rows, m], zero where a row has fewer than m candidates, each row summing to 1.
    """

    ids: torch.Tensor
    probabilities: torch.Tensor


def sample(
    logits: torch.Tensor, uniforms: torch.Tensor, sampling: Sampling, seen: Sequence[Sequence[int]] | None = None
) -> torch.Tensor:
    """Draw one token id per row.

    Args:
        logits: [rows, vocabulary], any float type.
        uniforms: [rows] in [0, 1), float64: the row's random number.
        sampling: temperature 0 takes the likeliest token (the lowest id among equals).
        seen: per row the ids that the repetition penalty applies to (prompt and text so far); needed if it is not 1.

    Returns:
        Token ids [rows].
    """
    scores = _penalised(logits, sampling.repetition_penalty, seen)
    if sampling.temperature == 0.0:
        return scores.argmax(dim=-1)
    if sampling.top_k == 0 and sampling.top_p == 1.0:
        return _from_everything(scores, uniforms, sampling.temperature)
    candidates = _choose(scores, sampling)
    position = _invert(candidates.probabilities, uniforms)
    return candidates.ids.gather(1, position[:, None])[:, 0]


def choose_candidates(
    logits: torch.Tensor, sampling: Sampling, seen: Sequence[Sequence[int]] | None = None
) -> Candidates:
    """Return the tokens that may come next and their probabilities; arguments as for `sample`, temperature above 0."""
    return _choose(_penalised(logits, sampling.repetition_penalty, seen), sampling)


def _penalised(logits: torch.Tensor, penalty: float, seen: Sequence[Sequence[int]] | None) -> torch.Tensor:
    if penalty == 1.0:
        return logits
    if seen is None:
        raise ValueError("a repetition penalty needs the ids seen so far")
    scores = logits.float().clone()
    for row, ids in enumerate(seen):
        where = torch.tensor(sorted(set(ids)), device=scores.device)
        score = scores[row, where]
        scores[row, where] = torch.where(score < 0, score * penalty, score / penalty)
    return scores


def _choose(scores: torch.Tensor, sampling: Sampling) -> Candidates:
    vocabulary = scores.shape[-1]
    if sampling.top_k:
        k = min(sampling.top_k, vocabulary)
        wanted = min(k + _TIES, vocabulary)
    else:
        k = vocabulary
        wanted = min(_NUCLEUS, vocabulary) if sampling.top_p < 1.0 else vocabulary
    values, ids = _largest(scores, wanted)
    complete = wanted == vocabulary
    scaled = values.float() / sampling.temperature
    if sampling.top_k:
        border = scaled[:, k - 1 : k]
        kept = scaled >= border
        if not complete and bool(kept[:, -1].any()):
            return _choose_in_full(scores, sampling)
        total = torch.where(kept, scaled, -torch.inf).double().logsumexp(-1, keepdim=True)
    else:
        kept = torch.ones_like(scaled, dtype=torch.bool)
        total = (scores.float() / sampling.temperature).double().logsumexp(-1, keepdim=True)
    probabilities = (scaled.double() - total).exp().masked_fill(~kept, 0.0)
    if sampling.top_p < 1.0:
        if not complete and not sampling.top_k and bool((probabilities.sum(-1) < sampling.top_p + 1e-4).any()):
            return _choose_in_full(scores, sampling)
        probabilities = _nucleus(probabilities, sampling.top_p)
    most = int((probabilities > 0).sum(-1).max())
    probabilities = probabilities[:, :most]
    return Candidates(ids[:, :most], probabilities / probabilities.sum(-1, keepdim=True))


def _choose_in_full(scores: torch.Tensor, sampling: Sampling) -> Candidates:
    """Sort whole rows: for ties or nuclei that reach beyond the candidates that are usually enough."""
    scaled, ids = (scores.float() / sampling.temperature).sort(dim=-1, descending=True, stable=True)
    if sampling.top_k:
        border = scaled[:, min(sampling.top_k, scaled.shape[-1]) - 1, None]
        scaled = scaled.masked_fill(scaled < border, -torch.inf)
    probabilities = scaled.double().softmax(-1)
    if sampling.top_p < 1.0:
        probabilities = _nucleus(probabilities, sampling.top_p)
    most = int((probabilities > 0).sum(-1).max())
    probabilities = probabilities[:, :most]
    return Candidates(ids[:, :most], probabilities / probabilities.sum(-1, keepdim=True))


def _largest(scores: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the `count` largest values of each row with their ids, descending, equal values by ascending id."""
    values, ids = scores.topk(count, dim=-1)
    ids, by_id = ids.sort(dim=-1)
    values, by_value = values.gather(1, by_id).sort(dim=-1, descending=True, stable=True)
    return values, ids.gather(1, by_value)


def _nucleus(probabilities: torch.Tensor, top_p: float) -> torch.Tensor:
    """Zero what lies outside the nucleus: tokens with at most 1 - p of the mass in them and in those below them.

    Among equal values the higher ids are kept, so equals are summed as ascending order by id would have them.
    """
    ascending = torch.arange(probabilities.shape[-1], device=probabilities.device).expand_as(probabilities)
    # Descending values with ascending ids, turned round, is ascending values with descending ids among equals;
    # a stable sort of the list with its equals put right gives ascending values with ascending ids.
    values, order = probabilities.sort(dim=-1, stable=True)
    removed = values.cumsum(-1) <= 1.0 - top_p
    removed[:, -1] = False
    place = ascending.gather(1, order)
    return probabilities.masked_fill(torch.zeros_like(removed).scatter(1, place, removed), 0.0)


def _invert(probabilities: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """Return per row the first index whose cumulative probability exceeds the row's uniform number."""
    cumulative = probabilities.cumsum(-1)
    target = uniforms[:, None].to(cumulative) * cumulative[:, -1:]
    index = torch.searchsorted(cumulative, target, right=True)[:, 0]
    # Rounding can push the target onto the last sum; the last token with any probability is then meant.
    last = (probabilities > 0).cumsum(-1).argmax(-1)
    return torch.minimum(index, last)


def _from_everything(scores: torch.Tensor, uniforms: torch.Tensor, temperature: float) -> torch.Tensor:
    """Draw from the whole vocabulary, in id order, in two steps: first a chunk, then a token in it."""
    rows, vocabulary = scores.shape
    width = 512
    scaled = scores.float() / temperature
    weights = (scaled - scaled.amax(-1, keepdim=True)).exp()
    weights = torch.nn.functional.pad(weights, (0, -vocabulary % width)).view(rows, -1, width)
    chunks = weights.sum(-1, dtype=torch.float64)
    chunk = _invert(chunks, uniforms)
    inside = weights[torch.arange(rows, device=scores.device), chunk].double()
    before = chunks.cumsum(-1).gather(1, chunk[:, None])[:, 0] - chunks.gather(1, chunk[:, None])[:, 0]
    left = uniforms.to(chunks) * chunks.sum(-1) - before
    share = (left / inside.sum(-1)).clamp(0.0, 1.0)
    return chunk * width + _invert(inside, share)
