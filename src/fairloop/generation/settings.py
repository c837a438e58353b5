"""Settings of the config group `model`: which language model writes, and how it samples."""

from typing import Any, Literal

from pydantic import Field, model_validator

from fairloop.settings import Settings, incidental

PromptForm = Literal["turns", "list"]
"""How a chat model is shown its examples: as earlier turns of the conversation, or as a list in one message."""


class GeneratorSettings(Settings):
    """What every generator has, wherever its model runs.

    Path and revision do not decide a result themselves: what they lead to does (`config.Configuration.deciding`).
    """

    name: str = incidental(min_length=1, description="short name for tables and figures")
    path: str = incidental(min_length=1, description="Hub id, folder, or embedded:gemma-3-270m")
    revision: str | None = incidental(None, description="Hub revision (a commit hash pins it); null is the newest")
    prompt_form: PromptForm = Field(
        "turns",
        description="how a chat model is shown the examples: turns of the conversation, or a list in one message",
    )
    temperature: float = Field(
        1.0, ge=0.0, le=100.0, description="0 always takes the likeliest token, else 0.01 to 100"
    )
    top_k: int = Field(50, ge=0, le=100_000, description="sample among the k likeliest tokens; 0: among all")
    top_p: float = Field(
        0.95, gt=0.0, le=1.0, description="sample among the likeliest tokens that hold this much probability"
    )
    repetition_penalty: float = Field(
        1.0, gt=0.0, le=10.0, description="above 1 makes tokens that occurred already less likely; 1 is off"
    )
    max_new_tokens: int = Field(64, ge=1, le=1024, description="a sentence that is longer counts as cut off")

    def deciding(self) -> dict[str, Any]:
        """Return what decides a result: the form of a chat prompt only where it is one, and not the list of old."""
        kept = super().deciding()
        if self.prompt_form == "list" or kept.get("style") == "base":
            del kept["prompt_form"]
        return kept

    @model_validator(mode="after")
    def _temperature_is_usable(self) -> "GeneratorSettings":
        if 0.0 < self.temperature < 0.01:
            raise ValueError(f"model.temperature={self.temperature:g}: allowed is 0 (greedy) or at least 0.01")
        return self


class ModelSettings(GeneratorSettings):
    """A causal language model in this process."""

    style: Literal["auto", "chat", "base"] = Field(
        "auto", description="chat: the model's chat template; base: a list to continue; auto: chat if it has a template"
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        "auto", description="number format of the weights; auto: bfloat16 where the hardware has it, float32 elsewhere"
    )
    batch_size: int = Field(
        64,
        ge=1,
        le=4096,
        description="sentences written at once; another number rounds otherwise and may change a text",
    )
