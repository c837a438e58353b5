"""Settings of a generator behind an OpenAI-compatible server, and what each engine understands beyond that schema.

Model, sampling and engine decide a result; where the server is, how it is asked and what it costs does not. The engine
does because the same weights write other texts in another engine: number formats, kernels, random numbers and the
order of the samplers differ. So a cell written by a server never passes for one written in this process.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from fairloop.errors import UserError
from fairloop.files import canonical_json
from fairloop.generation.settings import GeneratorSettings, ModelSettings
from fairloop.settings import incidental


@dataclass(frozen=True)
class Engine:
    """How an engine is told what OpenAI's schema does not have.

    Servers fill in what a request leaves out, often from the model's `generation_config.json`. So everything an engine
    has a field for is always sent.

    Attributes:
        top_k: the name of its field; empty: it has none.
        all_tokens: the value of that field that stands for no limit.
        repetition_penalty: the name of its field; empty: it has none.
        fixed: fields whose default would sample otherwise than the in-process generator does.
        packed: whether all sampling goes as JSON text into the one field `generation_config`.
        full_top_p: whether it takes `top_p` 1, which means no limit.
    """

    top_k: str = ""
    all_tokens: int = 0
    repetition_penalty: str = ""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    packed: bool = False
    full_top_p: bool = True


ENGINES = {
    "vllm": Engine("top_k", -1, "repetition_penalty", {"min_p": 0.0}),
    "sglang": Engine("top_k", -1, "repetition_penalty", {"min_p": 0.0}),
    # Its own chain scales by the temperature last and drops unlikely tokens (min_p); penalties look back 64 tokens.
    "llama.cpp": Engine(
        "top_k",
        0,
        "repeat_penalty",
        {"samplers": ["penalties", "temperature", "top_k", "top_p"], "repeat_last_n": -1},
    ),
    "tgi": Engine(full_top_p=False),
    # Base models are greedy there unless a generation configuration says that they sample.
    "transformers": Engine("top_k", 0, "repetition_penalty", packed=True),
    "openai": Engine(),
}

RESERVED = frozenset(
    {"model", "messages", "prompt", "max_tokens", "temperature", "top_p", "seed", "stop", "n", "stream"}
)
"""Fields of a request that `model.extra` may not set: they follow from other settings, or answers would be misread."""


class ServerSettings(GeneratorSettings):
    """A language model behind an OpenAI-compatible server."""

    path: str = incidental(min_length=1, description="the model's name on the server")
    revision: str | None = incidental(
        None, description="what tells the served weights from others of that name: a Hub commit, a quantisation"
    )
    engine: Literal["vllm", "sglang", "llama.cpp", "tgi", "transformers", "openai"] = Field(
        description="what the server is; openai is any server with nothing beyond OpenAI's own schema"
    )
    style: Literal["chat", "base"] = Field(
        description="chat: messages to /chat/completions; base: a list to continue to /completions"
    )
    system_role: bool = Field(
        True, description="whether an instruction is a system message; false puts it at the head of the user's"
    )
    seeds: bool = Field(True, description="whether each request carries its own seed; false for servers that refuse it")
    extra: dict[str, Any] = Field(
        default_factory=dict, description="further fields of each request, by the server's names"
    )

    url: str = incidental(min_length=1, description="where the server is, as http://localhost:8000/v1")
    api_key_env: str | None = incidental(
        None, description="name of the environment variable that holds the key, never the key; null: no key"
    )
    concurrency: int = incidental(32, ge=1, le=4096, description="requests at the same time")
    requests_per_minute: float | None = incidental(
        None, gt=0, description="limit that this process keeps to, repeated requests included; null: none"
    )
    tries: int = incidental(8, ge=1, le=100, description="times a request is sent before the cell fails")
    backoff: float = incidental(
        0.5, ge=0.0, le=60.0, description="seconds before a request is repeated, doubled with every try up to a minute"
    )
    connect_timeout: float = incidental(10.0, gt=0, description="seconds to reach the server")
    read_timeout: float = incidental(120.0, gt=0, description="seconds without a byte of the answer")
    total_timeout: float = incidental(300.0, gt=0, description="seconds for a whole answer")
    price_in: float | None = incidental(None, ge=0, description="price of a million prompt tokens; null: not counted")
    price_out: float | None = incidental(None, ge=0, description="price of a million written tokens; null: not counted")

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
        if taken := sorted(RESERVED & self.extra.keys()):
            raise ValueError(f"model.extra={taken[0]}: that field follows from other settings of the group model")
        try:
            canonical_json(self.extra)
        except (TypeError, ValueError) as error:
            raise ValueError(f"model.extra: plain JSON only ({error})") from error
        _require_url(self.url)
        if self.api_key_env is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", self.api_key_env):
            # What was given is not repeated: it may be the key.
            raise ValueError(
                "model.api_key_env: allowed is the name of an environment variable in capitals, such as "
                "OPENAI_API_KEY, never the key itself"
            )
        return self

    @property
    def chat(self) -> bool:
        """Whether the model is asked by messages."""
        return self.style == "chat"

    @property
    def identity(self) -> str:
        """What stands for the weights in the name of a result: they cannot be looked at, only named."""
        return f"{self.engine} server:{self.path}@{self.revision or 'main'}"

    def cost(self, prompt_tokens: int, tokens: int) -> float | None:
        """Return the price of that many tokens, or None if no price is set."""
        if self.price_in is None and self.price_out is None:
            return None
        return ((self.price_in or 0.0) * prompt_tokens + (self.price_out or 0.0) * tokens) / 1e6


def settings_class(chosen: dict[str, Any]) -> type[ModelSettings] | type[ServerSettings]:
    """Return the class of the settings under the config group `model`: a server's are those that name an engine."""
    return ServerSettings if "engine" in chosen else ModelSettings


def _require_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError(f"model.url={url}: allowed is an address such as http://localhost:8000/v1") from None
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise ValueError(
            "model.url: allowed is an address without a name, a password or a query; a key is read from the "
            "environment variable named by model.api_key_env"
        )
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError(f"model.url={url}: allowed is an address such as http://localhost:8000/v1")
    if parts.path.rstrip("/").endswith("/completions"):
        raise ValueError(f"model.url={url}: without the end /completions, which model.style chooses")


def api_key(settings: ServerSettings) -> str | None:
    """Return the key of a server from the environment; None if it asks for none.

    Raises:
        UserError: the variable is not set, or holds no usable key.
    """
    if settings.api_key_env is None:
        return None
    key = os.environ.get(settings.api_key_env, "").strip()
    if not key:
        raise UserError.of("model.api_key_env", settings.api_key_env, "this environment variable is not set")
    if not key.isascii() or not key.isprintable():
        raise UserError.of("model.api_key_env", settings.api_key_env, "this environment variable holds no usable key")
    return key
