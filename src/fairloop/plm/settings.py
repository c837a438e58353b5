"""Settings of the config group `plm`: which pre-trained model is measured, and how it is computed."""

from typing import Literal

from pydantic import Field

from fairloop.settings import Settings, incidental


class PlmSettings(Settings):
    """The pre-trained language model that is measured or debiased."""

    name: str = incidental(
        min_length=1, description="Name in tables and figures; the leaderboard's name of the same model"
    )
    path: str = incidental(min_length=1, description="Hub id, folder, or a packaged model: embedded:minilm")
    revision: str | None = incidental(
        None, description="Revision (commit, tag or branch) of a Hub id; null is its newest"
    )
    kind: Literal["auto", "masked", "causal", "encoder"] = Field(
        "auto", description="Masked or causal language model, or encoder without a head; auto reads it from the model"
    )
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="Number format of weights and activations")
    batch_tokens: int = incidental(2048, ge=1, description="Padded tokens in one batch")
    device: str = incidental(
        "auto",
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?(, *cuda:\d+)*)$",
        description="auto (every GPU, else the processor), cpu, cuda, cuda:1, cuda:0,cuda:1",
    )
