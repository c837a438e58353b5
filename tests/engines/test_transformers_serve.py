"""`transformers serve` over the converted folders of a chat and a base model."""

import pytest
import server_checks as checks
from real_servers import BASE, CHAT, converted, engines_python, free_port, running

from fairloop.errors import Fault
from fairloop.generation.server import ServerGenerator
from tiny_models import tiny_encoder


def transformers_serve(name, log):
    python, port = engines_python("uvicorn"), free_port()
    code = "from transformers.cli.transformers import main; main()"
    command = [python, "-c", code, "serve", converted(name), "--host", "127.0.0.1", "--port", port]
    return running([*command, "--device", "cpu", "--dtype", "bfloat16"], port, log)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("transformers_serve")
    tiny_encoder(made / "encoder")
    return made


@pytest.fixture(scope="module")
def chat(folder):
    with transformers_serve(CHAT, folder / "chat.log") as server:
        yield server


def model(server, name, style):
    return checks.chosen(server, "transformers", converted(name), style, top_k=50, concurrency=1)


def test_mistakes_and_seeds(chat):
    checks.mistakes(chat, "transformers", str(converted(CHAT)), "chat")
    checks.seeds(chat, "transformers", str(converted(CHAT)), "chat")


def test_a_cell_of_the_chat_model(chat, folder, tmp_path):
    checks.recursion(model(chat, CHAT, "chat"), folder / "encoder", tmp_path)


def test_a_sweep_of_four_cells(chat, folder, tmp_path):
    checks.sweep(model(chat, CHAT, "chat"), folder / "encoder", tmp_path)


def test_a_cell_of_the_base_model(folder, tmp_path):
    with transformers_serve(BASE, folder / "base.log") as server:
        # It answers HTTP 500 without a word about the template, which may pass for all that a client knows.
        asked = checks.served(server, "transformers", str(converted(BASE)), "chat", backoff=0.01)
        with pytest.raises(Fault, match="after 2 tries; the last time: HTTP 500"):
            checks.texts_of(ServerGenerator(asked), 1)
        checks.recursion(model(server, BASE, "base"), folder / "encoder", tmp_path)


def test_a_server_killed_and_started_again_in_the_middle(chat, folder, tmp_path):
    checks.killed_in_the_middle(chat, model(chat, CHAT, "chat"), folder / "encoder", tmp_path)
