"""Settings of a connection to an OpenAI-compatible server, and what each engine understands beyond that schema."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from fairloop.errors import UserError
from fairloop.servers.network import route_to
from fairloop.settings import Settings, incidental


@dataclass(frozen=True)
class Engine:
    """How an engine is told what OpenAI's schema does not have.

    Servers fill in what a request leaves out, often from the model's `generation_config.json`. So everything an engine
    has a field for is always sent, but for what `model.unsent` names.

    Attributes:
        top_k: the name of its field; empty: it has none.
        all_tokens: the value of that field that stands for no limit.
        repetition_penalty: the name of its field; empty: it has none.
        fixed: fields whose default would sample otherwise than the in-process generator does.
        packed: whether all sampling goes as JSON text into the one field `generation_config`.
        full_top_p: whether it takes `top_p` 1, which means no limit.
        scores: how it is asked for the log probabilities of a prompt's own tokens: `prompt_logprobs`; `echo`, which
            repeats the prompt with `logprobs`; empty: it does not return them.
    """

    top_k: str = ""
    all_tokens: int = 0
    repetition_penalty: str = ""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    packed: bool = False
    full_top_p: bool = True
    scores: Literal["", "prompt_logprobs", "echo"] = ""


ENGINES = {
    "vllm": Engine("top_k", -1, "repetition_penalty", {"min_p": 0.0}, scores="prompt_logprobs"),
    "sglang": Engine("top_k", -1, "repetition_penalty", {"min_p": 0.0}, scores="echo"),
    # Its own chain scales by the temperature last and drops unlikely tokens (min_p); penalties look back 64 tokens, and
    # newer builds refuse -1, which stood for all of them.
    "llama.cpp": Engine(
        "top_k",
        0,
        "repeat_penalty",
        {"samplers": ["penalties", "temperature", "top_k", "top_p"], "repeat_last_n": 32_768},
    ),
    "tgi": Engine(full_top_p=False),
    # Base models are greedy there unless a generation configuration says that they sample.
    "transformers": Engine("top_k", 0, "repetition_penalty", packed=True),
    "openai": Engine(scores="echo"),
}


class ConnectionSettings(Settings):
    """Where a server is, how it is asked and what it costs: none of it decides a result, but the engine does.

    Attributes:
        GROUP: the config group that holds them, for messages.
    """

    GROUP: ClassVar[str] = "model"

    engine: Literal["vllm", "sglang", "llama.cpp", "tgi", "transformers", "openai"] = Field(
        description="what the server is; openai is any server with nothing beyond OpenAI's own schema"
    )
    path: str = incidental(min_length=1, description="the model's name on the server")
    revision: str | None = incidental(
        None, description="what tells the served weights from others of that name: a Hub commit, a quantisation"
    )
    url: str = incidental(min_length=1, description="where the server is, as http://localhost:8000/v1")
    api_key_env: str | None = incidental(
        None, description="name of the environment variable that holds the key, never the key; null: no key"
    )
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = incidental(
        "max_tokens", description="the field that limits an answer's length; OpenAI's reasoning models take the second"
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

    @model_validator(mode="after")
    def _can_be_reached(self) -> "ConnectionSettings":
        _require_url(f"{self.GROUP}.url", self.url)
        if self.api_key_env is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", self.api_key_env):
            # What was given is not repeated: it may be the key.
            raise ValueError(
                f"{self.GROUP}.api_key_env: allowed is the name of an environment variable in capitals, such as "
                "OPENAI_API_KEY, never the key itself"
            )
        return self

    @property
    def identity(self) -> str:
        """What stands for the weights in the name of a result: they cannot be looked at, only named."""
        return f"{self.engine} server:{self.path}@{self.revision or 'main'}"

    def check_surroundings(self) -> None:
        """Raise UserError if the key is not set, or a variable of the network cannot be used."""
        api_key(self)
        route_to(self.url)

    def hint(self, said: str) -> UserError | None:
        """Return the line for a request that the server refuses with these words, if they tell what to set."""
        other = "max_tokens" if self.max_tokens_field == "max_completion_tokens" else "max_completion_tokens"
        if self.max_tokens_field in said:
            key = f"{self.GROUP}.max_tokens_field"
            return UserError.of(key, self.max_tokens_field, f"the server refuses this field{said}: try {other}")
        return None


def _require_url(key: str, url: str) -> None:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError(f"{key}={url}: allowed is an address such as http://localhost:8000/v1") from None
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise ValueError(
            f"{key}: allowed is an address without a name, a password or a query; a key is read from the "
            f"environment variable named by {key.partition('.')[0]}.api_key_env"
        )
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError(f"{key}={url}: allowed is an address such as http://localhost:8000/v1")
    if parts.path.rstrip("/").endswith("/completions"):
        raise ValueError(f"{key}={url}: without the end /completions, which Fairloop adds")


def api_key(settings: ConnectionSettings) -> str | None:
    """Return the key of a server from the environment; None if it asks for none.

    Raises:
        UserError: the variable is not set, or holds no usable key.
    """
    if settings.api_key_env is None:
        return None
    name = f"{settings.GROUP}.api_key_env"
    key = os.environ.get(settings.api_key_env, "").strip()
    if not key:
        raise UserError.of(name, settings.api_key_env, "this environment variable is not set")
    if not key.isascii() or not key.isprintable():
        raise UserError.of(name, settings.api_key_env, "this environment variable holds no usable key")
    return key
