"""Settings of Fair-Gender (conf/debias/fair_gender.yaml); none of this needs torch."""

from dataclasses import replace
from typing import Literal

from pydantic import Field

from fairloop.debias import settings
from fairloop.errors import UserError
from fairloop.settings import Settings, incidental
from fairloop.training.settings import BudgetSettings, Schedule

Predicted = Literal["both", "target", "attribute"]


class AlignmentSettings(Settings):
    """When a pair agrees with what the PLM knows."""

    enabled: bool = Field(True, description="false: every screened pair counts as aligned")
    quantile: float = Field(
        0.05, ge=0, lt=1, description="share of the reference sentences that may be less plausible than a sentence"
    )
    rank: int = Field(3000, ge=1, description="worst rank of the masked target at which it counts as recovered")


class EarlyStoppingSettings(Settings):
    """Early stopping on held-out pairs and neutral text."""

    enabled: bool = Field(True, description="false: all steps are taken and the last weights kept")
    held_out: float = Field(0.1, gt=0, le=0.5, description="share of the target words whose pairs are held out")
    every: int = Field(25, ge=1, description="steps between two evaluations of what is held out")
    patience: int = Field(0, ge=0, description="stop after so many evaluations without a better one; 0: never")
    tolerance: float = Field(
        0.01, ge=0, description="held-out (pseudo-)perplexity may rise by this share; beyond it, less rise is better"
    )


class MethodSettings(settings.PairMethodSettings, BudgetSettings):
    """Settings of Fair-Gender."""

    name: Literal["fair_gender"] = Field("fair_gender", description="the method")
    alignment: AlignmentSettings = Field(AlignmentSettings(), description="agreement with what the PLM knows")
    causal: Literal["knn", "influence", "random", "none"] = Field(
        "knn",
        description="our filter: estimator of a pair's effect; random: as many as knn would drop, at random; none: off",
    )
    tolerance: float = Field(
        1.0, ge=0, description="harm above which a pair is dropped, in units of the effects' root mean square"
    )
    neighbours: int = Field(
        2,
        ge=1,
        le=1000,
        description="K: nearest pairs, itself among them, in L_b (the paper's causal estimate) and in knn",
    )
    predicted: Predicted | None = Field(
        None,
        description="what L_b compares: the masked target, the masked gendered words (masked PLMs), or both; null: both"
        " for a masked PLM, target for a causal one",
    )
    regularizer: bool = Field(True, description="false: L = L_b alone")
    lambda_r: float = Field(0.02, ge=0, description="λ: weight of L_r")
    text_weight: float = Field(
        0.05, ge=0, description="μ: weight in L_r of the sentences' own language-modelling loss, beside the KL term"
    )
    mask_share: float = Field(
        0.15, gt=0, le=1, description="share of a text's tokens that L_r masks and predicts; masked PLMs only"
    )
    early_stopping: EarlyStoppingSettings = Field(EarlyStoppingSettings(), description="on held-out pairs and text")
    accumulate: int = incidental(
        1, ge=1, le=1024, description="parts in which a device computes its share of a batch: less memory"
    )

    @property
    def effective_lambda(self) -> float:
        """λ, or 0 without the regulariser."""
        return self.lambda_r if self.regularizer else 0.0

    def compared(self, kind: str) -> Predicted:
        """Return what L_b compares in a PLM of this kind.

        Raises:
            UserError: a causal PLM is to predict gendered words, which come before it has seen what they depend on.
        """
        chosen = self.predicted or ("target" if kind == "causal" else "both")
        if kind == "causal" and chosen != "target":
            raise UserError.of("debias.predicted", chosen, "target for a causal PLM")
        return chosen

    @property
    def schedule(self) -> Schedule:
        """As many steps as are chosen; with early stopping the best weights."""
        return replace(super().schedule, keep="best" if self.early_stopping.enabled else "last")
