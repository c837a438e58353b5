"""MABEL's losses: contrastive, alignment, masked language modelling.

He, Xia, Fellbaum and Chen 2022, "MABEL: Attenuating Gender Bias using Textual Entailment Data" (EMNLP), section 3.
They train on entailment pairs (premise p, hypothesis h) and their gender-swapped copies (p', h'): `EntailmentModule`,
as in their released code (training/model.py, `cl_loss`, `a1_loss`, `do_mlm`):

    L_CL   cross-entropy of cos(z, ·)/τ over all hypotheses of the batch, swapped ones too, for each premise z in p, p'
    L_AL   Σ_j [(cos(p_i, h_j) − cos(p'_i, h'_j)) / τ]², the mean over i
    L_MLM  mean over the masked tokens of all four sentences

Where there are counterfactual pairs (m, f) only, two of the three terms say the same of other sentences:

- contrastive: the positive of a sentence is its counterfactual (theirs: the hypothesis of its premise), the negatives
  are all other sentences of the batch;
- alignment: a sentence is as similar to the others' male versions as its counterfactual is to their female versions
  (theirs: a premise to the hypotheses, and the same of the swapped copies);
- masked language modelling, as theirs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fairloop.debias.mabel.settings import MethodSettings
from fairloop.plm.loading import pad_id
from fairloop.seeding import derive
from fairloop.training.contrastive import info_nce, pool
from fairloop.training.data import TrainingData
from fairloop.training.distributed import gather_rows, global_sum
from fairloop.training.job import Components, TrainingJob, TrainingTask
from fairloop.training.masking import Masking, collated, encode, masked_lm_loss
from fairloop.training.module import TrainingModule
from fairloop.training.plm import backbone, freeze_head, load_plm


class PairAlignmentModule(TrainingModule):
    """Minimise L = L_CL + α·L_AL + λ·L_MLM over the sentences of the global batch."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        settings: MethodSettings,
        *,
        seed: int,
        stage: str,
        total_steps: int,
    ) -> None:
        super().__init__(settings, seed=seed, stage=stage, total_steps=total_steps)
        self.settings = settings
        self.model = model
        if not settings.mlm_weight:
            freeze_head(model)
        self.masking = Masking(tokenizer, settings.mask_share, seed=seed, stage=stage)
        self.head = _head(model.config.hidden_size, derive(seed, stage, "head")) if settings.pooling == "cls" else None

    def vectors(self, batch: dict[str, Tensor]) -> Tensor:
        """Return the sentences' vectors [2n, width]."""
        output = backbone(self.model)(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        pooled = pool(output.last_hidden_state, batch["attention_mask"], self.settings.pooling)
        return pooled if self.head is None else self.head(pooled)

    def loss_parts(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the summed loss of this process's sentences and their number; the second half are counterfactuals."""
        vectors = self.vectors(batch).float()
        terms = {"contrastive": info_nce(vectors, batch["texts"], self.settings.temperature)}
        # Twice, once for each sentence of a pair: the sum is divided by the number of sentences.
        terms["alignment"] = 2 * alignment(vectors, self.settings.temperature)
        total = terms["contrastive"] + self.settings.alignment_weight * terms["alignment"]
        count = torch.tensor(len(vectors), device=total.device)
        if self.settings.mlm_weight:
            terms["language"] = self.language(batch, count)
            total = total + self.settings.mlm_weight * terms["language"]
        self.log_terms(**terms)
        return total, count

    def language(self, batch: dict[str, Tensor], count: Tensor) -> Tensor:
        """Return the masked-LM loss of this process's tokens, scaled: over all `count` it is a mean over tokens."""
        ids, chosen = self.masking(batch, self.global_step if self.training else -1)
        numbers = global_sum(torch.stack([count, chosen.sum()]).double())
        scale = float(numbers[0] / numbers[1].clamp(min=1))
        return scale * masked_lm_loss(self.model, batch, ids, chosen)


def alignment(vectors: Tensor, temperature: float) -> Tensor:
    """Return Σ_i Σ_j [(cos(m_i, m_j) − cos(f_i, f_j)) / τ]² over this process's pairs i and all pairs j.

    Args:
        vectors: [2n, width] of this process; row i and row i + n are a pair.
        temperature: τ.
    """
    unit = functional.normalize(vectors.float(), dim=1)
    male, female = unit[: len(unit) // 2], unit[len(unit) // 2 :]
    with torch.autocast(unit.device.type, enabled=False):
        differences = male @ gather_rows(male)[0].T - female @ gather_rows(female)[0].T
    return (differences / temperature).pow(2).sum()


class EntailmentModule(PairAlignmentModule):
    """The published losses, over premises, hypotheses, and both swapped: four equal parts of a batch, in this order."""

    def loss_parts(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the summed loss of this process's premises, swapped ones too, and their number."""
        premises, hypotheses, swapped_premises, swapped_hypotheses = self.vectors(batch).float().chunk(4)
        temperature = self.settings.temperature
        kept = similarities(premises, hypotheses, temperature)
        swapped = similarities(swapped_premises, swapped_hypotheses, temperature)
        crossed = (
            similarities(premises, swapped_hypotheses, temperature),
            similarities(swapped_premises, hypotheses, temperature),
        )
        logits = torch.cat([torch.cat([kept, crossed[0]], dim=1), torch.cat([crossed[1], swapped], dim=1)])
        own = gather_rows(premises.detach())[1] + torch.arange(len(premises), device=logits.device)
        labels = torch.cat([own, own + kept.shape[1]])
        terms = {
            "contrastive": functional.cross_entropy(logits, labels, reduction="sum"),
            # A mean over premises, of which the swapped ones are not counted: the sum is divided by twice as many.
            "alignment": 2 * (kept - swapped).pow(2).sum(),
        }
        total = terms["contrastive"] + self.settings.alignment_weight * terms["alignment"]
        count = torch.tensor(len(labels), device=total.device)
        if self.settings.mlm_weight:
            terms["language"] = self.language(batch, count)
            total = total + self.settings.mlm_weight * terms["language"]
        self.log_terms(**terms)
        return total, count


def similarities(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Return the cosines of this process's rows with all processes' [n, all], divided by the temperature."""
    with torch.autocast(first.device.type, enabled=False):
        ours, theirs = (functional.normalize(rows.float(), dim=1) for rows in (first, second))
        return ours @ gather_rows(theirs)[0].T / temperature


def _head(width: int, seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, width))


def pair_data(
    pairs: Sequence[tuple[str, ...]], tokenizer: Any, settings: MethodSettings, *, seed: int, stage: str
) -> TrainingData:
    """Return the data module of items of several sentences each: of a batch all first ones, then all second ones, …"""
    size = len(pairs[0]) if pairs else 1
    texts = [text for pair in pairs for text in pair]
    numbers = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    rows = encode(texts, tokenizer, settings.max_length)
    filler = pad_id(tokenizer)

    def collate(items: Sequence[int]) -> dict[str, Tensor]:
        sentences = [size * item + side for side in range(size) for item in items]
        batch = collated([rows[sentence] for sentence in sentences], sentences, filler)
        return batch | {"texts": torch.tensor([numbers[texts[sentence]] for sentence in sentences])}

    lengths = [max(len(ids) for ids, _ in rows[size * item : size * (item + 1)]) for item in range(len(pairs))]
    return TrainingData(range(len(pairs)), lengths, collate, settings, seed=seed, stage=stage, what="pairs")


@dataclass(frozen=True)
class PairAlignmentTask(TrainingTask):
    """Bring the two sentences of each pair together."""

    settings: MethodSettings
    pairs: tuple[tuple[str, str], ...]

    def components(self, job: TrainingJob) -> Components:
        """Load the PLM and tokenise the pairs; see `TrainingTask`."""
        model, tokenizer = load_plm(job, "masked", self.settings)
        data = pair_data(self.pairs, tokenizer, self.settings, seed=job.seed, stage=job.stage)
        module = PairAlignmentModule(
            model, tokenizer, self.settings, seed=job.seed, stage=job.stage, total_steps=data.total_steps
        )
        return Components(module, data, tokenizer)


@dataclass(frozen=True)
class EntailmentTask(TrainingTask):
    """Bring each premise and what it entails together, alike for both genders."""

    settings: MethodSettings
    rows: tuple[tuple[str, str, str, str], ...]

    def components(self, job: TrainingJob) -> Components:
        """Load the PLM and tokenise the sentences; see `TrainingTask`."""
        model, tokenizer = load_plm(job, "masked", self.settings)
        data = pair_data(self.rows, tokenizer, self.settings, seed=job.seed, stage=job.stage)
        module = EntailmentModule(
            model, tokenizer, self.settings, seed=job.seed, stage=job.stage, total_steps=data.total_steps
        )
        return Components(module, data, tokenizer)
