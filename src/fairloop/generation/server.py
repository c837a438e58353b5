"""A generator behind an OpenAI-compatible server: vLLM, SGLang, llama.cpp, TGI, `transformers serve`, a paid service.

Requests run side by side up to a bound. Answers are yielded in the order of asking, whatever order they arrive in, so
that the corpus depends on the answers alone. What fails for a passing reason is asked again: no connection, a time-out,
a broken answer, HTTP 429 (after the time the server names) and 5xx. What the same command would meet again ends it.

Finished answers are kept in the running stage's scratch folder, so that none is asked, and paid, for twice when the
process is killed. A server's answers need not be the same the next time, even with seeds: what is kept, stays.
"""

import asyncio
import base64
import email.utils
import json
import logging
import re
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import httpx

from fairloop.errors import Fault, UserError
from fairloop.files import canonical_json, digest_text, writing
from fairloop.generation.answers import answer_end
from fairloop.generation.prompts import base_prompt, chat_messages, plain
from fairloop.generation.requests import Attempt, Completion
from fairloop.generation.server_settings import ENGINES, ServerSettings, api_key
from fairloop.seeding import derive

JOURNAL_FILE = "completions.jsonl"

# Requests begun before the first of them is answered: what bounds memory while one answer is waited for.
_AHEAD = 4096
_LONGEST_BACKOFF = 60.0
# A server that asks for more patience than this is asked again by the next command.
_LONGEST_PAUSE = 3600.0
_LARGEST_ANSWER = 8 * 2**20
_LONGEST_MESSAGE = 2**16
_MOST_TOKENS = 10**9  # of one answer; more is no count
_SECRET = 12  # characters of a key that is one
# Besides 5xx; 424 is TGI's word for a failed generation.
_PASSING = {408, 409, 424, 425, 429}
# A busy server says the same thousands of times: different things are said once each, and no more than this.
_WARNINGS = 20
# The entries of a base model's list are apart by an empty line: it goes on with the next entry behind it.
_STOP = ["\n\n"]

_log = logging.getLogger("fairloop.generation")


@dataclass(frozen=True)
class Answer:
    """What a server answered: the text in full, and what it counted (0 if it does not)."""

    text: str
    finished: bool
    prompt_tokens: int
    tokens: int


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
        self._key = api_key(settings)

    def complete(self, queue: deque[Attempt]) -> Iterator[Completion]:
        """Write a text for every attempt: see `Generator.complete`. They come in the order of the queue.

        Raises:
            Fault: the server stays out of reach or gives no usable answer, however often it is asked.
            UserError: it refuses the key, the model's name or a field of the request.
        """
        self.usage = Usage()
        path = self.scratch() / JOURNAL_FILE if self.scratch is not None else None
        begun: deque[asyncio.Task[Completion]] = deque()
        with Journal(path) as journal, asyncio.Runner() as runner:
            client = _Client(self.settings, self._key, journal, self.usage)
            try:
                while queue or begun:
                    while queue and len(begun) < _AHEAD:
                        begun.append(runner.get_loop().create_task(client.answer(queue.popleft())))
                    yield runner.run(_result(begun.popleft()))
            finally:
                runner.run(client.close(begun))
                self._report()

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


async def _result(task: "asyncio.Task[Completion]") -> Completion:
    return await task


# --- what is asked --------------------------------------------------------------------------------------------------


def request_body(attempt: Attempt, settings: ServerSettings) -> dict[str, Any]:
    """Return the JSON body of a request; nothing is left to the server's defaults that it has a field for."""
    body: dict[str, Any] = {"model": settings.path, "max_tokens": settings.max_new_tokens}
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
    engine = ENGINES[settings.engine]
    fields: dict[str, Any] = {"temperature": settings.temperature, **engine.fixed}
    if settings.top_p < 1.0 or engine.full_top_p:
        fields["top_p"] = settings.top_p
    if engine.top_k:
        fields[engine.top_k] = settings.top_k or engine.all_tokens
    if engine.repetition_penalty:
        fields[engine.repetition_penalty] = settings.repetition_penalty
    if engine.packed:
        samples = settings.temperature > 0.0
        return {"generation_config": json.dumps({"do_sample": samples, **(fields if samples else {})})}
    return fields


# --- asking ---------------------------------------------------------------------------------------------------------


class _Trouble(Exception):
    """An attempt failed for a reason that may pass; `pause` is how long the server asks to be left alone."""

    def __init__(self, reason: str, pause: float = 0.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.pause = pause


@dataclass
class _Pace:
    """When the next request may be sent: a limit per minute, and the pauses that a server asks for."""

    per_minute: float | None
    _next: float = 0.0
    _paused_until: float = 0.0

    async def turn(self) -> None:
        """Wait for one's turn."""
        now = time.monotonic()
        begin = max(now, self._next)
        self._next = begin + (60.0 / self.per_minute if self.per_minute else 0.0)
        await asyncio.sleep(begin - now)
        while (left := self._paused_until - time.monotonic()) > 0.0:
            await asyncio.sleep(left)

    def pause(self, seconds: float) -> None:
        """Let nobody send anything for some time."""
        self._paused_until = max(self._paused_until, time.monotonic() + seconds)


@dataclass
class _Client:
    """The requests of one run of `complete`."""

    settings: ServerSettings
    key: str | None
    journal: "Journal"
    usage: Usage
    warned: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        chosen = self.settings
        self.url = f"{chosen.url.rstrip('/')}/{'chat/' if chosen.chat else ''}completions"
        self.slots = asyncio.Semaphore(chosen.concurrency)
        self.pace = _Pace(chosen.requests_per_minute)
        self.security = httpx.create_ssl_context()
        self.connections: list[httpx.AsyncClient] = []
        self.idle: list[httpx.AsyncClient] = []

    def connection(self) -> httpx.AsyncClient:
        """Return an idle connection, or a new one.

        Each is a client of its own: the pool of a shared one looks through all its connections for every request,
        which costs 12 ms of processor time with 128 of them, against 1.
        """
        if self.idle:
            return self.idle.pop()
        chosen = self.settings
        new = httpx.AsyncClient(
            headers={"Accept-Encoding": "identity", **({"Authorization": f"Bearer {self.key}"} if self.key else {})},
            timeout=httpx.Timeout(chosen.read_timeout, connect=chosen.connect_timeout),
            verify=self.security,
        )
        self.connections.append(new)
        return new

    async def close(self, begun: deque[asyncio.Task[Completion]]) -> None:
        """Give up what is under way."""
        for task in begun:
            task.cancel()
        await asyncio.gather(*begun, return_exceptions=True)
        for connection in self.connections:
            await connection.aclose()

    async def answer(self, attempt: Attempt) -> Completion:
        """Return the completion of an attempt: kept from before, or asked for now and kept."""
        body = request_body(attempt, self.settings)
        # The seed tells attempts apart where the body does not carry it.
        name = digest_text(canonical_json({"seed": attempt.seed, "body": body}))
        kept = self.journal.kept.get(name)
        if kept is not None:
            self.usage.add(kept, kept=True)
            return _completion(attempt, kept)
        async with self.slots:
            connection = self.connection()
            answer = await self._ask(connection, attempt, body)
            self.idle.append(connection)
        self.journal.add(name, answer)
        self.usage.add(answer, kept=False)
        return _completion(attempt, answer)

    async def _ask(self, connection: httpx.AsyncClient, attempt: Attempt, body: dict[str, Any]) -> Answer:
        """Ask until there is an answer, each time after a longer wait."""
        number = 0
        while True:
            await self.pace.turn()
            self.usage.requests += 1
            number += 1
            try:
                return await self._try(connection, body)
            except _Trouble as trouble:
                await self._wait_or_give_up(trouble, number, attempt.seed)

    async def _wait_or_give_up(self, trouble: _Trouble, number: int, seed: int) -> None:
        """Wait before the next try, or raise what ends the cell."""
        if trouble.pause > _LONGEST_PAUSE:
            raise Fault(f"{self.url}: {trouble.reason}; it asks to wait for {trouble.pause:.0f} s: try later")
        if number >= self.settings.tries:
            times = "one try" if number == 1 else f"{number} tries"
            raise Fault(f"{self.url}: no usable answer after {times}; the last time: {trouble.reason}")
        if trouble.reason not in self.warned and len(self.warned) < _WARNINGS:
            self.warned.add(trouble.reason)
            _log.warning("%s: %s; asking again", self.url, trouble.reason)
        self.pace.pause(trouble.pause)
        await asyncio.sleep(_backoff(self.settings.backoff, seed, number))

    async def _try(self, connection: httpx.AsyncClient, body: dict[str, Any]) -> Answer:
        limit = self.settings.total_timeout
        try:
            async with asyncio.timeout(limit):
                response, data = await self._post(connection, body)
        except TimeoutError:
            raise _Trouble(f"no whole answer within {limit:g} s") from None
        except httpx.RequestError as error:
            raise _Trouble(_described(error, self.settings, self._masked)) from error
        if response.is_success:
            return read_answer(
                data, chat=self.settings.chat, masked=self._masked if len(self.key or "") >= _SECRET else str
            )
        said = self._said(data)
        if response.status_code in _PASSING or response.status_code >= 500:
            raise _Trouble(f"HTTP {response.status_code}{said}", _retry_after(response.headers))
        raise _refusal(self.settings, self.url, response.status_code, said)

    async def _post(self, connection: httpx.AsyncClient, body: dict[str, Any]) -> tuple[httpx.Response, bytes]:
        async with connection.stream("POST", self.url, json=body) as response:
            data = bytearray()
            # As they come: httpx would unpack whatever a server packed, however often and to any size.
            async for piece in response.aiter_raw():
                data += piece
                if len(data) > _LARGEST_ANSWER:
                    raise _too_large()
        return response, _unpacked(bytes(data), self._masked(response.headers.get("content-encoding", "")))

    def _said(self, data: bytes) -> str:
        """Return what the server says about an error, as one short piece of a line, without the key."""
        text = self._masked(_error_message(data))
        return f" ({text[:200]})" if text else ""

    def _masked(self, text: str) -> str:
        """Return a text of the server without the key, in whatever case it repeats it, or in base64."""
        if not self.key:
            return text
        if len(self.key) < _SECRET:  # "EMPTY" and the like, which are words
            return text.replace(self.key, "***")
        text = re.sub(re.escape(self.key), "***", text, flags=re.IGNORECASE)
        key = self.key.lower().encode()
        for base64_text in (r"[A-Za-z0-9+/_-]{12,}", r"[A-Za-z0-9+/_\-\s]{12,}"):  # the second: broken into lines
            text = re.sub(base64_text, lambda found: "***" if _hides(key, found[0]) else found[0], text)
        return text


def _hides(key: bytes, text: str) -> bool:
    """Tell whether a text in base64, of either alphabet and from any of its first characters on, holds a key."""
    standard = "".join(text.split()).replace("-", "+").replace("_", "/")
    parts = (standard[start:][: (len(standard) - start) // 4 * 4] for start in range(4))
    return any(key[:-2] in base64.b64decode(part).lower() for part in parts)  # what fills no four characters is cut


def _too_large() -> _Trouble:
    return _Trouble(f"an answer of more than {_LARGEST_ANSWER >> 20} MiB")


def _unpacked(data: bytes, encoding: str) -> bytes:
    """Return an answer that a server packed though it was asked not to: once, and to a bounded size."""
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return data
    if name not in ("gzip", "x-gzip", "deflate"):
        raise _Trouble(f"an answer packed as {plain(name)[:40]}, which was not asked for")
    try:
        unpacked = zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(data, _LARGEST_ANSWER + 1)
    except zlib.error:
        raise _Trouble(f"an answer that is no {name}, as it says") from None
    if len(unpacked) > _LARGEST_ANSWER:
        raise _too_large()
    return unpacked


def _backoff(first: float, seed: int, number: int) -> float:
    """Return the wait before try `number` + 1: doubled each time, and spread so that requests do not come in step."""
    spread = 0.5 + derive(seed, "backoff", number) / 2**64
    return min(first * 2.0 ** (number - 1), _LONGEST_BACKOFF) * spread


def _retry_after(headers: Mapping[str, str]) -> float:
    """Return the seconds that a server asks to wait for: a number, or a date; 0 without either."""
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d+)?", value):
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _described(error: httpx.RequestError, settings: ServerSettings, masked: Callable[[str], str]) -> str:
    said = masked(plain(str(error)))[:200]  # may repeat what the server sent
    if isinstance(error, httpx.ConnectTimeout):
        return f"not reached within {settings.connect_timeout:g} s"
    if isinstance(error, httpx.ReadTimeout):
        return f"no byte of an answer for {settings.read_timeout:g} s"
    if isinstance(error, httpx.ConnectError):
        return f"not reached ({said})"
    return f"the connection broke ({said or type(error).__name__})"


def _refusal(settings: ServerSettings, url: str, status: int, said: str) -> UserError:
    """Return the line for an answer that the same command would get again: what is wrong, and what to set."""
    if status in (401, 403):
        if settings.api_key_env is None:
            return UserError.of(
                "model.api_key_env",
                "null",
                f"{url} asks for a key, HTTP {status}{said}: name the environment variable that holds it",
            )
        return UserError.of(
            "model.api_key_env", settings.api_key_env, f"{url} refuses the key in this variable, HTTP {status}{said}"
        )
    if status == 404:
        return UserError.of(
            "model.path",
            settings.path,
            f"{url} answers HTTP 404{said}: give the name that the server serves the model under, and check model.url "
            "(most end in /v1) and model.style",
        )
    return UserError.of("model.url", settings.url, f"the server refuses the request, HTTP {status}{said}")


# --- what is answered -----------------------------------------------------------------------------------------------


def read_answer(data: bytes, *, chat: bool, masked: Callable[[str], str] = str) -> Answer:
    """Read the body of a successful answer; `masked` takes out of its texts what must not be kept.

    Raises:
        _Trouble: it is not JSON, or not of OpenAI's schema.
    """
    payload = _json(data)
    try:
        choice = payload["choices"][0]
        text = choice["message"]["content"] if chat else choice["text"]
        reason = choice.get("finish_reason")
    except (KeyError, IndexError, TypeError, AttributeError):
        said = masked(_error_message(data))
        raise _Trouble(f"an answer without a text{f' ({said[:200]})' if said else ''}") from None
    if not isinstance(text, str | None):
        raise _Trouble("an answer whose text is no text")
    usage = payload.get("usage")
    counts = [_count(usage, name) for name in ("prompt_tokens", "completion_tokens")]
    # A model that was still thinking at the token limit has no text.
    return Answer(masked(text or ""), reason not in ("length", "content_filter"), *counts)


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        start = data[:200].lstrip().lower()
        if start.startswith((b"data:", b"event:", b": ", b"id:")):
            raise _Trouble("a stream of events, though none was asked for") from None
        if start.startswith(b"<"):
            raise _Trouble("a web page and no JSON: is model.url the address of the server's interface?") from None
        raise _Trouble("an answer that is no JSON") from None


def _count(usage: object, name: str) -> int:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and 0 <= value <= _MOST_TOKENS else 0


def _error_message(data: bytes) -> str:
    """Return the message of an error as servers word it: `error.message`, `message` or `detail`; or a short body."""
    try:
        payload = json.loads(data)
    except (ValueError, RecursionError):
        # In full: a key that a cut breaks in two is not masked. What is longer is no message.
        return plain(data.decode("utf-8", "replace")) if len(data) <= _LONGEST_MESSAGE else ""
    inner = payload.get("error", payload) if isinstance(payload, dict) else None
    if isinstance(inner, dict):
        inner = next((inner[name] for name in ("message", "detail", "error") if name in inner), None)
    return plain(str(inner)) if inner else ""


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
