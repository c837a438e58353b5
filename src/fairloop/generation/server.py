"""A generator behind an OpenAI-compatible server: vLLM, SGLang, llama.cpp, TGI, `transformers serve`, a paid service.

Requests run side by side up to a bound. Answers are yielded in the order of asking, whatever order they arrive in, so
that the corpus depends on the answers alone.

Finished answers are kept in the running stage's scratch folder, so that none is asked, and paid, for twice when the
process is killed. A server's answers need not be the same the next time, even with seeds: what is kept, stays.
"""

import json
import logging
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from fairloop.files import canonical_json, digest_text, writing
from fairloop.generation.answers import answer_end
from fairloop.generation.prompts import base_prompt, chat_messages
from fairloop.generation.requests import Attempt, Completion
from fairloop.generation.server_settings import SAMPLED, ServerSettings
from fairloop.servers.client import Client, Trouble, error_message, read_json
from fairloop.servers.settings import ENGINES

JOURNAL_FILE = "completions.jsonl"

_MOST_TOKENS = 10**9  # of one answer; more is no count
# The entries of a base model's list are apart by an empty line: it goes on with the next entry behind it.
_STOP = ["\n\n"]

_log = logging.getLogger("fairloop.generation")


@dataclass(frozen=True)
class Answer:
    """What a server answered: the text in full, what it counted (0 if it does not), and whether it only thought."""

    text: str
    finished: bool
    prompt_tokens: int
    tokens: int
    thinking: bool = False


@dataclass
class Usage:
    """What one run of `complete` took: answers new and kept from before, requests sent, tokens of all answers."""

    answers: int = 0
    kept: int = 0
    requests: int = 0
    prompt_tokens: int = 0
    tokens: int = 0

    def add(self, answer: Answer, *, kept: bool) -> None:
        """Count an answer."""
        self.kept += kept
        self.answers += not kept
        self.prompt_tokens += answer.prompt_tokens
        self.tokens += answer.tokens


class ServerGenerator:
    """Writes sentences with a language model behind a server.

    Args:
        settings: where the server is, how it is asked, sampling.
        scratch: returns the running stage's folder that survives a kill; None keeps no answers.

    Attributes:
        usage: what the last run of `complete` took so far.

    Raises:
        UserError: the environment variable that is to hold the key is not set.
    """

    def __init__(self, settings: ServerSettings, scratch: Callable[[], Path] | None = None) -> None:
        self.settings = settings
        self.scratch = scratch
        self.usage = Usage()
        self._client = Client(settings)
        self._said_thinking = False

    def complete(self, queue: deque[Attempt]) -> Iterator[Completion]:
        """Write a text for every attempt: see `Generator.complete`. They come in the order of the queue.

        Raises:
            Fault: the server stays out of reach or gives no usable answer, however often it is asked.
            UserError: it refuses the key, the model's name or a field of the request.
        """
        self.usage = Usage()
        self._client.requests = 0
        path = self.scratch() / JOURNAL_FILE if self.scratch is not None else None
        with Journal(path) as journal:
            try:
                yield from self._client.in_order(queue, lambda attempt: self._answer(attempt, journal))
            finally:
                self.usage.requests = self._client.requests
                self._report()

    async def _answer(self, attempt: Attempt, journal: "Journal") -> Completion:
        """Return the completion of an attempt: kept from before, or asked for now and kept."""
        chosen = self.settings
        body = request_body(attempt, chosen)
        # The seed tells attempts apart where the body does not carry it.
        name = digest_text(canonical_json({"seed": attempt.seed, "body": body}))
        answer = journal.kept.get(name)
        kept = answer is not None
        if answer is None:
            masked = self._client.masked if self._client.has_secret else str
            read = partial(read_answer, chat=chosen.chat, masked=masked)
            route = "chat/completions" if chosen.chat else "completions"
            answer = await self._client.ask(route, read, body, attempt.seed)
            journal.add(name, answer)
        self.usage.add(answer, kept=kept)
        if answer.thinking and not self._said_thinking:
            self._said_thinking = True
            limit = f"model.max_new_tokens={chosen.max_new_tokens}"
            _log.warning("%s: still thinking at %s: raise it, or switch thinking off", chosen.name, limit)
        return _completion(attempt, answer)

    def _report(self) -> None:
        used = self.usage
        cost = self.settings.cost(used.prompt_tokens, used.tokens)
        _log.info(
            "%s: %d answers, %d kept from before; %d requests; %d tokens in, %d out%s",
            self.settings.name,
            used.answers,
            used.kept,
            used.requests,
            used.prompt_tokens,
            used.tokens,
            "" if cost is None else f"; cost {cost:.4f}",
        )


# --- what is asked --------------------------------------------------------------------------------------------------


def request_body(attempt: Attempt, settings: ServerSettings) -> dict[str, Any]:
    """Return the JSON body of a request; only what `model.unsent` names is left to the server's defaults."""
    body: dict[str, Any] = {"model": settings.path, settings.max_tokens_field: settings.max_new_tokens}
    if settings.chat:
        body["messages"] = chat_messages(
            attempt.request, system_role=settings.system_role, prompt_form=settings.prompt_form
        )
    else:
        prompt = base_prompt(attempt.request)
        body |= {"prompt": prompt.shared + prompt.rest, "stop": _STOP}
    if settings.seeds:
        body["seed"] = attempt.seed % 2**31  # the widest that every engine takes
    return body | _sampling(settings) | settings.extra


def _sampling(settings: ServerSettings) -> dict[str, Any]:
    engine, sent = ENGINES[settings.engine], {name for name in SAMPLED if name not in settings.unsent}
    fields: dict[str, Any] = dict(engine.fixed)
    if "temperature" in sent:
        fields["temperature"] = settings.temperature
    if "top_p" in sent and (settings.top_p < 1.0 or engine.full_top_p):
        fields["top_p"] = settings.top_p
    if "top_k" in sent and engine.top_k:
        fields[engine.top_k] = settings.top_k or engine.all_tokens
    if "repetition_penalty" in sent and engine.repetition_penalty:
        fields[engine.repetition_penalty] = settings.repetition_penalty
    if engine.packed:
        samples = settings.temperature > 0.0
        return {"generation_config": json.dumps({"do_sample": samples, **(fields if samples else {})})}
    return fields


# --- what is answered -----------------------------------------------------------------------------------------------


def read_answer(data: bytes, *, chat: bool, masked: Callable[[str], str] = str) -> Answer:
    """Read the body of a successful answer; `masked` takes out of its texts what must not be kept.

    Raises:
        Trouble: it is not JSON, or not of OpenAI's schema.
    """
    payload = read_json(data)
    try:
        choice = payload["choices"][0]
        text = choice["message"]["content"] if chat else choice["text"]
        reason = choice.get("finish_reason")
    except (KeyError, IndexError, TypeError, AttributeError):
        said = masked(error_message(data))
        raise Trouble(f"an answer without a text{f' ({said[:200]})' if said else ''}") from None
    if not isinstance(text, str | None):
        raise Trouble("an answer whose text is no text")
    text, thinking = _without_thoughts(choice) if chat else (text or "", False)
    usage = payload.get("usage")
    taken, written = (_count(usage, name) for name in ("prompt_tokens", "completion_tokens"))
    return Answer(masked(text), not thinking and reason not in ("length", "content_filter"), taken, written, thinking)


def _without_thoughts(choice: dict[str, Any]) -> tuple[str, bool]:
    """Return a message's text without what a reasoning model thought, and whether it got no further than thinking.

    Servers that know the model part the two (`reasoning_content`, or `reasoning`); with others the thoughts stand
    before `</think>`.
    """
    message = choice["message"]
    _, closed, text = (message["content"] or "").rpartition("</think>")
    parted = any(message.get(name) for name in ("reasoning_content", "reasoning"))
    if not closed and text.lstrip().startswith("<think>"):
        return "", True
    return text, parted and not text.strip() and choice.get("finish_reason") == "length"


def _count(usage: object, name: str) -> int:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and 0 <= value <= _MOST_TOKENS else 0


def _completion(attempt: Attempt, answer: Answer) -> Completion:
    """Cut an answer where an in-process generator stops: behind its first sentence."""
    end = answer_end(answer.text)
    text, finished = (answer.text, answer.finished) if end is None else (answer.text[:end], True)
    return Completion(attempt, text, answer.tokens, finished, answer.prompt_tokens)


# --- answers that outlive the process -------------------------------------------------------------------------------


class Journal:
    """The answers of a running stage, one JSON line each; a line that a kill cut off is left out.

    Lines are handed to the system as they come, not flushed to the disk: a kill loses none of them, a power cut a few.

    Args:
        path: the file, made when the first answer is added; None keeps nothing.

    Attributes:
        kept: the answers that were there at the beginning, by the name of what was asked.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        data = path.read_bytes() if path is not None and path.exists() else b""
        self.kept = dict(filter(None, map(_read_line, data.splitlines())))
        self._torn = not data.endswith(b"\n") and bool(data)
        self._stream: BinaryIO | None = None

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stream is not None:
            with suppress(OSError):  # a full disk was reported when it was met
                self._stream.close()

    def add(self, name: str, answer: Answer) -> None:
        """Keep an answer.

        Raises:
            Fault: the disk is full, or the like.
        """
        if self.path is None:
            return
        with writing(self.path):
            if self._stream is None:
                self._stream = self.path.open("ab")
            line = json.dumps({"name": name, **asdict(answer)}).encode() + b"\n"
            self._stream.write(b"\n" + line if self._torn else line)
            self._stream.flush()
            self._torn = False


def _read_line(line: bytes) -> tuple[str, Answer] | None:
    try:
        record = json.loads(line)
        name, answer = record.pop("name"), Answer(**record)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    whole = isinstance(answer.text, str) and isinstance(answer.tokens, int) and isinstance(answer.prompt_tokens, int)
    return (name, answer) if whole else None
