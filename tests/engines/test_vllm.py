"""vLLM on the processor: a chat model in float32, whose scores are compared, and a base model in bfloat16."""

import numpy as np
import pytest
import server_checks as checks
from real_servers import BASE, CHAT, converted, engines_python, free_port, running

from fairloop.benchmarks.registry import measure, settings_of
from fairloop.errors import UserError
from fairloop.plm.model import LanguageModel
from fairloop.plm.scoring import token_scores
from fairloop.plm.served import ServedModel
from fairloop.plm.settings import PlmSettings, ServedPlmSettings
from tiny_models import tiny_encoder

TOLERANCE = 1e-3
"""Nats a token between vLLM and this process, both in float32."""
ROUNDED = 0.5
"""The same with vLLM in bfloat16, against float32 here."""
SENTENCES = [
    "The nurse said that she would help the developer with his work.",
    "The engineer asked the receptionist whether he could use her telephone.",
    "Women and men work as carpenters, bakers, hairdressers and physicians.",
]


def vllm(name, dtype, log):
    python, port = engines_python("vllm"), free_port()
    command = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", converted(name), "--served-model-name"]
    command += [
        "served",
        "--enforce-eager",
        "--dtype",
        dtype,
        "--max-model-len",
        "1024",
        "--host",
        "127.0.0.1",
        "--port",
        port,
    ]
    return running(command, port, log, VLLM_CPU_KVCACHE_SPACE="2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("vllm")
    tiny_encoder(made / "encoder")
    return made


@pytest.fixture(scope="module")
def chat(folder):
    with vllm(CHAT, "float32", folder / "chat.log") as server:
        yield server


@pytest.fixture(scope="module")
def base(folder):
    with vllm(BASE, "bfloat16", folder / "base.log") as server:
        yield server


def plm(server, tokenizer, **options):
    chosen = {"name": "served", "path": "served", "engine": "vllm", "tokenizer": tokenizer, "url": server.url}
    return ServedPlmSettings(**{**chosen, "tries": 2, **options})


@pytest.mark.parametrize("engine", ["vllm", "openai"])
def test_scores_of_the_chat_model_are_those_of_this_process(engine, chat):
    here = LanguageModel.load(PlmSettings(name="here", path=CHAT, kind="causal"))
    there = ServedModel(plm(chat, CHAT, engine=engine))
    assert there.window == 1023
    for one, other in zip(token_scores(here, SENTENCES), token_scores(there, SENTENCES), strict=True):
        assert one.tokens == other.tokens
        np.testing.assert_allclose(other.log_probabilities, one.log_probabilities, atol=TOLERANCE, rtol=0)
    if engine == "vllm":
        chosen = settings_of({"name": "lpbs", "resamples": 50})
        local, served = measure(here, chosen), measure(there, chosen)
        for one, other in zip(local.measurements, served.measurements, strict=True):
            print(one.metric, one.value, other.value)
            assert other.value == pytest.approx(one.value, abs=TOLERANCE)


def test_mistakes_and_seeds_of_the_chat_model(chat):
    with pytest.raises(UserError, match=r"^plm\.tokenizer="):
        ServedModel(plm(chat, BASE))
    with pytest.raises(UserError, match=r"^plm\.path=other: .* does not exist"):
        ServedModel(plm(chat, CHAT, path="other"))
    checks.seeds(chat, "vllm", "served", "chat")
    checks.mistakes(chat, "vllm", "served", "chat")


def test_a_cell_of_the_chat_model(chat, folder, tmp_path):
    checks.recursion(checks.chosen(chat, "vllm", "served", "chat", top_k=50), folder / "encoder", tmp_path)


def test_a_sweep_of_four_cells_in_front_of_the_chat_model(chat, folder, tmp_path):
    checks.sweep(checks.chosen(chat, "vllm", "served", "chat", top_k=50), folder / "encoder", tmp_path)


def test_a_cell_of_the_base_model_and_its_scores(base, folder, tmp_path):
    checks.no_chat_template(base, "vllm", "served")
    here = LanguageModel.load(PlmSettings(name="here", path=BASE, kind="causal"))
    there = ServedModel(plm(base, BASE))
    for one, other in zip(token_scores(here, SENTENCES), token_scores(there, SENTENCES), strict=True):
        difference = np.abs(other.log_probabilities - one.log_probabilities)
        print("bfloat16 against float32, nats a token:", difference.mean(), difference.max())
        assert difference.max() < ROUNDED
    checks.recursion(checks.chosen(base, "vllm", "served", "base", top_k=50), folder / "encoder", tmp_path)


def test_a_server_killed_and_started_again_in_the_middle(chat, folder, tmp_path):
    checks.killed_in_the_middle(
        chat, checks.chosen(chat, "vllm", "served", "chat", top_k=50), folder / "encoder", tmp_path
    )
