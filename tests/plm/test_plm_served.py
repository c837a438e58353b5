"""A causal model behind a server scores as the same weights in this process; what the server cannot do is refused."""

import json

import numpy as np
import pytest
import torch
from plm_models import SENTENCES, tiny
from stand_in_server import serving

from fairloop import composition
from fairloop.benchmarks.registry import benchmarks, measure, settings_of
from fairloop.errors import Fault, UserError
from fairloop.plm.memory import FolderMemory
from fairloop.plm.model import ScoreRequest
from fairloop.plm.scoring import token_scores
from fairloop.plm.served import ServedModel
from fairloop.plm.settings import NEEDS, ServedPlmSettings

TOLERANCE = 1e-5  # nats a token, float32 on both sides


def scorer(network, tokenizer, window=400):
    """Answer as vLLM does, by transformers' own forward pass over the whole input, one at a time."""

    def answer(asked):
        if asked.path == "/v1/models":
            return 200, {}, json.dumps({"data": [{"id": "org/model", "max_model_len": window}]}).encode()
        if asked.body["model"] != "org/model":
            return 404, {}, b'{"error": {"message": "The model does not exist. Valid aliases: org/model."}}'
        prompt = asked.body["prompt"]
        ids = tokenizer(prompt)["input_ids"] if isinstance(prompt, str) else prompt
        if max(ids) >= network.config.vocab_size:
            return 400, {}, b'{"error": {"message": "Token id is out of vocabulary"}}'
        with torch.inference_mode():
            scores = network(torch.tensor([ids])).logits[0].log_softmax(-1)
        chosen = [float(scores[place, token]) for place, token in enumerate(ids[1:])]
        written = int(scores[-1].argmax())
        choice = {"index": 0, "text": "x", "finish_reason": "length"}
        if "prompt_logprobs" in asked.body:
            found = [{str(token): {"logprob": one}} for token, one in zip(ids[1:], chosen, strict=True)]
            choice["prompt_logprobs"] = [None, *found]
        elif asked.body.get("echo"):
            tokens = tokenizer.convert_ids_to_tokens([*ids, written])
            choice["logprobs"] = {"tokens": tokens, "token_logprobs": [None, *chosen, float(scores[-1, written])]}
        return 200, {}, json.dumps({"choices": [choice]}).encode()

    return answer


def settings(url, tokenizer, **options):
    chosen = {"name": "m", "path": "org/model", "engine": "vllm", "backoff": 0.01, "tries": 2}
    return ServedPlmSettings(**{**chosen, "url": url, "tokenizer": str(tokenizer), **options})


@pytest.fixture(params=["gpt2", "gemma2"])
def family(request, tmp_path):
    """A model whose tokenizer begins a text itself, and one whose does not."""
    network, tokenizer, _ = tiny(request.param, 64)
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    # What marks a folder as a model, though nothing but its tokenizer is read.
    network.config.save_pretrained(tmp_path / "tokenizer")
    (tmp_path / "tokenizer" / "model.safetensors").touch()
    return request.param, network.eval(), tokenizer, tmp_path / "tokenizer"


@pytest.mark.parametrize("engine", ["vllm", "openai"])
def test_scores_are_those_of_the_same_weights_in_this_process(engine, family, tiny_plm, tmp_path):
    name, network, tokenizer, folder = family
    here, text = tiny_plm(name), tmp_path / "lines.txt"
    text.write_text("\n".join(SENTENCES[:4]))
    ids = here.encode(SENTENCES[:1])[0].ids
    others = [ScoreRequest(ids, (1, 3, 3, len(ids) - 1), (5, 7, ids[4], 6)), ScoreRequest(ids[:1], (0,), (ids[1],))]
    with serving(scorer(network, tokenizer)) as server:
        there = ServedModel(settings(server.url, folder, engine=engine))
        assert there.window == 399
        assert there.start_id == here.start_id
        for one, other in zip(token_scores(here, SENTENCES), token_scores(there, SENTENCES), strict=True):
            assert one.tokens == other.tokens
            np.testing.assert_allclose(one.log_probabilities, other.log_probabilities, atol=TOLERANCE, rtol=0)
        for one, other in zip(here.score(others), there.score(others), strict=True):
            np.testing.assert_allclose(one, other, atol=TOLERANCE, rtol=0)
        chosen = settings_of({"name": "perplexity", "text": str(text), "resamples": 50})
        local, served = measure(here, chosen), measure(there, chosen)
    assert local.protocol == served.protocol
    for one, other in zip(local.measurements, served.measurements, strict=True):
        assert one.metric == other.metric
        assert one.value == pytest.approx(other.value, rel=1e-4)


def test_what_was_scored_is_not_asked_for_again(family, tmp_path):
    _, network, tokenizer, folder = family
    memory, answer, broken = FolderMemory(tmp_path / "memory"), scorer(network, tokenizer), []
    with serving(lambda asked: (500, {}, b"gone") if broken else answer(asked)) as server:
        there = ServedModel(settings(server.url, folder))
        begun = len(server.asked)
        whole = token_scores(there, SENTENCES[:5], memory=memory)
        assert len(server.asked) > begun
        broken.append(True)
        again = token_scores(there, SENTENCES[:5], memory=memory)
        for one, other in zip(whole, again, strict=True):
            assert (one.log_probabilities == other.log_probabilities).all()
        with pytest.raises(Fault, match="no usable answer after 2 tries; the last time: HTTP 500"):
            token_scores(there, SENTENCES[5:], memory=memory)


@pytest.mark.parametrize("family", ["gemma2"], indirect=True)
def test_what_the_server_cannot_do_is_refused_before_work(family, tmp_path):
    _, network, tokenizer, folder = family
    with serving(scorer(network, tokenizer)) as server:
        with pytest.raises(UserError, match=r"^plm\.path=org/other: .*Valid aliases: org/model"):
            ServedModel(settings(server.url, folder, path="org/other"))
        other = tiny("gpt2", 64)
        other[1].save_pretrained(tmp_path / "other")
        other[0].config.save_pretrained(tmp_path / "other")
        (tmp_path / "other" / "model.safetensors").touch()
        with pytest.raises(UserError, match=r"^plm\.tokenizer=\S+other: not the "):
            ServedModel(settings(server.url, tmp_path / "other"))
        with pytest.raises(UserError, match=r"^plm\.tokenizer=\./nowhere: no such folder"):
            ServedModel(settings(server.url, "./nowhere"))
        model = ServedModel(settings(server.url, folder))
        with pytest.raises(UserError, match=r"^plm=m: it runs on a server"):
            _ = model.encoder
    none = r"^plm\.engine=openai: \S+ returns no log probabilities of a prompt"
    with serving(lambda _: (200, {}, b'{"choices": [{"text": "x"}]}')) as server, pytest.raises(UserError, match=none):
        ServedModel(settings(server.url, folder, engine="openai"))


SERVED = ("study=evaluate", "plm=openai_server", "plm.path=org/model")


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["plm.engine=vllm", "benchmark=seat"], "benchmark=seat: needs the model's hidden states, and plm="),
        (["plm.engine=vllm", "benchmark=glue"], "benchmark=glue: needs the model's weights, and plm="),
        (["plm.engine=llama.cpp"], "plm.engine=llama.cpp: stereoset needs the log probabilities of a prompt's tokens"),
        (["plm.url=h"], "plm.url=h: allowed is an address"),
        (["plm.dtype=float32"], "plm.dtype="),
        (["study=fair_gender"], "plm=openai_server: runs on a server, and study=fair_gender changes weights"),
    ],
)
def test_a_mistake_gets_one_line(overrides, line):
    with composition.composer(), pytest.raises(UserError) as caught:
        composition.validate(composition.compose_config([*SERVED, "benchmark=stereoset", *overrides]))
    assert str(caught.value).startswith(line)


def test_a_cell_is_named_by_what_the_server_calls_its_weights(monkeypatch):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)

    def cell(*overrides):
        with composition.composer():
            return composition.validate(composition.compose_config([*SERVED, "plm.engine=vllm", *overrides]))

    first = cell("benchmark=lpbs").deciding()
    assert first["weights"] == {"plm.path": "vllm server:org/model@main"}
    assert cell("benchmark=lpbs", "plm.url=http://other/v1", "plm.tries=3").deciding() == first
    assert cell("benchmark=lpbs", "plm.revision=abc").deciding() != first
    with pytest.raises(UserError, match=r"plm\.api_key_env=NO_SUCH_KEY: this environment variable is not set"):
        cell("benchmark=lpbs", "plm.api_key_env=NO_SUCH_KEY").check_surroundings(local=True)


def test_every_benchmark_declares_what_it_needs():
    assert {one.needs for one in benchmarks().values()} == set(NEEDS)
