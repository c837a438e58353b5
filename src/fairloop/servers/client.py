"""Requests to an OpenAI-compatible server: side by side up to a bound, repeated when it helps, refused in one line.

What fails for a passing reason is asked again: no connection, a time-out, a broken answer, HTTP 429 (after the time the
server names) and 5xx. What the same command would meet again ends it.
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
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx

from fairloop.errors import Fault, UserError, plain
from fairloop.seeding import derive
from fairloop.servers.network import route_to
from fairloop.servers.settings import ConnectionSettings, api_key

J = TypeVar("J")
T = TypeVar("T")

# Requests begun before the first of them is answered: what bounds memory while one answer is waited for.
_AHEAD = 4096
_LONGEST_BACKOFF = 60.0
# A server that asks for more patience than this is asked again by the next command.
_LONGEST_PAUSE = 3600.0
_LARGEST_ANSWER = 8 * 2**20
_LONGEST_MESSAGE = 2**16
_SECRET = 12  # characters of a key that is one
# Besides 5xx; 424 is TGI's word for a failed generation.
_PASSING = {408, 409, 424, 425, 429}
# A busy server says the same thousands of times: different things are said once each, and no more than this.
_WARNINGS = 20

_log = logging.getLogger("fairloop.servers")


class Trouble(Exception):
    """An attempt failed for a reason that may pass; `pause` is how long the server asks to be left alone."""

    def __init__(self, reason: str, pause: float = 0.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.pause = pause


class Silence(Trouble):
    """An attempt failed without an answer: nobody was reached, or nothing whole came in time."""


@dataclass
class Pace:
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
class Client:
    """Requests to one server, so many at a time as the settings say.

    Attributes:
        settings: where the server is, and how it is asked.
        requests: how many were sent, repeated ones included.

    Raises:
        UserError: the key's variable is not set, or one of the network's variables cannot be used.
    """

    settings: ConnectionSettings
    requests: int = 0

    def __post_init__(self) -> None:
        chosen = self.settings
        self.base = chosen.url.rstrip("/")
        self.key = api_key(chosen)
        self.route = route_to(chosen.url)
        self.pace = Pace(chosen.requests_per_minute)
        self.connections: list[httpx.AsyncClient] = []

    def in_order(self, queue: deque[J], answer: Callable[[J], Awaitable[T]]) -> Iterator[T]:
        """Yield what `answer` makes of each job, in the order of the queue, which may grow between two of them."""
        begun: deque[asyncio.Task[T]] = deque()
        self.slots = asyncio.Semaphore(self.settings.concurrency)
        self.connections, self.idle = [], list[httpx.AsyncClient]()
        self.warned = set[str]()

        async def done(job: J) -> T:
            return await answer(job)

        with asyncio.Runner() as runner:
            try:
                while queue or begun:
                    while queue and len(begun) < _AHEAD:
                        begun.append(runner.get_loop().create_task(done(queue.popleft())))
                    yield runner.run(_result(begun.popleft()))
            finally:
                runner.run(self._close(begun))

    def _connection(self) -> httpx.AsyncClient:
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
            verify=self.route.security,
            proxy=self.route.proxy,
            trust_env=False,
        )
        self.connections.append(new)
        return new

    async def _close(self, begun: deque[asyncio.Task[T]]) -> None:
        """Give up what is under way."""
        for task in begun:
            task.cancel()
        await asyncio.gather(*begun, return_exceptions=True)
        for connection in self.connections:
            await connection.aclose()

    async def ask(
        self, route: str, read: Callable[[bytes], T], body: Mapping[str, Any] | None = None, seed: int = 0
    ) -> T:
        """Return what `read` makes of the answer, asked for until there is one, each time after a longer wait.

        Args:
            route: what follows the address.
            read: reads a successful answer; raises Trouble for one that is unusable.
            body: what is posted, as JSON; None only gets.
            seed: spreads the waits of requests that failed together.

        Raises:
            Fault: there is no usable answer, however often it is asked for.
            UserError: the server refuses the request, and would again.
        """
        async with self.slots:
            connection = self._connection()
            number = 0
            while True:
                await self.pace.turn()
                self.requests += 1
                number += 1
                try:
                    answer = await self._try(connection, f"{self.base}/{route}", body, read)
                except Trouble as trouble:
                    await self._wait_or_give_up(trouble, f"{self.base}/{route}", number, seed)
                else:
                    self.idle.append(connection)
                    return answer

    def ask_once(self, route: str, read: Callable[[bytes], T], body: Mapping[str, Any] | None = None) -> T:
        """Return what `read` makes of the answer to one request, which is not repeated; arguments as `ask` takes.

        Raises:
            Trouble: there is no usable answer now; Silence: there is none at all.
            UserError: the server refuses the request, and would again.
        """

        async def once(_: None) -> T | Trouble:
            try:
                return await self._try(self._connection(), f"{self.base}/{route}", body, read)
            except Trouble as trouble:
                return trouble

        (found,) = self.in_order(deque([None]), once)
        if isinstance(found, Trouble):
            raise found
        return found

    async def _wait_or_give_up(self, trouble: Trouble, url: str, number: int, seed: int) -> None:
        """Wait before the next try, or raise what ends the cell."""
        if trouble.pause > _LONGEST_PAUSE:
            raise Fault(f"{url}: {trouble.reason}; it asks to wait for {trouble.pause:.0f} s: try later")
        if number >= self.settings.tries:
            times = "one try" if number == 1 else f"{number} tries"
            raise Fault(f"{url}: no usable answer after {times}; the last time: {trouble.reason}")
        if trouble.reason not in self.warned and len(self.warned) < _WARNINGS:
            self.warned.add(trouble.reason)
            _log.warning("%s: %s; asking again", url, trouble.reason)
        self.pace.pause(trouble.pause)
        await asyncio.sleep(_backoff(self.settings.backoff, seed, number))

    async def _try(
        self, connection: httpx.AsyncClient, url: str, body: Mapping[str, Any] | None, read: Callable[[bytes], T]
    ) -> T:
        limit = self.settings.total_timeout
        try:
            async with asyncio.timeout(limit):
                response, data = await self._post(connection, url, body)
        except TimeoutError:
            raise Silence(f"no whole answer within {limit:g} s") from None
        except httpx.RequestError as error:
            raise Silence(self._described(error)) from error
        if response.is_success:
            return read(data)
        said = self._said(data)
        if response.status_code in _PASSING or response.status_code >= 500:
            raise Trouble(f"HTTP {response.status_code}{said}", _retry_after(response.headers))
        raise _refusal(self.settings, url, response.status_code, said)

    async def _post(
        self, connection: httpx.AsyncClient, url: str, body: Mapping[str, Any] | None
    ) -> tuple[httpx.Response, bytes]:
        async with connection.stream("GET" if body is None else "POST", url, json=body) as response:
            data = bytearray()
            # As they come: httpx would unpack whatever a server packed, however often and to any size.
            async for piece in response.aiter_raw():
                data += piece
                if len(data) > _LARGEST_ANSWER:
                    raise _too_large()
        return response, _unpacked(bytes(data), self.masked(response.headers.get("content-encoding", "")))

    def _described(self, error: httpx.RequestError) -> str:
        said = self.masked(plain(str(error)))[:200]  # may repeat what the server sent
        through = f" through {self.route.named}" if self.route.proxy else ""
        if isinstance(error, httpx.ConnectTimeout):
            return f"not reached within {self.settings.connect_timeout:g} s{through}"
        if isinstance(error, httpx.ReadTimeout):
            return f"no byte of an answer for {self.settings.read_timeout:g} s"
        if isinstance(error, httpx.ConnectError | httpx.ProxyError):
            distrusted = "; whose certificates are believed: SSL_CERT_FILE" if "CERTIFICATE" in said else ""
            return f"not reached{through} ({said}{distrusted})"
        return f"the connection broke ({said or type(error).__name__})"

    def _said(self, data: bytes) -> str:
        """Return what the server says about an error, as one short piece of a line, without the key."""
        text = self.masked(error_message(data))
        return f" ({text[:200]})" if text else ""

    @property
    def has_secret(self) -> bool:
        """Whether the key is one, and no word such as EMPTY."""
        return len(self.key or "") >= _SECRET

    def masked(self, text: str) -> str:
        """Return a text of the server without the key, in whatever case it repeats it, or in base64."""
        if not self.key:
            return text
        if not self.has_secret:
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


def _too_large() -> Trouble:
    return Trouble(f"an answer of more than {_LARGEST_ANSWER >> 20} MiB")


def _unpacked(data: bytes, encoding: str) -> bytes:
    """Return an answer that a server packed though it was asked not to: once, and to a bounded size."""
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return data
    if name not in ("gzip", "x-gzip", "deflate"):
        raise Trouble(f"an answer packed as {plain(name)[:40]}, which was not asked for")
    try:
        unpacked = zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(data, _LARGEST_ANSWER + 1)
    except zlib.error:
        raise Trouble(f"an answer that is no {name}, as it says") from None
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


async def _result(task: "asyncio.Task[T]") -> T:
    return await task


def _refusal(settings: ConnectionSettings, url: str, status: int, said: str) -> UserError:
    """Return the line for an answer that the same command would get again: what is wrong, and what to set."""
    group, variable = settings.GROUP, settings.api_key_env
    if status in (401, 403):
        advice = (
            f"{url} asks for a key, HTTP {status}{said}: name the environment variable that holds it"
            if variable is None
            else f"{url} refuses the key in this variable, HTTP {status}{said}"
        )
        return UserError.of(f"{group}.api_key_env", variable, advice)
    if status == 404:
        return UserError.of(
            f"{group}.path",
            settings.path,
            f"{url} answers HTTP 404{said}: give the name that the server serves the model under, and check "
            f"{group}.url (most end in /v1){' and model.style' if group == 'model' else ''}",
        )
    hint = settings.hint(said) if said else None
    return hint or UserError.of(f"{group}.url", settings.url, f"the server refuses the request, HTTP {status}{said}")


def read_json(data: bytes) -> Any:
    """Read an answer as JSON; Trouble, which says what it is instead, if it is none."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        start = data[:200].lstrip().lower()
        if start.startswith((b"data:", b"event:", b": ", b"id:")):
            raise Trouble("a stream of events, though none was asked for") from None
        if start.startswith(b"<"):
            raise Trouble("a web page and no JSON: is the url the address of the server's interface?") from None
        raise Trouble("an answer that is no JSON") from None


def error_message(data: bytes) -> str:
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
