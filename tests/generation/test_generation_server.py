"""Generators behind a server, against real servers on the loopback: good ones, and bad ones of every kind."""

import base64
import email.utils
import gzip
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import contextmanager, suppress
from pathlib import Path

import generation_models as stock
import httpx
import pytest
from command import cells, fairloop, start
from datasets import Dataset
from stand_in_server import completion, serving

from fairloop import composition
from fairloop.errors import Fault, UserError
from fairloop.generation.in_process import InProcessGenerator
from fairloop.generation.prompts import base_prompt, chat_messages, chat_prompt
from fairloop.generation.requests import Attempt, Completion, Example, Form, Request, plan_requests
from fairloop.generation.server import JOURNAL_FILE, ServerGenerator, read_answer, request_body
from fairloop.generation.server_settings import ServerSettings
from fairloop.generation.settings import ModelSettings
from fairloop.generation.writer import ENOUGH_ASKS, write_corpus
from fairloop.seeding import derive
from fairloop.servers import client
from fairloop.servers.settings import ENGINES
from tiny_models import tiny_encoder

OCCUPATIONS = ["nurse", "plumber", "judge", "pilot"]
CORPUS = [Example(OCCUPATIONS[i % 4], f"Sentence number {i} is here.") for i in range(20)]


def settings(url="http://127.0.0.1:9/v1", **options):
    chosen = {"name": "m", "path": "org/model", "engine": "vllm", "style": "base", "backoff": 0.01, "tries": 3}
    chosen |= {"top_p": 1.0, "max_new_tokens": 48}
    return ServerSettings(**{**chosen, "url": url, **options})


def plan(sentences=12, **options):
    chosen = {"sentences": sentences, "examples": 3, "group_size": 4, "seed": 0, "stage": "g"}
    return plan_requests(CORPUS, OCCUPATIONS, **{**chosen, **options})


def attempts(count=12, **options):
    return deque(Attempt.of(request, 0, 5, "g") for request in plan(count, **options))


def occupation(asked):
    """Return what a prompt asks to be written about: its last entry, or the end of the message."""
    return re.findall(r'Word: (.+)\n|with the words? "(.+?)"\.', asked.prompt)[-1]


def texts(generator, queue):
    return [(done.attempt.request.item, done.text) for done in generator.complete(queue)]


def good(asked):
    who = "".join(occupation(asked))
    return f"The {who} wrote the number {asked.body['seed']} on a wall."


# --- what is asked --------------------------------------------------------------------------------------------------


def test_requests_carry_the_prompts_and_seeds_of_their_asks_and_run_side_by_side_up_to_the_bound():
    together = threading.Barrier(4, timeout=10)

    def answer(asked):
        together.wait()  # passes only while four requests are under way
        time.sleep(0.03)  # a fifth one would be seen
        return good(asked)

    wanted = list(attempts(24))
    with serving(answer) as server:
        done = list(ServerGenerator(settings(server.url, concurrency=4)).complete(deque(wanted)))
        assert server.most == 4
        assert {asked.path for asked in server.asked} == {"/v1/completions"}
        got = {asked.body["seed"]: asked.body for asked in server.asked}
    assert [one.attempt for one in done] == wanted
    for attempt in wanted:
        body = got[derive(5, "g", attempt.request.item, 0) % 2**31]
        prompt = base_prompt(attempt.request)
        assert body["prompt"] == prompt.shared + prompt.rest
        assert body["model"] == "org/model"
        assert body["max_tokens"] == 48
    assert all(one.tokens == 7 and one.prompt_tokens == 100 and one.finished for one in done)


@pytest.mark.parametrize("instruction", ["", "Write without stereotypes."])
@pytest.mark.parametrize("form", [None, Form("Title.", "Given", "Answer", "Write.", "Write one more.")])
def test_chat_models_get_the_messages_that_the_in_process_generator_puts_through_their_template(instruction, form):
    tokenizer = stock.make_tokenizer(stock.TEMPLATE)  # a template without a system role, as Gemma's
    request = Request(0, 0, "engineer", tuple(CORPUS[:2]), instruction, form)
    local = chat_prompt(request, tokenizer)
    messages = chat_messages(request, system_role=False)
    assert tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) == (
        local.shared + local.rest
    )
    with serving(lambda _: "The engineer wrote a number on the wall.") as server:
        chosen = settings(server.url, style="chat", system_role=bool(form))
        (done,) = ServerGenerator(chosen).complete(deque([Attempt.of(request, 0, 0, "g")]))
        (asked,) = server.asked
    assert asked.path == "/v1/chat/completions"
    assert asked.body["messages"] == chat_messages(request, system_role=bool(form))
    assert "stop" not in asked.body
    roles = [message["role"] for message in asked.body["messages"]]
    turns = ["user", "assistant"] * 2 + ["user"]
    assert roles == (["system", *turns] if form and instruction else turns)
    assert instruction in asked.body["messages"][0]["content"]
    assert done.text == "The engineer wrote a number on the wall."


def test_each_engine_is_told_everything_it_has_a_field_for():
    (attempt,) = attempts(1)
    chosen = {"temperature": 0.7, "top_p": 0.9, "max_new_tokens": 20}
    plain = {"temperature": 0.7, "top_p": 0.9, "max_tokens": 20, "model": "org/model", "seed": attempt.seed % 2**31}
    sampled = {**chosen, "top_k": 5, "repetition_penalty": 1.2}

    def body(**options):
        built = request_body(attempt, settings(**options))
        assert built.pop("prompt").startswith(base_prompt(attempt.request).shared)
        assert built.pop("stop") == ["\n\n"]
        return built

    for engine in ("vllm", "sglang"):
        extended = {**plain, "top_k": 5, "repetition_penalty": 1.2, "min_p": 0.0}
        assert body(engine=engine, **sampled) == extended
        assert body(engine=engine, **{**sampled, "top_k": 0}) == {**extended, "top_k": -1}
    llama = body(engine="llama.cpp", **sampled)
    assert (llama["top_k"], llama["repeat_penalty"]) == (5, 1.2)
    assert llama["samplers"] == ["penalties", "temperature", "top_k", "top_p"]
    assert body(engine="openai", top_k=0, **chosen) == plain
    assert body(engine="tgi", top_k=0, **chosen) == plain
    assert "top_p" not in body(engine="tgi", top_k=0)  # it refuses 1.0
    packed = json.loads(body(engine="transformers", **sampled)["generation_config"])
    assert packed == {"do_sample": True, "temperature": 0.7, "top_p": 0.9, "top_k": 5, "repetition_penalty": 1.2}
    greedy = json.loads(body(engine="transformers", temperature=0.0)["generation_config"])
    assert greedy == {"do_sample": False}
    assert "seed" not in body(engine="openai", top_k=0, seeds=False)
    assert body(engine="openai", top_k=0, extra={"user": "x"})["user"] == "x"


@pytest.mark.parametrize(
    ("answered", "finish", "text", "finished"),
    [
        (" The nurse left. She was late.\n\n", "stop", " The nurse left.", True),
        (" The nurse left. She was", "length", " The nurse left.", True),
        (" The nurse left for", "length", " The nurse left for", False),
        (" The nurse left for", "stop", " The nurse left for", True),
        (" The nurse", "content_filter", " The nurse", False),
        (None, "length", "", False),  # a model that was still thinking
    ],
)
def test_an_answer_is_cut_behind_its_first_sentence(answered, finish, text, finished):
    with serving(lambda asked: (200, {}, completion(asked, answered, finish))) as server:
        for style in ("base", "chat"):
            (done,) = ServerGenerator(settings(server.url, style=style)).complete(attempts(1))
            assert (done.text, done.finished) == (text, finished)


THOUGHTS = "She may be late. I think a nurse"


@pytest.mark.parametrize(
    ("message", "finish", "text", "finished"),
    [
        ({"content": "The nurse left.", "reasoning_content": THOUGHTS}, "stop", "The nurse left.", True),
        ({"content": None, "reasoning_content": THOUGHTS}, "length", "", False),
        ({"content": "", "reasoning": THOUGHTS}, "length", "", False),
        ({"content": f"<think>{THOUGHTS}</think>\n\nThe nurse left."}, "stop", "The nurse left.", True),
        ({"content": f"{THOUGHTS}</think>The nurse left."}, "stop", "The nurse left.", True),
        ({"content": f"<think>{THOUGHTS}. The"}, "length", "", False),
    ],
)
def test_what_a_reasoning_model_thinks_is_never_its_text(message, finish, text, finished, caplog):
    answer = {"choices": [{"index": 0, "finish_reason": finish, "message": {"role": "assistant", **message}}]}
    with serving(body(answer)) as server:
        done = list(ServerGenerator(settings(server.url, style="chat")).complete(attempts(3)))
    assert {(one.text.strip(), one.finished) for one in done} == {(text, finished)}
    said = [record.message for record in caplog.records if "still thinking" in record.message]
    assert said == (
        [] if finished else ["m: still thinking at model.max_new_tokens=48: raise it, or switch thinking off"]
    )


def test_a_service_is_sent_what_it_takes():
    (attempt,) = attempts(1)

    def sent(**options):
        return request_body(attempt, settings(**options))

    longer = sent(max_tokens_field="max_completion_tokens")
    assert longer["max_completion_tokens"] == 48
    assert "max_tokens" not in longer
    without = sent(engine="openai", top_k=0, unsent=("temperature", "top_p"))
    assert not {"temperature", "top_p", "top_k", "repetition_penalty"} & without.keys()
    assert sent(top_k=0, unsent=("top_k", "repetition_penalty")).keys() == sent().keys() - {
        "top_k",
        "repetition_penalty",
    }
    packed = json.loads(sent(engine="transformers", top_k=0, unsent=("top_k", "top_p"))["generation_config"])
    assert packed == {"do_sample": True, "temperature": 1.0, "repetition_penalty": 1.0}
    assert "unsent" not in settings().deciding()
    assert settings(unsent=("top_p",)).deciding()["unsent"] == ["top_p"]
    assert settings(max_tokens_field="max_completion_tokens").deciding() == settings().deciding()


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("Unsupported parameter: 'max_tokens'", "model.max_tokens_field=max_tokens: the server refuses this field ("),
        ("`temperature` and `top_p` cannot both be specified", "model.top_p=0.5: the server refuses this field ("),
        ("only the default temperature is supported", "model.temperature=1: the server refuses this field ("),
        ("no chat template is defined", "model.style=chat: the served model has no chat template ("),
        ("too long", "model.url="),
    ],
)
def test_a_refusal_that_names_a_field_says_what_to_set(said, line):
    with serving(body({"error": {"message": said}}, 400)) as server, pytest.raises(UserError) as caught:
        texts(ServerGenerator(settings(server.url, style="chat", top_p=0.5)), attempts(1))
    assert str(caught.value).startswith(line)
    assert said in str(caught.value)


def test_loopback_is_never_reached_through_a_proxy_and_a_dead_one_is_named(monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://me:hunter2@127.0.0.1:9")
    with serving(good) as server:
        assert len(texts(ServerGenerator(settings(server.url)), attempts(3))) == 3
    with pytest.raises(Fault, match=r"not reached through http_proxy=http://127\.0\.0\.1:9 \(") as caught:
        texts(ServerGenerator(settings("http://server.example/v1", tries=1)), attempts(1))
    assert "hunter2" not in str(caught.value)


# --- the order of arrival -------------------------------------------------------------------------------------------


class InOrder:
    """The same answers from a generator that works off its queue one by one."""

    def complete(self, queue):
        while queue:
            attempt = queue.popleft()
            yield Completion(attempt, sloppy(attempt.request.occupation, attempt.seed % 2**31), 7, True)


def sloppy(who, seed):
    """Write sentences of which some are unusable and many are copies of another."""
    return "" if seed % 5 == 0 else f"The {who} saw {seed % 7} birds on the wall that day."


@pytest.mark.parametrize("luck", [1, 2])
def test_the_corpus_depends_on_the_answers_not_on_their_order_of_arrival(luck):
    delays = random.Random(luck)

    def answer(asked):
        time.sleep(delays.choice([0.0, 0.0, 0.002, 0.03]))
        return sloppy("".join(occupation(asked)), asked.body["seed"])

    options = {"seed": 3, "stage": "g", "min_yield": 0.01, "max_attempts": 2}
    expected = write_corpus(InOrder(), plan(24), **options)
    with serving(answer) as server:
        written = write_corpus(ServerGenerator(settings(server.url, concurrency=8)), plan(24), **options)
    assert written.rows == expected.rows
    assert written.stats.reasons == expected.stats.reasons
    assert expected.stats.reasons["copied"] > 5
    assert written.stats.prompt_tokens == 100 * written.stats.asked


# --- bad servers ----------------------------------------------------------------------------------------------------


def breaks_off(asked):
    handler = asked.handler
    handler.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"choices": [{"text"')
    handler.wfile.flush()


def hangs_up(asked):
    asked.handler.connection.shutdown(socket.SHUT_RDWR)


def stalls(asked):
    time.sleep(0.6)
    asked.handler.connection.shutdown(socket.SHUT_RDWR)


def trickles(asked):
    try:
        asked.handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n")
        for _ in range(20):
            asked.handler.wfile.write(b" ")
            asked.handler.wfile.flush()
            time.sleep(0.06)
    except OSError:
        pass


def body(data, status=200, **headers):
    return lambda _: (status, headers, data if isinstance(data, bytes) else json.dumps(data).encode())


BOMB = gzip.compress(b" " * 1_000_000)

BAD = {
    "500": (body(b"out of memory", 500), "HTTP 500 (out of memory)"),
    "503": (body({"error": {"message": "loading the model"}}, 503), "HTTP 503 (loading the model)"),
    "429": (body({"message": "slow down"}, 429, **{"Retry-After": "0"}), "HTTP 429 (slow down)"),
    "stalls": (stalls, "no byte of an answer for 0.25 s"),
    "trickles": (trickles, "no whole answer within 0.4 s"),
    "breaks off in the body": (breaks_off, "the connection broke"),
    "hangs up": (hangs_up, "the connection broke"),
    "garbage": (body(b"\x00\xff<html>\x1b[31m"), "no JSON"),
    "nested too deep": (body(b"[" * 100_000), "no JSON"),
    "broken compression": (body(b"no gzip", **{"Content-Encoding": "gzip"}), "no gzip, as it says"),
    "a gzip bomb": (body(BOMB, **{"Content-Encoding": "gzip"}), "more than 0 MiB"),
    "a gzip bomb in gzip": (body(gzip.compress(BOMB), **{"Content-Encoding": "gzip, gzip"}), "packed as gzip, gzip"),
    "another packing": (body(BOMB, **{"Content-Encoding": "br\x1b[31m"}), "packed as br"),
    "a stream of events": (body(b'data: {"choices": []}\n\ndata: [DONE]\n\n'), "a stream of events"),
    "a page": (body(b"<!DOCTYPE html><title>Sign in</title>"), "a web page and no JSON"),
    "too large": (body(b" " * 200_000), "more than 0 MiB"),
    "another schema": (body({"object": "error", "message": "no such thing"}), "without a text (no such thing)"),
    "a list": (body([1, 2]), "without a text"),
    "no choices": (body({"choices": []}), "without a text"),
    "choices are null": (body({"choices": None}), "without a text"),
    "a number for a text": (body({"choices": [{"text": 5}]}), "text is no text"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_may_pass_is_asked_again(kind, monkeypatch, caplog):
    bad, reason = BAD[kind]
    monkeypatch.setattr(client, "_LARGEST_ANSWER", 150_000)
    first = threading.Event()

    def answer(asked):
        if first.is_set():
            return good(asked)
        first.set()
        return bad(asked)

    with serving(answer) as server:
        impatient = settings(server.url, read_timeout=0.25, total_timeout=0.4, concurrency=1)
        done = texts(ServerGenerator(impatient), attempts(2))
        assert len(server.asked) == 3
        assert server.asked[0].body == server.asked[1].body
    assert [item for item, _ in done] == [0, 1]
    assert all(re.fullmatch(r"The \w+ wrote the number \d+ on a wall\.", text) for _, text in done)
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert reason in warning
    assert server.url in warning
    assert warning.isprintable()


@pytest.mark.parametrize("kind", ["500", "garbage", "breaks off in the body"])
def test_a_server_that_does_not_recover_ends_the_cell_with_one_line(kind):
    bad, reason = BAD[kind]
    with serving(bad) as server:
        with pytest.raises(Fault) as caught:
            texts(ServerGenerator(settings(server.url, concurrency=1)), attempts(5))
        assert len(server.asked) == 3
        assert f"{server.url}/completions: no usable answer after 3 tries" in str(caught.value)
        assert reason in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_server_out_of_reach_is_named():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
    with pytest.raises(Fault, match=f"{url}/completions: no usable answer after 3 tries; the last time: not reached"):
        texts(ServerGenerator(settings(url)), attempts(3))


@pytest.mark.parametrize(
    ("status", "key", "line"),
    [
        (401, None, "model.api_key_env=null: "),
        (401, "STAND_IN_KEY", "model.api_key_env=STAND_IN_KEY: "),
        (403, "STAND_IN_KEY", "model.api_key_env=STAND_IN_KEY: "),
        (404, None, "model.path=org/model: "),
        (400, None, "model.url="),
        (422, None, "model.url="),
        (307, None, "model.url="),
    ],
)
def test_a_refusal_ends_the_cell_at_once_and_says_what_to_set(status, key, line, monkeypatch):
    monkeypatch.setenv("STAND_IN_KEY", "sk-secret-123")
    said = {"error": {"message": "no good: sk-secret-123 \x1b[31m"}}
    with serving(body(said, status, Location="/elsewhere")) as server:
        with pytest.raises(UserError) as caught:
            texts(ServerGenerator(settings(server.url, api_key_env=key, concurrency=1)), attempts(5))
        assert len(server.asked) == 1
        assert server.asked[0].headers.get("Authorization") == ("Bearer sk-secret-123" if key else None)
    message = str(caught.value)
    assert message.startswith(line)
    assert f"HTTP {status} (no good" in message
    assert message.isprintable()
    assert key is None or "secret" not in message


KEY = "sk-Secret-123-abcDEF"
ECHOES = {
    "as it is": KEY,
    "in capitals": KEY.upper(),
    "in base64": base64.b64encode(KEY.encode()).decode(),
    "with its header in base64": base64.b64encode(f"Authorization: Bearer {KEY}".encode()).decode(),
    "in base64 for addresses": base64.urlsafe_b64encode(f"a{KEY}".encode()).decode().rstrip("="),
    "in the middle of base64": "eA" + base64.b64encode(f"zz{KEY}zzz".encode()).decode(),
}


@pytest.mark.parametrize("echo", ECHOES.values(), ids=ECHOES.keys())
def test_a_key_that_a_server_repeats_is_masked_in_errors_and_in_texts(echo, monkeypatch):
    monkeypatch.setenv("STAND_IN_KEY", KEY)
    chosen = {"api_key_env": "STAND_IN_KEY", "concurrency": 1}
    with serving(body({"error": {"message": f"no good: {echo} !"}}, 400)) as server, pytest.raises(UserError) as caught:
        texts(ServerGenerator(settings(server.url, **chosen)), attempts(1))
    assert "no good: " in str(caught.value)
    assert echo not in str(caught.value)
    assert KEY.lower() not in str(caught.value).lower()
    with serving(lambda _: f"The nurse knows {echo} by heart.") as server:
        ((_, text),) = texts(ServerGenerator(settings(server.url, **chosen)), attempts(1))
    assert text.startswith("The nurse knows ")
    assert echo not in text


LONG_KEY = "sk-" + "".join(chr(65 + number % 26) for number in range(150))
QUOTED = {
    "its status": (KEY, f"HTTP/1.1 2x0 {KEY}\r\n\r\n"),
    "a header that is none": (KEY, f"HTTP/1.1 200 OK\r\nNo header {KEY}\x01: x\r\n\r\n"),
    "the length of a chunk": (KEY, f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{KEY}\r\n"),
    "the name of a packing": (KEY, f"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Encoding: {KEY}\r\n\r\nx"),
    "where a message is cut": (KEY, f"HTTP/1.1 500 X\r\nConnection: close\r\n\r\n{'x' * 188}{KEY}"),
    "lines of base64": (
        LONG_KEY,
        f"HTTP/1.1 500 X\r\nConnection: close\r\n\r\n{base64.encodebytes(LONG_KEY.encode()).decode()}",
    ),
}


@pytest.mark.parametrize(("key", "raw"), QUOTED.values(), ids=QUOTED.keys())
def test_a_key_that_a_server_repeats_is_masked_wherever_a_message_quotes_it(key, raw, monkeypatch):
    monkeypatch.setenv("STAND_IN_KEY", key)

    def answer(asked):
        asked.handler.wfile.write(raw.encode())
        asked.handler.wfile.flush()
        asked.handler.connection.shutdown(socket.SHUT_RDWR)

    with serving(answer) as server, pytest.raises(Fault) as caught:
        texts(ServerGenerator(settings(server.url, api_key_env="STAND_IN_KEY", tries=1)), attempts(1))
    said = str(caught.value)
    assert "no usable answer after one try" in said
    assert key[:8].lower() not in said.lower()
    assert base64.b64encode(key.encode())[:16].decode() not in said


def test_a_key_that_is_a_word_leaves_the_texts_alone(monkeypatch):
    monkeypatch.setenv("STAND_IN_KEY", "EMPTY")
    with serving(lambda _: "The empty room of the nurse is EMPTY.") as server:
        ((_, text),) = texts(ServerGenerator(settings(server.url, api_key_env="STAND_IN_KEY")), attempts(1))
    assert text == "The empty room of the nurse is EMPTY."


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="needs Linux's record of peak memory")
def test_a_bomb_takes_bounded_memory_and_time():
    """300 MB in 300 KB, on eight connections, each asked three times."""
    packed = gzip.compress(bytes(300_000_000), 1)

    def peak():
        (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) / 1024

    with serving(body(packed, **{"Content-Encoding": "gzip"})) as server:
        Path("/proc/self/clear_refs").write_text("5")
        before, began = peak(), time.monotonic()
        with pytest.raises(Fault, match="more than 8 MiB"):
            texts(ServerGenerator(settings(server.url, concurrency=8)), attempts(12))
        assert time.monotonic() - began < 30
        assert peak() - before < 200


@pytest.mark.parametrize("count", [int("9" * 4000), 10**400, -1, 1.5, "7", None, [1]])
def test_a_count_of_tokens_that_is_none_counts_as_none(count):
    answer = {"choices": [{"text": "The nurse left.", "finish_reason": "stop"}], "usage": {"completion_tokens": count}}
    assert read_answer(json.dumps(answer).encode(), chat=False).tokens == 0


def test_a_key_that_is_not_there_is_noticed_before_anything_is_asked(monkeypatch):
    monkeypatch.delenv("STAND_IN_KEY", raising=False)
    with pytest.raises(UserError, match=r"model\.api_key_env=STAND_IN_KEY: this environment variable is not set"):
        ServerGenerator(settings(api_key_env="STAND_IN_KEY"))


# --- the pace -------------------------------------------------------------------------------------------------------


def test_retry_after_is_honoured_by_all_requests():
    def answer(asked):
        return (429, {"Retry-After": "1"}, b"") if len(server.asked) == 1 else good(asked)

    with serving(answer) as server:
        done = texts(ServerGenerator(settings(server.url, concurrency=1)), attempts(3))
        times = [asked.time for asked in server.asked]
    assert len(done) == 3
    assert len(times) == 4
    assert 0.95 < times[1] - times[0] < 3.0


def test_a_server_that_asks_for_hours_is_left_alone():
    with serving(body(b"quota used up", 429, **{"Retry-After": "7200"})) as server:
        with pytest.raises(Fault, match=r"quota used up.*wait for 7200 s: try later"):
            texts(ServerGenerator(settings(server.url, concurrency=1)), attempts(3))
        assert len(server.asked) == 1


def test_retry_after_is_a_number_or_a_date():
    later = email.utils.formatdate(time.time() + 100, usegmt=True)
    read = client._retry_after
    assert 95 < read({"retry-after": later}) < 101
    assert read({"retry-after": "2.5"}) == 2.5
    assert [read({"retry-after": text}) for text in ("", "soon", "-4", "inf", "nan", "1e999")] == [0.0] * 6
    assert read({}) == 0.0
    assert read({"retry-after": email.utils.formatdate(0)}) == 0.0


def test_waits_double_up_to_a_minute_and_spread_by_the_seed():
    waits = [client._backoff(0.5, 11, number) for number in range(1, 12)]
    for number, wait in enumerate(waits):
        assert 0.5 <= wait / min(0.5 * 2**number, 60.0) < 1.0
    assert waits == [client._backoff(0.5, 11, number) for number in range(1, 12)]
    assert len({client._backoff(0.5, seed, 1) for seed in range(50)}) == 50


def test_a_limit_of_requests_per_minute_is_kept():
    with serving(good) as server:
        texts(ServerGenerator(settings(server.url, requests_per_minute=1200)), attempts(8))
        times = [asked.time for asked in server.asked]
    assert times[-1] - times[0] > 0.9 * 7 * 0.05


# --- answers that outlive the process -------------------------------------------------------------------------------


def test_answers_are_not_asked_for_twice_when_a_run_is_broken_off(tmp_path):
    with serving(good) as server:
        undisturbed = texts(ServerGenerator(settings(server.url)), attempts(20))
        server.asked.clear()
        generator = ServerGenerator(settings(server.url, concurrency=3), lambda: tmp_path)
        running = generator.complete(attempts(20))
        begun = [next(running) for _ in range(8)]
        running.close()
        (journal,) = tmp_path.iterdir()
        assert journal.name == JOURNAL_FILE
        kept = len(journal.read_bytes().splitlines())
        assert len(begun) <= kept <= len(server.asked) <= kept + 3
        journal.write_bytes(
            journal.read_bytes() + b'{"name": "torn',
        )
        server.asked.clear()
        assert texts(generator, attempts(20)) == undisturbed
        assert len(server.asked) == 20 - kept
        assert (generator.usage.kept, generator.usage.answers) == (kept, 20 - kept)
        server.asked.clear()
        assert texts(generator, attempts(20)) == undisturbed  # what was added behind the torn line is read too
        assert not server.asked


def test_what_is_kept_belongs_to_the_request(tmp_path):
    with serving(good) as server:
        texts(ServerGenerator(settings(server.url), lambda: tmp_path), attempts(4))
        for other in ({"temperature": 0.5}, {"path": "org/other"}, {"style": "chat"}):
            server.asked.clear()
            texts(ServerGenerator(settings(server.url, **other), lambda: tmp_path), attempts(4))
            assert len(server.asked) == 4
        server.asked.clear()
        texts(ServerGenerator(settings(server.url, concurrency=1, tries=9), lambda: tmp_path), attempts(4))
        assert not server.asked


def test_attempts_are_told_apart_without_seeds_in_the_requests(tmp_path):
    (request,) = plan(1)
    both = [Attempt.of(request, attempt, 0, "g") for attempt in range(2)]
    with serving(lambda _: f"The nurse wrote the number {len(server.asked)}.") as server:
        generator = ServerGenerator(settings(server.url, seeds=False, concurrency=1), lambda: tmp_path)
        first = texts(generator, deque(both))
        assert len(set(first)) == 2
        assert texts(generator, deque(both)) == first
        assert len(server.asked) == 2


def test_a_damaged_journal_costs_requests_and_nothing_else(tmp_path):
    lines = [b"\xff\xfe", b"[]", b"null", b'{"name": "a"}', b'{"name": "b", "text": 1, "finished": true}', b"{" * 9000]
    (tmp_path / JOURNAL_FILE).write_bytes(b"\n".join(lines))
    with serving(good) as server:
        assert len(texts(ServerGenerator(settings(server.url), lambda: tmp_path), attempts(4))) == 4
        assert len(server.asked) == 4


def test_a_fault_of_the_writer_gives_up_what_is_under_way():
    ended = threading.Event()

    def answer(_):
        if len(server.asked) > ENOUGH_ASKS + 4:
            ended.wait(10)
        return ""

    with serving(answer) as server:
        began = time.monotonic()
        with pytest.raises(Fault, match="yield"):
            write_corpus(ServerGenerator(settings(server.url, concurrency=4)), plan(24), seed=0, stage="g")
        waited = time.monotonic() - began
        ended.set()
    assert waited < 8


# --- real models behind HTTP -----------------------------------------------------------------------------------------


GREEDY = {"temperature": 0.0, "max_new_tokens": 24}


def same_texts_as_in_process(served, network, tokenizer, style):
    """Compare greedy texts: the server gets the very prompts that the in-process generator reads."""
    local = InProcessGenerator(network, tokenizer, ModelSettings(name="m", path="m", style=style, **GREEDY))
    expected = {done.attempt.request.item: done for done in local.complete(attempts(6))}
    answers = list(ServerGenerator(served).complete(attempts(6)))
    assert [done.attempt.request.item for done in answers] == list(range(6))
    for done in answers:
        here = expected[done.attempt.request.item]
        # In this process a text ends with the token that may end its sentence; a server's is judged by what follows.
        assert done.text.startswith(here.text)
        assert 0 < len(done.text) <= GREEDY["max_new_tokens"]
        assert done.prompt_tokens == len(local.tokens_of([done.attempt])[0].ids)
    assert len({done.text for done in answers}) > 1


@pytest.mark.parametrize("style", ["base", "chat"])
def test_a_model_behind_http_writes_what_it_writes_in_this_process(style):
    network, tokenizer = (
        stock.make_model("llama"),
        stock.make_tokenizer(stock.TEMPLATE),
    )
    busy = threading.Lock()

    def answer(asked):
        if style == "chat":
            messages = asked.body["messages"]
            text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        else:
            ids = tokenizer(asked.body["prompt"], return_tensors="pt")["input_ids"]
        with busy:
            written = network.generate(ids, do_sample=False, max_new_tokens=asked.body["max_tokens"])[0, ids.shape[1] :]
        ended = int(written[-1]) == tokenizer.eos_token_id
        text = tokenizer.decode(written, skip_special_tokens=True)
        return 200, {}, completion(asked, text, "stop" if ended else "length", ids.shape[1], len(written))

    with serving(answer) as server:
        same_texts_as_in_process(settings(server.url, style=style, **GREEDY), network, tokenizer, style)


@pytest.mark.slow
@pytest.mark.parametrize("style", ["base", "chat"])
def test_transformers_serve(style, tmp_path):
    for needed in ("fastapi", "uvicorn", "openai"):
        pytest.importorskip(needed, reason="pip install 'transformers[serving]'")
    network, tokenizer = (
        stock.make_model("llama"),
        stock.make_tokenizer(stock.TEMPLATE),
    )
    network.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with transformers_serve(tmp_path) as url:
        served = settings(url, engine="transformers", path=str(tmp_path), style=style, concurrency=2, **GREEDY)
        same_texts_as_in_process(served, network, tokenizer, style)
        with pytest.raises(UserError, match=r"model\.path|model\.url"):
            list(ServerGenerator(served.model_copy(update={"path": "org/other"})).complete(attempts(1)))


@contextmanager
def transformers_serve(folder):
    """Run `transformers serve` on a free port while the block runs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = "from transformers.cli.transformers import main; main()"
    command = [sys.executable, "-c", code, "serve", str(folder), "--port", str(port), "--device", "cpu"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([*command, "--dtype", "float32"], stdout=log, stderr=log)
    try:
        for _ in range(600):
            assert process.poll() is None, (folder / "log").read_text()
            with suppress(httpx.TransportError):
                httpx.get(f"http://localhost:{port}/health", timeout=1.0)
                break
            time.sleep(0.2)
        yield f"http://localhost:{port}/v1"
    finally:
        process.terminate()
        process.wait(30)


# --- a whole cell ---------------------------------------------------------------------------------------------------


def test_a_killed_cell_goes_on_without_asking_again_for_what_was_answered(tmp_path):
    encoder = tiny_encoder(tmp_path / "encoder")
    go_on = threading.Event()

    def answer(asked):
        if len(server.asked) > 5:
            go_on.wait(120)
        who, seed = "".join(occupation(asked)), asked.body["seed"]
        return f"The {who} said that {('he', 'she')[seed % 2]} wrote {seed} letters before lunch."

    with serving(answer, models=["org/model"]) as server:
        arguments = (
            *("model=openai_server", "model.path=org/model", f"model.url={server.url}", "model.concurrency=2"),
            *("model.price_in=1", "model.price_out=2", f"study.encoder={encoder}", "study.sentences=8"),
            *("study.generations=1", "study.examples=2", "study.prompt_group=4", "study.resamples=100"),
            *("trainer.threads=1", "tracking=none"),
        )
        killed = start(*arguments, cwd=tmp_path, start_new_session=True)
        while len(server.asked) < 7 and killed.poll() is None:
            time.sleep(0.05)
        time.sleep(0.2)
        assert killed.poll() is None, killed.communicate()[1]
        os.killpg(killed.pid, signal.SIGKILL)
        killed.communicate()
        before = [asked.body["seed"] for asked in server.asked[:5]]
        go_on.set()
        first = len(server.asked)
        done = fairloop(*arguments, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        after = [asked.body["seed"] for asked in server.asked[first:]]
    assert not set(before) & set(after)
    assert len(after) == len(set(after))
    (cell,) = cells(tmp_path / "runs")
    (generation,) = cell.glob("stages/*-generation-1")
    rows = Dataset.from_parquet(str(generation / "corpus.parquet"), keep_in_memory=True).to_list()
    assert [row["item"] for row in rows] == list(range(8))
    for row in rows:
        assert str(derive(0, "generation-1", row["item"], row["attempt"]) % 2**31) in row["text"]
    writing = json.loads((generation / "writing.json").read_text())
    assert writing["asked"] == len({*before, *after})
    rejected = json.loads((generation / "rejected.json").read_text())
    assert {reason: len(texts) for reason, texts in rejected.items()} == writing["rejected"]
    assert writing["prompt_tokens"] == 100 * writing["asked"]
    result = json.loads((cell / "result.json").read_text())
    assert result["generation/prompt_tokens@1"] == 100 * writing["asked"]
    assert result["generation/tokens@1"] == 7 * writing["asked"]
    notes = json.loads((generation / "stage.json").read_text())["notes"]
    assert notes["cost"] == pytest.approx(writing["asked"] * (100 * 1 + 7 * 2) / 1e6)
    assert "5 kept from before" in done.stdout
    assert not list((tmp_path / "runs").rglob(JOURNAL_FILE))


# --- settings, costs, imports ---------------------------------------------------------------------------------------


def test_tokens_and_costs_are_said(caplog):
    with serving(good) as server, caplog.at_level("INFO", logger="fairloop.generation"):
        generator = ServerGenerator(settings(server.url, price_in=2.0, price_out=10.0))
        written = write_corpus(generator, plan(5), seed=0, stage="g")
    assert (written.stats.prompt_tokens, written.stats.tokens) == (500, 35)
    assert generator.settings.cost(500, 35) == pytest.approx(500 * 2e-6 + 35 * 10e-6)
    assert "5 answers, 0 kept from before; 5 requests; 500 tokens in, 35 out; cost 0.0014" in caplog.text
    assert settings().cost(500, 35) is None


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("model.engine=ollama", "model.engine=ollama: allowed is one of vllm, "),
        ("model.top_k=5", "model.top_k=5: the engine openai has no such setting"),
        ("model.repetition_penalty=1.1", "model.repetition_penalty=1.1: the engine openai has no such setting"),
        ("model.temperature=-1", "model.temperature=-1: "),
        ("model.url=localhost:8000", "model.url=localhost:8000: "),
        ("model.url=http://host:99999/v1", "model.url=http://host:99999/v1: "),
        ("model.url=http://h/v1/chat/completions", "model.url=http://h/v1/chat/completions: without the end"),
        ("+model.extra.seed=1", "model.extra=seed: "),
        ("model.unsent=[top_p]", "model.unsent=top_p: the server would not learn of model.top_p=0.95; allowed with "),
        ("model.unsent=[stop]", "model.unsent=stop: allowed is a list, each one of temperature, "),
        ("+model.extra.max_completion_tokens=1", "model.extra=max_completion_tokens: "),
        ("model.concurency=3", "model.concurency=3: unknown key (did you mean model.concurrency?)"),
        ("mitigation=finetune", "mitigation=finetune: trains the generator, and openai_server runs on a server"),
    ],
)
def test_a_mistake_gets_one_line(override, line):
    with composition.composer(), pytest.raises(UserError) as caught:
        composition.validate(composition.compose_config(["model=openai_server", "model.path=org/model", override]))
    assert str(caught.value).startswith(line)


@pytest.mark.parametrize("given", ["model.url=http://me:hunter2@host/v1", "model.api_key_env=sk-hunter2"])
def test_a_secret_in_the_configuration_is_refused_and_not_repeated(given):
    with composition.composer(), pytest.raises(UserError) as caught:
        composition.validate(composition.compose_config(["model=openai_server", "model.path=org/model", given]))
    assert "hunter2" not in str(caught.value)


def test_the_server_names_a_cell_and_how_it_is_asked_does_not():
    def deciding(model, **changes):
        with composition.composer():
            composed = composition.compose_config([f"model={model}", "study.encoder=org/encoder"])
        chosen = composition.validate(composed)
        changed = chosen.model.model_copy(update=changes)
        return chosen.model_copy(update={"model": changed}).deciding()

    server = "gemma_2_2b_it_vllm"
    cell = deciding(server)
    assert cell["weights"]["model.path"] == "vllm server:google/gemma-2-2b-it@main"
    incidental = {"url": "http://other/v1", "concurrency": 3, "tries": 1, "price_in": 4.0, "api_key_env": "KEY"}
    assert deciding(server, **incidental, name="x") == cell
    for choice in ({"path": "other"}, {"revision": "abc"}, {"engine": "sglang"}, {"top_k": 5}, {"seeds": False}):
        assert deciding(server, **choice) != cell
    here = deciding("gemma_2_2b_it")
    assert not set(here["model"]) & {"engine", "seeds", "extra"}
    assert here["weights"]["model.path"] == "google/gemma-2-2b-it@main"


def test_every_engine_of_the_schema_is_described():
    assert set(ENGINES) == set(ServerSettings.model_json_schema()["properties"]["engine"]["enum"])


def test_torch_is_not_needed():
    code = (
        "import sys; from fairloop.generation.generator import open_generator; "
        "from fairloop.generation.server_settings import ServerSettings; "
        "open_generator(ServerSettings(name='m', path='p', engine='openai', style='chat', top_k=0, url='http://h/v1'), "
        "'gpu'); print('torch' in sys.modules, 'transformers' in sys.modules, 'httpx' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False", "True"]
