"""Settings of MABEL's losses (conf/debias/mabel.yaml)."""

from typing import Literal

from pydantic import Field

from fairloop.debias.settings import PairMethodSettings
from fairloop.settings import by_contents
from fairloop.training.settings import BudgetSettings


class MethodSettings(PairMethodSettings, BudgetSettings):
    """Weights of the three losses L = L_CL + α·L_AL + λ·L_MLM."""

    name: Literal["mabel"] = Field("mabel", description="the method")
    batch_size: int = Field(8, ge=2, le=65536, description="pairs in one step, over all devices together")
    entailment: str | None = by_contents(
        None,
        description="CSV table of entailing sentences (premise, hypothesis), as published; null: counterfactual pairs",
    )
    temperature: float = Field(0.05, gt=0, le=100, description="τ: cosines are divided by it")
    pooling: Literal["cls", "mean"] = Field(
        "cls",
        description="sentence vector: first token through a head that is dropped afterwards, or mean of all tokens",
    )
    alignment_weight: float = Field(0.05, ge=0, description="α: weight of the alignment term")
    mlm_weight: float = Field(0.1, ge=0, description="λ: weight of the masked-LM loss")
    mask_share: float = Field(0.15, gt=0, lt=1, description="share of the tokens that the masked-LM loss predicts")
