"""llama.cpp's server over the packaged GGUF files: a chat and a base model, quantised as they are."""

import pytest
import server_checks as checks
from real_servers import BASE, CHAT, engines_python, free_port, on_path, packed, running

from fairloop.generation.served_names import check_names
from tiny_models import tiny_encoder


def llama_cpp(name, folder):
    port, path = free_port(), packed(name, folder)
    if program := on_path("llama-server"):
        command = [program, "-m", path, "--alias", "served", "-np", "4", "-c", "4096", "--port", port]
    else:
        command = [engines_python("xllamacpp"), checks.HERE / "llama_cpp_server.py", path, port]
    return running(command, port, folder / "log")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("llama_cpp")
    tiny_encoder(made / "encoder")
    return made


@pytest.fixture(scope="module")
def chat(folder):
    with llama_cpp(CHAT, folder) as server:
        yield server


def model(server, style="chat"):
    return checks.chosen(server, "llama.cpp", "served", style, top_k=50, concurrency=4)


def test_mistakes_and_seeds(chat):
    checks.nobody(chat, "llama.cpp", "served", "chat")
    check_names([checks.served(chat, "llama.cpp", "org/other", "chat")])  # it answers to every name
    checks.seeds(chat, "llama.cpp", "served", "chat")


def test_a_cell_of_the_chat_model(chat, folder, tmp_path):
    checks.recursion(model(chat), folder / "encoder", tmp_path)


def test_a_sweep_of_four_cells(chat, folder, tmp_path):
    checks.sweep(model(chat), folder / "encoder", tmp_path)


def test_a_cell_of_the_base_model(folder, tmp_path):
    with llama_cpp(BASE, folder) as server:
        checks.recursion(model(server, "base"), folder / "encoder", tmp_path)


def test_a_server_killed_and_started_again_in_the_middle(chat, folder, tmp_path):
    checks.killed_in_the_middle(chat, model(chat), folder / "encoder", tmp_path)
