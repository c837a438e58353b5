"""Settings of Context-Debias (conf/debias/context_debias.yaml)."""

from typing import Literal

from pydantic import Field

from fairloop.debias.settings import PairMethodSettings
from fairloop.training.settings import BudgetSettings


class MethodSettings(PairMethodSettings, BudgetSettings):
    """Weights and places of the two losses; the defaults are the published ones."""

    name: Literal["context_debias"] = Field("context_debias", description="the method")
    layers: Literal["all", "first", "last"] = Field("all", description="layers whose hidden states are debiased")
    level: Literal["token", "sentence"] = Field(
        "token", description="debias the target's tokens, or every token of its sentence but gendered ones"
    )
    alpha: float = Field(0.2, ge=0, description="weight of the squared inner products")
    beta: float = Field(0.8, ge=0, description="weight of the regulariser: distance from the frozen PLM's states")
