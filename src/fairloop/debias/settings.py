"""What the settings of debias methods (config group `debias`) have in common; a method adds its own in its file."""

from typing import Literal, TypeVar

from pydantic import Field

from fairloop.pairs.settings import PairSettings, ScreenSettings
from fairloop.settings import Settings
from fairloop.training.settings import LowRankSettings, OptimizationSettings

Optimization = TypeVar("Optimization", bound=OptimizationSettings)
_ENDLESS = 1000  # passes: it is the steps that end a training here


class MethodSettings(Settings):
    """Settings of one method: its file refines `name` to a `Literal` of its own name."""

    name: str = Field(description="the method: the name of its file in fairloop/debias")


class PairMethodSettings(MethodSettings, PairSettings):
    """A method that learns from pairs: where they come from and how they are screened (conf/debias/data/pairs.yaml)."""

    screen: ScreenSettings = Field(ScreenSettings(), description="what a pair must pass before it is learned from")


class BudgetSettings(Settings):
    """The budget of a method that trains weights, the same for all of them (conf/debias/budget/steps.yaml)."""

    steps: int = Field(250, ge=1, le=10_000_000, description="steps of the optimiser")
    batch_size: int = Field(8, ge=1, le=65536, description="pairs in one step, over all devices together")
    learning_rate: float = Field(7e-5, gt=0, le=10, description="highest learning rate (AdamW), after the warm-up")
    warmup_share: float = Field(0.1, ge=0, lt=1, description="share of the steps over which the rate rises")
    weight_decay: float = Field(0.0, ge=0, le=1, description="AdamW's decay of matrices (not of biases or norms)")
    clip_norm: float = Field(1.0, ge=0, description="gradients are scaled down to this norm; 0: never")
    max_length: int = Field(128, ge=4, le=32768, description="tokens of a sentence; what is longer is cut")
    weights: Literal["lora", "full"] = Field("full", description="train a low-rank update, or all weights")
    lora: LowRankSettings = Field(LowRankSettings(), description="the low-rank update; unused with weights=full")

    def optimization(self, cls: type[Optimization], **more: object) -> Optimization:
        """Return the settings of a training under this budget; `more` are those of its kind of training."""
        shared = ("batch_size", "learning_rate", "warmup_share", "weight_decay", "clip_norm", "max_length")
        chosen = {name: getattr(self, name) for name in shared}
        own = {name: getattr(self, name) for name in ("weights", "lora") if name in cls.model_fields}
        return cls.model_validate({**chosen, **own, "max_steps": self.steps, "epochs": _ENDLESS, **more})
