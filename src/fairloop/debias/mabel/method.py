"""MABEL-style contrastive debiasing, on counterfactual pairs in place of entailment pairs.

He, Xia, Fellbaum and Chen 2022, "MABEL: Attenuating Gender Bias using Textual Entailment Data" (EMNLP): a contrastive,
an alignment and a masked-LM loss on premises, hypotheses and their gender-swapped copies. There is no entailment data
here: `loss` says what takes its place. Weights, temperature and vectors are the published ones.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from fairloop.debias import base, settings
from fairloop.debias.card import write_card
from fairloop.debias.start import kind_of
from fairloop.debias.trained import train
from fairloop.errors import UserError
from fairloop.training.plm_settings import PairAlignmentSettings

if TYPE_CHECKING:
    from fairloop.plm.settings import PlmSettings
    from fairloop.training.hook import Training


class MethodSettings(settings.PairMethodSettings, settings.BudgetSettings):
    """Weights of the three losses L = L_CL + α·L_AL + λ·L_MLM."""

    name: Literal["mabel"] = Field("mabel", description="the method")
    batch_size: int = Field(8, ge=2, le=65536, description="pairs in one step, over all devices together")
    temperature: float = Field(0.05, gt=0, le=100, description="τ: cosines are divided by it")
    pooling: Literal["cls", "mean"] = Field(
        "cls",
        description="sentence vector: first token through a head that is dropped afterwards, or mean of all tokens",
    )
    alignment_weight: float = Field(0.05, ge=0, description="α: weight of the alignment term")
    mlm_weight: float = Field(0.1, ge=0, description="λ: weight of the masked-LM loss")
    mask_share: float = Field(0.15, gt=0, lt=1, description="share of the tokens that the masked-LM loss predicts")


class Method(base.Method):
    """Brings the two sentences of a pair together, and keeps different sentences apart."""

    name = "mabel"
    kinds = ("masked",)
    settings: MethodSettings

    def debias(self, plm: "PlmSettings", material: base.Material, folder: Path, training: "Training") -> None:
        """Write the trained PLM; see `base.Method.debias`."""
        kind = kind_of(plm, self)
        pairs = [[pair.male, pair.female] for pair in material.pairs]
        if len({tuple(pair) for pair in pairs}) < 2:
            raise UserError(f"debias=mabel: it needs two different pairs, and {len(pairs)} are left")
        own = self.settings.model_dump(
            include={"temperature", "pooling", "alignment_weight", "mlm_weight", "mask_share"}
        )
        loss = self.settings.optimization(PairAlignmentSettings, **own)
        train("fairloop.debias.mabel.loss", "debias pair_alignment", {"pairs": pairs}, loss, plm, folder, training)
        write_card(
            folder,
            plm,
            kind,
            self.settings,
            "MABEL's losses (He et al. 2022) on counterfactual pairs in place of entailment pairs: contrastive, "
            "alignment and masked language modelling.",
            f"{len(pairs)} counterfactual pairs",
        )
