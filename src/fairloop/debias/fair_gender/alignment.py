"""Alignment: does a pair agree with what the frozen PLM knows? (arXiv 2501.06795; docs/methods.md, section 7)

A pair is aligned if the frozen PLM

- finds both sentences plausible: each one's (pseudo-)log-likelihood per token is at least a quantile of that of the
  PLM's own reference sentences;
- recovers the shared target word from its context: with the target masked, its first token has at least a given rank
  in both sentences. A causal model is asked where the training reads it (`tokens`).

The paper's thresholds are not public; the two numbers are settings.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fairloop.console import OnProgress
from fairloop.errors import UserError

if TYPE_CHECKING:
    from fairloop.debias.fair_gender.tokens import Side, Tokens
    from fairloop.pairs.pair import Pair
    from fairloop.plm.model import LanguageModel, ScoreMemory

IMPLAUSIBLE, NOT_RECOVERED = "unaligned: implausible to the PLM", "unaligned: target not recovered"
_PAIRS_AT_ONCE = 32


@dataclass(frozen=True)
class Alignment:
    """What the frozen PLM makes of one pair.

    Attributes:
        plausibility: the lower of the two sentences' log-likelihoods per token, in nats.
        rank: the worse of the target's two ranks; 1 is the PLM's first guess.
        reason: why the pair is not aligned; empty if it is.
    """

    plausibility: float
    rank: int
    reason: str


def align(
    plm: "LanguageModel",
    tokens: "Tokens",
    pairs: "Sequence[Pair]",
    reference: Sequence[str],
    *,
    quantile: float,
    rank: int,
    on_progress: OnProgress | None = None,
    memory: "ScoreMemory | None" = None,
) -> list[Alignment]:
    """Judge each pair.

    Args:
        plm: the frozen PLM.
        tokens: how a training on this PLM tokenises pairs.
        pairs: the pairs.
        reference: sentences of which the PLM's likelihood is what plausible means.
        quantile: share of the reference sentences that are less plausible than an aligned sentence may be.
        rank: the worst rank at which a target still counts as recovered.
        on_progress: called with (inputs scored, inputs in all).
        memory: keeps finished scores, so that a killed filter goes on where it was.

    Raises:
        UserError: there are no reference sentences.
        Fault: a pair without its target, or longer than the PLM's window.
    """
    if not reference:
        raise UserError("debias.alignment: there are no neutral sentences to tell what the PLM finds plausible")
    from fairloop.plm.scoring import token_scores

    sentences = [*reference, *(pair.male for pair in pairs), *(pair.female for pair in pairs)]
    means = np.array([score.mean for score in token_scores(plm, sentences, on_progress=on_progress, memory=memory)])
    floor = float(np.quantile(means[: len(reference)], quantile))
    plausibility = means[len(reference) :].reshape(2, -1).min(axis=0)
    ranks = target_ranks(plm.model, tokens, pairs)
    return [
        Alignment(float(plausible), found, IMPLAUSIBLE if plausible < floor else NOT_RECOVERED if found > rank else "")
        for plausible, found in zip(plausibility, ranks, strict=True)
    ]


def target_ranks(model: Any, tokens: "Tokens", pairs: "Sequence[Pair]") -> list[int]:
    """Return the worse rank of each pair's target in its two sentences: 1 + the number of likelier tokens."""
    ranks: list[int] = []
    for first in range(0, len(pairs), _PAIRS_AT_ONCE):
        some = pairs[first : first + _PAIRS_AT_ONCE]
        sides = [tokens.pair(pair.male, pair.female, pair.target) for pair in some]
        found = _ranks(model, tokens, [side for both in sides for side in both])
        ranks += [max(found[2 * n], found[2 * n + 1]) for n in range(len(some))]
    return ranks


def _ranks(model: Any, tokens: "Tokens", sides: "Sequence[Side]") -> list[int]:
    import torch

    from fairloop.training.data import pad
    from fairloop.training.predictions import logits_at, places

    device = next(model.parameters()).device
    ids, mask = (part.to(device) for part in pad([side.asked for side in sides], tokens.pad_id))
    wanted = places(ids, torch.tensor([side.place for side in sides], device=device))
    with torch.inference_mode():
        logits = logits_at(model, ids, mask, wanted, causal=tokens.kind == "causal")
    answers = torch.tensor([side.answer for side in sides], device=device)
    # A causal model that is read behind a sentence's last token is asked for nothing: any rank will do.
    truth = logits.gather(1, answers.clamp(min=0).unsqueeze(1))
    ranks = 1 + (logits > truth).sum(dim=1)
    return [int(rank) if int(answer) >= 0 else 1 for rank, answer in zip(ranks, answers, strict=True)]
