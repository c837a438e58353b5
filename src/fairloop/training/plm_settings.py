"""Settings of the losses with which debias methods train a PLM; none of these needs torch."""

from typing import Literal

from pydantic import Field

from fairloop.settings import incidental
from fairloop.training.settings import LowRankSettings, OptimizationSettings, WatchSettings

Predicted = Literal["both", "target", "attribute"]


class PlmTrainingSettings(OptimizationSettings):
    """What the trainings of a PLM share."""

    weights: Literal["lora", "full"] = Field("full", description="train a low-rank update, or all weights")
    lora: LowRankSettings = Field(LowRankSettings(), description="the low-rank update; unused with weights=full")


class LanguageModelingSettings(PlmTrainingSettings):
    """Further training with the PLM's own objective."""

    mask_share: float = Field(0.15, gt=0, lt=1, description="masked PLM: share of the tokens that are predicted")
    hidden_dropout: float | None = Field(None, ge=0, lt=1, description="dropout of hidden states; null: the PLM's own")
    attention_dropout: float | None = Field(None, ge=0, lt=1, description="dropout of attention; null: the PLM's own")


class OrthogonalitySettings(PlmTrainingSettings):
    """Hidden states of target words made orthogonal to those of attribute words (Kaneko and Bollegala 2021)."""

    layers: Literal["all", "first", "last"] = Field("all", description="layers whose hidden states are debiased")
    level: Literal["token", "sentence"] = Field("token", description="debias the target's tokens, or every token")
    alpha: float = Field(0.2, ge=0, description="weight of the squared inner products")
    beta: float = Field(0.8, ge=0, description="weight of the regulariser: distance from the frozen PLM's states")


class PairAlignmentSettings(PlmTrainingSettings):
    """Contrastive, alignment and masked-LM losses on counterfactual pairs (after He et al. 2022)."""

    batch_size: int = Field(32, ge=2, le=65536, description="pairs in one step, over all devices together")
    temperature: float = Field(0.05, gt=0, le=100, description="τ: cosines are divided by it")
    pooling: Literal["cls", "mean"] = Field(
        "cls", description="sentence vector: first token through a head of its own (dropped afterwards), or mean"
    )
    alignment_weight: float = Field(0.05, ge=0, description="α: weight of the alignment term")
    mlm_weight: float = Field(0.1, ge=0, description="λ: weight of the masked-LM loss")
    mask_share: float = Field(0.15, gt=0, lt=1, description="share of the tokens that the masked-LM loss predicts")


class FairGenderSettings(PlmTrainingSettings):
    """Incorporation of pairs into a language model: L = L_b + λ·L_r (Fair-Gender, arXiv 2501.06795)."""

    batch_size: int = Field(16, ge=1, le=65536, description="pairs in one step, over all devices together")
    learning_rate: float = Field(5e-5, gt=0, le=10, description="highest learning rate, reached after the warm-up")
    predicted: Predicted = Field(
        "target", description="what L_b compares: the masked target word, the masked gendered words, or both"
    )
    lambda_r: float = Field(1.0, ge=0, description="λ: weight of the regulariser L_r; 0 leaves it out")
    text_weight: float = Field(1.0, ge=0, description="μ: weight in L_r of the sentences' own language-modelling loss")
    mask_share: float = Field(
        0.15, gt=0, le=1, description="share of a text's tokens that are masked and predicted; masked models only"
    )
    watch: WatchSettings | None = Field(None, description="early stopping; null: all steps, the last weights")
    accumulate: int = incidental(
        1,
        ge=1,
        le=1024,
        description="parts in which a device computes its share of a batch: less memory, same gradient",
    )
