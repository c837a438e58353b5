"""Debiased models on the Hub: what is refused at once, what is uploaded, and a push that fails."""

import pytest
from hub_service import KEY, served
from huggingface_hub import ModelCard, constants

from fairloop.debias.card import Score, with_results, write_card
from fairloop.debias.hub import check_pushes, push
from fairloop.debias.registry import methods, settings_of
from fairloop.errors import Fault, UserError
from fairloop.plm.settings import PlmSettings


@pytest.fixture
def hub(monkeypatch):
    with served() as found:
        monkeypatch.setenv("HF_ENDPOINT", found.url)
        monkeypatch.setenv("HF_TOKEN", KEY)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        yield found


@pytest.fixture
def model(tmp_path):
    """The folder of a model, with its card."""
    folder = tmp_path / "model"
    folder.mkdir()
    plm = PlmSettings(name="bert_base", path="google-bert/bert-base-uncased")
    write_card(folder, plm, "masked", settings_of({"name": "self_debias"}), "What it does.", "no data")
    card = (folder / "README.md").read_text()
    scores = [Score("lpbs/gap", 1.0, 0.25), Score("seat/p", None, None)]
    (folder / "README.md").write_text(with_results(card, ["no pairs"], scores))
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 64)
    return folder


def test_a_model_arrives_whole_in_a_private_repository(hub, model):
    address = push(model, "me/debiased")
    assert address == f"{hub.url}/me/debiased"
    assert hub.private == {"me/debiased": True}
    assert hub.repositories["me/debiased"] == {path.name: path.read_bytes() for path in model.iterdir()}
    stored = len(hub.stored)
    assert push(model, "me/debiased") == address  # again: nothing is created twice, and nothing lost
    assert hub.repositories["me/debiased"].keys() == {path.name for path in model.iterdir()}
    assert len(hub.stored) == stored


def test_a_card_has_the_metadata_that_the_hub_reads(model):
    card = ModelCard.load(model / "README.md")
    assert card.data.base_model == "google-bert/bert-base-uncased"
    assert (card.data.library_name, card.data.pipeline_tag, card.data.language) == ("transformers", "fill-mask", "en")
    (result,) = card.data.eval_results
    assert (result.dataset_type, result.metric_type, result.metric_value) == ("lpbs", "lpbs/gap", 0.25)
    assert "| `seat/p` | undefined | undefined |" in card.text
    assert "push_to_hub" not in card.text  # where a model lies does not decide what it is


@pytest.mark.parametrize("path", ["embedded:all-minilm-l6-v2", "/models/mine", "./mine", "a/b/c"])
def test_what_is_no_model_of_the_hub_is_no_base_model_of_a_card(tmp_path, path):
    settings = settings_of({"name": "self_debias"})
    write_card(tmp_path, PlmSettings(name="mine", path=path), "causal", settings, "What it does.", "no data")
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.base_model is None
    assert card.data.pipeline_tag == "text-generation"


@pytest.mark.parametrize("status", [401, 403, 500])
def test_a_refused_push_is_one_line_with_the_command_that_repeats_it_and_no_key(hub, model, status, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    hub.refuses = status
    with pytest.raises(Fault, match=f"hf upload me/debiased {model}") as error:
        push(model, "me/debiased")
    assert KEY not in str(error.value)
    assert "\n" not in str(error.value)


def test_a_hub_that_is_not_there_is_one_line(model, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_TOKEN", KEY)
    with pytest.raises(Fault, match=r"debias\.push_to_hub=me/debiased: not uploaded"):
        push(model, "me/debiased")


def test_every_method_that_makes_a_model_takes_a_repository_and_refuses_what_is_none():
    assert len(methods()) >= 10
    for name in methods():
        if name == "none":
            with pytest.raises(UserError, match=r"debias\.push_to_hub=me/x: unknown key"):
                settings_of({"name": name, "push_to_hub": "me/x"})
            continue
        chosen = settings_of({"name": name, "push_to_hub": "me/x-1.0"})
        assert "push_to_hub" not in chosen.deciding()
        for wrong in ("", "a/b/c", "-x", "a--b", "x y", "x.git", "../x"):
            with pytest.raises(UserError, match=r"debias\.push_to_hub=.*allowed is a repository of the Hub"):
                settings_of({"name": name, "push_to_hub": wrong})


def test_what_could_not_be_pushed_is_refused_before_anything_is_computed(monkeypatch):
    check_pushes({})
    monkeypatch.setenv("HF_TOKEN", "")
    with pytest.raises(UserError, match="needs the environment variable HF_TOKEN"):
        check_pushes({"cell": "me/x"})
    monkeypatch.setenv("HF_TOKEN", KEY)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="HF_HUB_OFFLINE switches it off"):
        check_pushes({"cell": "me/x"})
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    check_pushes({"one": "me/x", "two": "me/y"})
    with pytest.raises(UserError, match="several cells would overwrite each other"):
        check_pushes({"one": "me/x", "two": "me/x"})
