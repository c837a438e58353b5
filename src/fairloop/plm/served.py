"""A causal language model behind a server: the likelihoods that benchmarks ask for, by what the server returns.

Prompts go as token ids, so that a sentence is scored token by token as in this process. vLLM returns the log
probabilities of a prompt's own tokens by `prompt_logprobs`; others repeat the prompt (`echo`) with its `logprobs`.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from fairloop.console import OnProgress
from fairloop.errors import UserError
from fairloop.plm.loading import load_tokenizer
from fairloop.plm.model import Kept, LanguageModel, ScoreMemory
from fairloop.plm.settings import ServedPlmSettings
from fairloop.servers.client import Client, read_json
from fairloop.servers.settings import ENGINES

_PROBE = "The nurse told the engineer that she was late."
#: Between log probabilities of one token sequence asked for twice; another tokenizer is further off by far.
_SAME = 0.25
#: Answers between two calls of `ScoreMemory.keep`.
_BETWEEN_KEEPS = 200


class ServedModel(LanguageModel):
    """A causal model behind a server, with its tokenizer in this process.

    Args:
        settings: where the server is, and whose tokenizer the model has.

    Attributes:
        window: the number of tokens that the server takes, where its list of models says so; else None.

    Raises:
        UserError: no such tokenizer, or it is not the served model's; the server refuses, or returns no log
            probabilities of a prompt.
        Fault: the server cannot be reached.
    """

    def __init__(self, settings: ServedPlmSettings) -> None:
        self.settings = settings
        self.name, self.kind, self.path, self.revision = settings.name, "causal", None, None
        self.tokenizer = load_tokenizer(settings.tokenizer or settings.path, key="plm.tokenizer")
        self.self_debiasing = None
        self._client = Client(settings)
        self.window = self._served_window()
        self._check_tokenizer()

    @property
    def model(self) -> Any:
        """Not to be had.

        Raises:
            UserError: always: what asks for it needs weights.
        """
        raise UserError(f"plm={self.name}: it runs on a server, and its weights are not to be had")

    def _served_window(self) -> int | None:
        """Return how long an input may be by the server's list of models, or None if that does not say."""
        try:
            (listed,) = self._client.in_order(deque(["models"]), lambda route: self._client.ask(route, read_json))
        except UserError:  # it has no such list
            return None
        models = listed.get("data") if isinstance(listed, dict) else None
        for model in models if isinstance(models, list) else ():
            if isinstance(model, dict) and model.get("id") == self.settings.path:
                longest = model.get("max_model_len")
                return longest - 1 if isinstance(longest, int) and longest > 1 else None  # one token is written
        return None

    def _check_tokenizer(self) -> None:
        """Refuse a tokenizer that is not the served model's: a text and its ids must score the same."""
        (encoded,) = self.encode([_PROBE])
        by_text, by_ids = self._client.in_order(deque[Any]([_PROBE, list(encoded.ids)]), self._scores)
        if len(by_text) != len(by_ids) or not np.allclose(by_text, by_ids, atol=_SAME, rtol=0.0):
            given = self.settings.tokenizer or self.settings.path
            raise UserError.of(
                "plm.tokenizer",
                given,
                f"not the tokenizer of {self.settings.path} on the server, which makes {len(by_text) + 1} tokens of "
                f"“{_PROBE}” and not {len(by_ids) + 1}, or others",
            )

    async def _scores(self, prompt: str | Sequence[int]) -> np.ndarray:
        """Return the log probabilities of a prompt's tokens but the first, float64, by asking the server."""
        how: dict[str, Any] = {"echo": True, "logprobs": 0}
        if ENGINES[self.settings.engine].scores == "prompt_logprobs":
            how = {"prompt_logprobs": 0}
        text = prompt if isinstance(prompt, str) else list(prompt)
        body = {"model": self.settings.path, "prompt": text, self.settings.max_tokens_field: 1, "temperature": 0.0}
        size = None if isinstance(prompt, str) else len(prompt)
        return await self._client.ask("completions", lambda data: self._read(data, size), {**body, **how})

    def _read(self, data: bytes, size: int | None) -> np.ndarray:
        """Read the scores of a prompt of `size` tokens, or of as many as the server says."""
        payload = read_json(data)
        try:
            choice = payload["choices"][0]
            found = choice.get("prompt_logprobs")
            if found is not None:
                values = [next(iter(one.values()))["logprob"] for one in found[1:]]
            else:
                values = choice["logprobs"]["token_logprobs"][1 : size if size is not None else -1]
            scores = np.array(values, dtype=np.float64)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, StopIteration):
            scores = np.empty(0)
        if not len(scores) or (size is not None and len(scores) != size - 1):
            raise UserError.of(
                "plm.engine",
                self.settings.engine,
                f"{self.settings.url} returns no log probabilities of a prompt's tokens, which this benchmark needs",
            )
        return scores

    def _score_inputs(
        self,
        inputs: list[tuple[int, ...]],
        pairs: list[list[tuple[int, int]]],
        on_progress: OnProgress | None,
        memory: ScoreMemory | None,
    ) -> list[np.ndarray]:
        """Return for each input the log probabilities of its (place, token) pairs."""
        prompts: dict[tuple[int, ...], int] = {}
        wanted = [
            [_asked(ids, place, token, prompts) for place, token in some]
            for ids, some in zip(inputs, pairs, strict=True)
        ]
        kept = Kept(memory, list(prompts), [], [len(prompt) - 1 for prompt in prompts])
        results = kept.finished
        queue = deque(list(prompts)[len(results) :])
        if on_progress is not None:
            on_progress(len(results), len(prompts))
        for scores in self._client.in_order(queue, self._scores):
            results.append(scores)
            if len(results) % _BETWEEN_KEEPS == 0:
                kept.keep(results)
            if on_progress is not None:
                on_progress(len(results), len(prompts))
        kept.keep(results)
        return [np.array([results[number][place] for number, place in some]) for some in wanted]


def _asked(ids: tuple[int, ...], place: int, token: int, prompts: dict[tuple[int, ...], int]) -> tuple[int, int]:
    """Return which prompt, noted in `prompts`, holds the token behind `place` of an input, and its place in the answer.

    It is the input itself where that token stands there, else the input up to that place with the token behind.
    """
    prompt = ids if ids[place + 1 : place + 2] == (token,) else (*ids[: place + 1], token)
    return prompts.setdefault(prompt, len(prompts)), place
