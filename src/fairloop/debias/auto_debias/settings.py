"""Settings of Auto-Debias (conf/debias/auto_debias.yaml)."""

from typing import Literal

from pydantic import Field

from fairloop.debias.settings import PairMethodSettings
from fairloop.training.settings import BudgetSettings


class MethodSettings(PairMethodSettings, BudgetSettings):
    """The search for prompts; the rest is the budget of the training."""

    name: Literal["auto_debias"] = Field("auto_debias", description="the method")
    beam: int = Field(20, ge=1, le=1000, description="prompts of each length that are kept")
    prompt_length: int = Field(3, ge=1, le=10, description="longest prompt, in words")
    candidates: int = Field(200, ge=1, le=100_000, description="words that a prompt is made of: the most frequent ones")
    gendered_words: int = Field(8, ge=1, le=1000, description="pairs of gendered words, the most frequent ones")
