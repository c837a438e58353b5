"""A model that its server does not serve is refused before anything is computed, where the server can tell."""

import json
import socket
import time

import pytest
from stand_in_server import serving

from fairloop.app import command
from fairloop.errors import UserError
from fairloop.generation import served_names
from fairloop.generation.served_names import check_names
from fairloop.generation.server_settings import ServerSettings
from fairloop.servers import client

GONE = (404, {}, b'{"error": {"message": "The model org/other does not exist."}}')
WELL = (200, {}, b'{"choices": [{"message": {"content": "Yes."}}]}')


def listing(*names):
    return 200, {}, json.dumps({"object": "list", "data": [{"id": name} for name in names]}).encode()


def hangs(asked):
    time.sleep(20)


def answering(models, texts):
    """Answer a question for the list, and one for a text, each by a response or a function of what was asked."""

    def answer(asked):
        chosen = models if asked.path == "/v1/models" else texts
        return chosen(asked) if callable(chosen) else chosen

    return answer


def chosen(url, **options):
    plain = {"name": "m", "path": "org/other", "engine": "openai", "style": "chat", "top_k": 0, "url": url}
    return ServerSettings(**{**plain, **options})


def asked_of(server):
    return [asked.path.removeprefix("/v1/") for asked in server.asked]


def test_a_name_that_is_listed_costs_no_request_for_a_text():
    with serving(answering(listing("a", "org/other"), GONE)) as server:
        check_names([chosen(server.url), chosen(server.url, temperature=0.5)])
        assert asked_of(server) == ["models"]


NO_LIST = {
    "none": (404, {}, b"not found"),
    "a page": (200, {}, b"<!DOCTYPE html><title>Sign in</title>"),
    "none for this key": (403, {}, b'{"error": {"message": "no permission"}}'),
    "a broken one": (500, {}, b"out of memory"),
    "too large": (200, {}, b" " * 200_000),
    "another schema": (200, {}, b'{"data": {"id": "org/other"}}'),
    "names that are none": (200, {}, b'{"data": [null, 5, {"id": null}, {"id": ["x"]}]}'),
    "no object": (200, {}, b"[1]"),
    "others": listing("served", "b", "c", "d", "e", "f"),
    "an empty one": listing(),
}


@pytest.mark.parametrize("style", ["chat", "base"])
@pytest.mark.parametrize("models", NO_LIST.values(), ids=NO_LIST.keys())
def test_where_the_list_lacks_the_name_one_request_decides(models, style, monkeypatch):
    monkeypatch.setattr(client, "_LARGEST_ANSWER", 150_000)
    route = {"chat": "chat/completions", "base": "completions"}[style]
    with serving(answering(models, WELL)) as server:
        check_names([chosen(server.url, style=style)])
        assert asked_of(server) == ["models", route]
        assert server.asked[1].body["model"] == "org/other"
    with serving(answering(models, GONE)) as server, pytest.raises(UserError) as caught:
        check_names([chosen(server.url, style=style)])
    line = str(caught.value)
    assert line.startswith(f"model.path=org/other: {server.url}/{route} answers HTTP 404 (The model org/other does not")
    assert line.endswith("; it lists served, b, c, d, e, …") == (models == NO_LIST["others"])


def test_a_server_that_says_it_with_another_status_and_a_model_without_a_chat_template():
    pinned = (400, {}, b"{\"detail\": \"Server is pinned to 'served'; requested 'org/other'.\"}")
    with serving(answering(listing("served"), pinned)) as server, pytest.raises(UserError, match=r"it lists served$"):
        check_names([chosen(server.url)])
    base = (400, {}, b'{"message": "default chat template is no longer allowed"}')
    with serving(answering(listing(), base)) as server, pytest.raises(UserError, match=r"^model\.style=chat: "):
        check_names([chosen(server.url)])


@pytest.mark.parametrize("texts", [(500, {}, b"loading"), (429, {"Retry-After": "600"}, b"busy"), (200, {}, b"<html>")])
def test_a_server_that_is_busy_or_broken_decides_nothing(texts):
    with serving(answering(listing("served"), texts)) as server:
        check_names([chosen(server.url)])
        assert asked_of(server) == ["models", "chat/completions"]


@pytest.mark.parametrize(("models", "texts", "asked"), [(hangs, WELL, 1), (listing("served"), hangs, 2)])
def test_a_server_that_hangs_is_waited_for_once_and_shortly(models, texts, asked, monkeypatch):
    monkeypatch.setattr(served_names, "PATIENCE", 2.0)
    with serving(answering(models, texts)) as server:
        begun = time.monotonic()
        check_names([chosen(server.url, path=path) for path in "abcdefgh"])
        assert time.monotonic() - begun < 12  # of each name it would be 16
        assert len(server.asked) == asked


def test_nobody_listening_decides_nothing():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
    check_names([chosen(url)])


@pytest.mark.parametrize("sweep", [[], ["-m", "seed=0,1"]])
def test_a_command_ends_with_one_line_and_leaves_nothing(sweep, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with serving(answering(listing("served"), GONE)) as server:
        status = command([*sweep, "model=openai_server", "model.path=org/other", f"model.url={server.url}"])
        assert len(server.asked) == 2
    out, err = capsys.readouterr()
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("fairloop: model.path=org/other: ")
    assert list(tmp_path.iterdir()) == []
