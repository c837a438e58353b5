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
# Lines of the table in which the largest scores are looked for.
_DEPTH = 32


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
    """Return the `count` largest values of each row with their ids, descending, equal values by ascending id.

    Which of several values equal to the last one are returned is not defined.
    """
    values, ids = _top(scores, count)
    ids, by_id = ids.sort(dim=-1)
    values, by_value = values.gather(1, by_id).sort(dim=-1, descending=True, stable=True)
    return values, ids.gather(1, by_value)


def _top(scores: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Do what `topk` does, but in a large vocabulary look only into the columns that have the largest maxima.

    The vocabulary is laid out as a table of `_DEPTH` lines. At most `count` columns hold a value larger than the
    last one wanted, and these have the largest maxima.
    """
    rows, vocabulary = scores.shape
    width = vocabulary // _DEPTH
    if width < 4 * count:
        return scores.topk(count, dim=-1)
    table = scores[:, : width * _DEPTH].unflatten(1, (_DEPTH, width))
    columns = table.amax(1).topk(count, dim=-1).indices
    values = table.gather(2, columns[:, None].expand(-1, _DEPTH, -1)).flatten(1)
    lines = torch.arange(_DEPTH, device=scores.device)[None, :, None] * width
    ids = (lines + columns[:, None]).flatten(1)
    rest = torch.arange(width * _DEPTH, vocabulary, device=scores.device)
    values = torch.cat([values, scores[:, width * _DEPTH :]], 1)
    ids = torch.cat([ids, rest.expand(rows, -1)], 1)
    values, place = values.topk(count, dim=-1)
    return values, ids.gather(1, place)


def _nucleus(probabilities: torch.Tensor, top_p: float) -> torch.Tensor:
    """Zero what lies outside the nucleus: tokens above which there is already a mass of p, never the first.

    The probabilities are in descending order. transformers states it from below: a token goes if it and all below it
    have at most 1 - p.
    """
    above = probabilities.cumsum(-1) - probabilities
    outside = above >= top_p
    outside[:, 0] = False
    return probabilities.masked_fill(outside, 0.0)


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
