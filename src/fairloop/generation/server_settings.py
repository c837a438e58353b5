"""Settings of a generator behind an OpenAI-compatible server.

Model, sampling and engine decide a result; where the server is, how it is asked and what it costs does not. The engine
does because the same weights write other texts in another engine: number formats, kernels, random numbers and the
order of the samplers differ. So a cell written by a server never passes for one written in this process.
"""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from fairloop.errors import UserError
from fairloop.files import canonical_json
from fairloop.generation.settings import GeneratorSettings, ModelSettings
from fairloop.servers.settings import ENGINES, ConnectionSettings
from fairloop.settings import incidental

_LENGTHS = frozenset({"max_tokens", "max_completion_tokens"})
RESERVED = frozenset({"model", "messages", "prompt", "temperature", "top_p", "seed", "stop", "n", "stream"}) | _LENGTHS
"""Fields of a request that `model.extra` may not set: they follow from other settings, or answers would be misread."""

Sampled = Literal["temperature", "top_p", "top_k", "repetition_penalty"]
SAMPLED: dict[Sampled, float] = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "repetition_penalty": 1.0}
"""The value of each setting that changes nothing: what a server does that is not told another."""


class ServerSettings(ConnectionSettings, GeneratorSettings):
    """A language model behind an OpenAI-compatible server."""

    style: Literal["chat", "base"] = Field(
        description="chat: messages to /chat/completions; base: a list to continue to /completions"
    )
    system_role: bool = Field(
        True, description="whether an instruction is a system message; false puts it at the head of the user's"
    )
    max_new_tokens: int = Field(
        64, ge=1, le=65_536, description="a sentence that is longer counts as cut off; a model that thinks needs more"
    )
    seeds: bool = Field(True, description="whether each request carries its own seed; false for servers that refuse it")
    unsent: tuple[Sampled, ...] = Field(
        (), description="sampling fields that are left out, for services that refuse them; each has to be off"
    )
    extra: dict[str, Any] = Field(
        default_factory=dict, description="further fields of each request, by the server's names"
    )
    price_in: float | None = incidental(None, ge=0, description="price of a million prompt tokens; null: not counted")
    price_out: float | None = incidental(None, ge=0, description="price of a million written tokens; null: not counted")

    @field_validator("unsent", mode="before")
    @classmethod
    def _in_one_order(cls, chosen: Any) -> Any:
        known = isinstance(chosen, list) and all(isinstance(one, str) for one in chosen)
        return tuple(sorted(set(chosen))) if known else chosen

    def deciding(self) -> dict[str, Any]:
        """Return what decides a result; nothing of `unsent` where all is sent, as before it could be chosen."""
        kept = super().deciding()
        if not self.unsent:
            del kept["unsent"]
        return kept

    @model_validator(mode="after")
    def _server_can_do_this(self) -> "ServerSettings":
        engine = ENGINES[self.engine]
        if self.top_k and not engine.top_k:
            raise ValueError(f"model.top_k={self.top_k}: the engine {self.engine} has no such setting; allowed is 0")
        if self.repetition_penalty != 1.0 and not engine.repetition_penalty:
            raise ValueError(
                f"model.repetition_penalty={self.repetition_penalty:g}: the engine {self.engine} has no such setting; "
                "allowed is 1.0"
            )
        for name in self.unsent:
            if (value := getattr(self, name)) != SAMPLED[name]:
                raise ValueError(
                    f"model.unsent={name}: the server would not learn of model.{name}={value:g}; "
                    f"allowed with model.{name}={SAMPLED[name]:g}, which changes nothing"
                )
        if taken := sorted(RESERVED & self.extra.keys()):
            raise ValueError(f"model.extra={taken[0]}: that field follows from other settings of the group model")
        try:
            canonical_json(self.extra)
        except (TypeError, ValueError) as error:
            raise ValueError(f"model.extra: plain JSON only ({error})") from error
        return self

    @property
    def chat(self) -> bool:
        """Whether the model is asked by messages."""
        return self.style == "chat"

    def hint(self, said: str) -> UserError | None:
        """Return the line for a request that the server refuses with these words, if they tell what to set."""
        if self.chat and "chat template" in said.replace("_", " "):
            return UserError.of("model.style", "chat", f"the served model has no chat template{said}: choose base")
        if found := super().hint(said):
            return found
        sent = [name for name in SAMPLED if name not in self.unsent and name in said]
        if not sent:
            return None
        key, value = f"model.{sent[-1]}", getattr(self, sent[-1])
        advice = f"the server refuses this field{said}: leave it out by {key}={SAMPLED[sent[-1]]:g} and model.unsent"
        return UserError.of(key, f"{value:g}", f"{advice}=[{sent[-1]}]")

    def cost(self, prompt_tokens: int, tokens: int) -> float | None:
        """Return the price of that many tokens, or None if no price is set."""
        if self.price_in is None and self.price_out is None:
            return None
        return ((self.price_in or 0.0) * prompt_tokens + (self.price_out or 0.0) * tokens) / 1e6


def settings_class(chosen: dict[str, Any]) -> type[ModelSettings] | type[ServerSettings]:
    """Return the class of the settings under the config group `model`: a server's are those that name an engine."""
    return ServerSettings if "engine" in chosen else ModelSettings
