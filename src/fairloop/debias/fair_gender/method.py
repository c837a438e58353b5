"""Fair-Gender: incorporate pairs of sentences that agree with what the PLM knows and do its language no harm.

"Bridging the Fairness Gap: Enhancing Pre-trained Models with LLM-Generated Sentences" (arXiv 2501.06795).

    filter   aligned pairs (`alignment`) whose causal effect is not harmful (`effect`)
    debias   minimise L = L_b + λ·L_r over them (`loss`)

In L_b the weight w_i gives every target word the same sum of weights: pairs are written in equal numbers for each
target, and the filters leave unequal ones.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairloop.debias import base
from fairloop.debias.base import DebiasData
from fairloop.debias.card import write_card
from fairloop.debias.fair_gender.settings import MethodSettings
from fairloop.debias.fair_gender.tokens import Tokens, TrainingPair
from fairloop.debias.trained import train_into
from fairloop.errors import UserError
from fairloop.lexicon import occupations
from fairloop.pairs.pair import Pair, PairRow
from fairloop.seeding import random_generator
from fairloop.training.hook import Training

if TYPE_CHECKING:
    from fairloop.debias.fair_gender.neighbours import Neighbours
    from fairloop.plm.model import LanguageModel
    from fairloop.plm.settings import PlmSettings

#: What decides the step that the filter estimates, and what is made of the estimate; effects are per unit of the rate.
_STEP = ["tolerance", "neighbours", "predicted", "regularizer", "lambda_r", "text_weight", "mask_share", "clip_norm"]
EVALUATIONS_FILE = "early_stopping.csv"


class Method(base.Method):
    """Causal filter and incorporation."""

    name = "fair_gender"
    settings: MethodSettings

    def __init__(self, settings: MethodSettings) -> None:
        super().__init__(settings)
        self.filters_pairs = settings.alignment.enabled or settings.causal != "none"

    def check(self, plm: "PlmSettings") -> None:
        """Refuse more neighbours, or a larger batch, than there can be pairs."""
        super().check(plm)
        self.settings.compared(plm.kind)
        for name in ("neighbours", "batch_size"):
            if getattr(self.settings, name) > self.settings.pairs:
                raise UserError.of(
                    f"debias.{name}", getattr(self.settings, name), f"at most debias.pairs={self.settings.pairs}"
                )

    def filter_settings(self) -> dict[str, Any]:
        """Return, as plain data, the settings that decide what `filter` returns."""
        names = ["alignment", "causal", "max_length"]
        if self.settings.causal != "none":
            names += _STEP
            if self.settings.causal == "influence":
                names += ["weights", *(["lora"] if self.settings.weights == "lora" else [])]
        return {name: self.settings.deciding()[name] for name in names}

    def filter(
        self, plm: "PlmSettings", rows: Sequence[PairRow], neutral: Sequence[str], training: Training
    ) -> list[PairRow]:
        """Return the rows, with alignment and effect, of which the unaligned and the harmful are dropped."""
        from fairloop.plm.model import LanguageModel

        if not self.filters_pairs:
            return list(rows)
        model = LanguageModel.load(plm)
        tokens = _tokens(model, self.settings.max_length)
        judged = list(rows)
        if self.settings.alignment.enabled:
            judged = self._align(model, tokens, judged, neutral, training)
        if self.settings.causal != "none":
            judged = self._estimate(model, tokens, judged, neutral, training)
        return judged

    def debias(self, plm: "PlmSettings", data: DebiasData, folder: Path, training: Training) -> None:
        """Incorporate the pairs; see `base.Method.debias`."""
        from fairloop.debias.fair_gender.effect import STAGE
        from fairloop.debias.fair_gender.loss import IncorporationTask
        from fairloop.plm.model import LanguageModel

        model = LanguageModel.load(plm)
        tokens = _tokens(model, self.settings.max_length)
        held_in, held_out = self.split(data.pairs, training.seed)
        task = IncorporationTask(
            self.settings.model_copy(update={"max_length": tokens.max_length}),
            tokens.kind,
            training_pairs(held_in, _neighbours(model, held_in, self.settings.neighbours)),
            tuple(data.neutral) if self.settings.effective_lambda else (),
            training_pairs(held_out),
            tuple(data.held_out_neutral) if held_out else (),
        )
        del model  # the training loads its own
        trained = train_into(folder, task, plm, training, stage=STAGE)
        summary = (
            "Fair-Gender (arXiv 2501.06795): pairs of sentences that differ only in gendered words, agree with what the"
            " model knew and do its language no harm were incorporated by minimising a bias term and a regulariser."
        )
        learned_from = f"{len(held_in)} pairs; {len(held_out)} pairs about other targets were held out to stop early"
        write_card(folder, plm, tokens.kind, self.settings, summary, learned_from)
        if trained.evaluations:
            lines = [f"{one.step},{one.bias!r},{one.language!r}" for one in trained.evaluations]
            (folder / EVALUATIONS_FILE).write_text("\n".join(["step,bias,language", *lines]) + "\n", encoding="utf-8")

    def split(self, pairs: Sequence[Pair], seed: int) -> tuple[list[Pair], list[Pair]]:
        """Return the pairs to learn from and those held out, which share no target word; none without early stopping.

        Raises:
            UserError: all pairs are about one target, or too few are left to learn from.
        """
        held_out: set[str] = set()
        if self.settings.early_stopping.enabled:
            targets = sorted({pair.target.lower() for pair in pairs})
            count = max(1, round(self.settings.early_stopping.held_out * len(targets)))
            if len(targets) < 2:
                raise UserError(
                    f"debias.early_stopping.enabled=true: needs pairs about two targets, and {len(targets)} is left"
                )
            drawn = random_generator(seed, "held-out-targets").permutation(len(targets))[:count]
            held_out = {targets[number] for number in drawn}
        held_in = [pair for pair in pairs if pair.target.lower() not in held_out]
        evaluated = [pair for pair in pairs if pair.target.lower() in held_out]
        if len(held_in) < self.settings.batch_size:
            beside = f" beside {len(evaluated)} about targets that are held out to stop early" if evaluated else ""
            raise UserError.of(
                "debias.batch_size",
                self.settings.batch_size,
                f"at most {len(held_in)}, the pairs left to learn from{beside}",
            )
        return held_in, evaluated

    def _align(
        self, model: "LanguageModel", tokens: Tokens, rows: list[PairRow], neutral: Sequence[str], training: Training
    ) -> list[PairRow]:
        from fairloop.debias.fair_gender.alignment import align
        from fairloop.plm.memory import FolderMemory

        chosen = self.settings.alignment
        pool = [row.pair for row in rows if not row.dropped]
        found = align(
            model,
            tokens,
            pool,
            neutral,
            quantile=chosen.quantile,
            rank=chosen.rank,
            on_progress=training.on_progress,
            memory=FolderMemory(training.work),
        )
        return _updated(
            rows,
            [
                {"plausibility": one.plausibility, "target_rank": float(one.rank), "aligned": not one.reason,
                 "dropped": one.reason}
                for one in found
            ],
        )  # fmt: skip

    def _estimate(
        self, model: "LanguageModel", tokens: Tokens, rows: list[PairRow], neutral: Sequence[str], training: Training
    ) -> list[PairRow]:
        from fairloop.debias.fair_gender import effect

        pool = [row.pair for row in rows if not row.dropped]
        if not pool:
            return rows
        chosen = self.settings
        near = _neighbours(model, pool, chosen.neighbours)
        learned = training_pairs(pool, near)
        estimator = effect.EffectEstimator(model.model, tokens, learned, neutral, chosen, seed=training.seed)
        if chosen.causal == "influence":
            effects = estimator.by_influence(training.on_progress)
        else:
            effects = estimator.by_output_layer(training.on_progress)
            effects = effects.averaged(near) if near is not None else effects
        harmful, reason = effects.harmful(chosen.tolerance), effect.HARMFUL
        if chosen.causal == "random":
            harmful, reason = effect.as_many_at_random(harmful, training.seed), effect.AT_RANDOM
        return _updated(
            rows,
            [
                {"effect": float(language), "bias_effect": float(bias), "dropped": reason if harms else ""}
                for language, bias, harms in zip(effects.language, effects.bias, harmful, strict=True)
            ],
        )


def training_pairs(pairs: Sequence[Pair], near: "Neighbours | None" = None) -> tuple[TrainingPair, ...]:
    """Return pairs with their weights w_i and their neighbours; without `near` each is alone."""
    of_target = Counter(pair.target.lower() for pair in pairs)
    return tuple(
        TrainingPair(
            pair.male,
            pair.female,
            pair.target,
            len(pairs) / (len(of_target) * of_target[pair.target.lower()]),
            tuple(near.numbers[row].tolist()) if near is not None else (row,),
            tuple(near.weights[row].tolist()) if near is not None else (1.0,),
            _nobody(pair),
        )
        for row, pair in enumerate(pairs)
    )


def _nobody(pair: Pair) -> str:
    """Return the neutral subject that stands for a pair's occupation; a trait or an activity is masked instead."""
    if pair.target_kind != "occupation":
        return ""
    return "people" if pair.target.lower() in {entry.plural for entry in occupations()} else "person"


def _updated(rows: Sequence[PairRow], changes: "Sequence[dict[str, object]]") -> list[PairRow]:
    """Return the rows; those that were not dropped get the changes, in order."""
    remaining = iter(changes)
    return [row if row.dropped else replace(row, **next(remaining)) for row in rows]  # type: ignore[arg-type]


def _neighbours(model: "LanguageModel", pairs: Sequence[Pair], count: int) -> "Neighbours | None":
    """Return the nearest pairs; None if each pair is to be its only one: nothing has to be represented for that."""
    from fairloop.debias.fair_gender.neighbours import nearest, represent

    if count == 1:
        return None
    return nearest(represent(model, pairs), count)


def _tokens(model: "LanguageModel", max_length: int) -> Tokens:
    """Return how pairs are tokenised for this PLM.

    Raises:
        UserError: the PLM has no language-model head, or is masked without a mask token.
    """
    if model.kind == "encoder":
        raise UserError(f"debias=fair_gender debiases a model that is masked or causal; plm={model.name} is an encoder")
    window = model.window or max_length
    return Tokens(model.tokenizer, model.kind, min(max_length, window))
