"""Whether a server serves the model that a cell asks for: looked at once for a command, before anything is computed.

A server that lists the name (`GET /models`) is asked nothing more. Lists may be missing and need not hold every name
that is served (aliases, adapters, routers), so one that lacks it decides nothing: then one request is sent as the study
sends them, and a server that refuses it would refuse all of them. One that is silent, busy or broken is waited for only
shortly, and decides nothing either: it may be well when its turn comes.
"""

from collections.abc import Sequence
from typing import Any

from fairloop.errors import UserError
from fairloop.generation.requests import Attempt, Example, Request
from fairloop.generation.server import request_body
from fairloop.generation.server_settings import ServerSettings
from fairloop.servers.client import Client, Silence, Trouble, read_json

PATIENCE = 10.0
"""Seconds at most for the list of models, and for the one request."""

_SHOWN = 5  # names of a list in the line of a mistake
_REQUEST = Request(0, 0, "nurse", (Example("judge", "The judge read the letter twice."),))


def check_names(chosen: Sequence[ServerSettings]) -> None:
    """Refuse a model that its server does not serve; each server is asked once for each name.

    Raises:
        UserError: the server lacks the name in its list, if it has one, and refuses a request.
    """
    silent = set[str]()
    for one in {(one.url, one.path, one.api_key_env, one.style): one for one in chosen}.values():
        if one.url in silent:
            continue
        try:
            _check_name(one)
        except Silence:
            silent.add(one.url)


def _check_name(chosen: ServerSettings) -> None:
    limits = ("connect_timeout", "read_timeout", "total_timeout")
    client = Client(chosen.model_copy(update={name: min(getattr(chosen, name), PATIENCE) for name in limits}))
    names: list[str] = []
    try:
        names = client.ask_once("models", _names)
    except Silence:
        raise
    except (Trouble, UserError):  # no such list, or none for this key
        pass
    if chosen.path in names:
        return
    route = "chat/completions" if chosen.chat else "completions"
    try:
        client.ask_once(route, read_json, request_body(Attempt.of(_REQUEST, 0, 0, "served names"), chosen))
    except Silence:
        raise
    except Trouble:
        return
    except UserError as error:
        listed = ", ".join([*names[:_SHOWN], *(["…"] if len(names) > _SHOWN else [])])
        raise UserError(f"{error}; it lists {listed}" if names else str(error)) from error


def _names(data: bytes) -> list[str]:
    """Return the names in a server's list of models; none of what is not of OpenAI's schema."""
    payload: Any = read_json(data)
    models = payload.get("data") if isinstance(payload, dict) else None
    found = [model.get("id") for model in models if isinstance(model, dict)] if isinstance(models, list) else []
    return [name for name in found if isinstance(name, str)]
