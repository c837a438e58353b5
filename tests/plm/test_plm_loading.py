"""Loading from a folder: every family, what kind it is, and what is said when it cannot be."""

import numpy as np
import pytest
from plm_models import CAUSAL, MASKED, SENTENCES, tiny

from fairloop.errors import FairloopError, UserError
from fairloop.plm.encoder import SentenceEncoder
from fairloop.plm.loading import load_model
from fairloop.plm.model import LanguageModel, detect_kind, devices
from fairloop.plm.scoring import token_scores
from fairloop.plm.settings import PlmSettings


@pytest.fixture
def saved(tmp_path):
    def save(family, headless=False):
        model, tokenizer, kind = tiny(family)
        (model.base_model if headless else model).save_pretrained(tmp_path / family)
        tokenizer.save_pretrained(tmp_path / family)
        return str(tmp_path / family), kind

    return save


@pytest.mark.parametrize("family", MASKED + CAUSAL)
def test_a_loaded_model_scores_like_the_saved_one(saved, tiny_plm, family):
    path, kind = saved(family)
    plm = LanguageModel.load(PlmSettings(name=family, path=path, device="cpu"))
    assert plm.kind == kind
    for one, two in zip(token_scores(plm, SENTENCES[:3]), token_scores(tiny_plm(family), SENTENCES[:3]), strict=True):
        assert one.tokens == two.tokens
        # Gemma 2 is computed with another attention kernel, which has the soft cap that SDPA lacks.
        np.testing.assert_allclose(
            one.log_probabilities, two.log_probabilities, atol=0.2 if family == "gemma2" else 1e-5
        )


def test_gemma_2_keeps_its_soft_cap(saved):
    path, _ = saved("gemma2")
    assert load_model(path, "causal").config._attn_implementation == "eager"


def test_bfloat16_is_close(saved, tiny_plm):
    path, _ = saved("bert")
    plm = LanguageModel.load(PlmSettings(name="bert", path=path, device="cpu", dtype="bfloat16"))
    for one, two in zip(token_scores(plm, SENTENCES[:3]), token_scores(tiny_plm("bert"), SENTENCES[:3]), strict=True):
        np.testing.assert_allclose(one.log_probabilities, two.log_probabilities, atol=0.3)
        assert not np.array_equal(one.log_probabilities, two.log_probabilities)


def test_a_model_without_a_head_is_an_encoder(saved):
    path, _ = saved("bert", headless=True)
    plm = LanguageModel.load(PlmSettings(name="bert", path=path, device="cpu"))
    assert plm.kind == "encoder"
    np.testing.assert_array_equal(plm.encoder.embed(SENTENCES), SentenceEncoder.load(path).embed(SENTENCES))


def test_an_unreadable_path_is_one_line(tmp_path):
    for path in (str(tmp_path / "missing"), str(tmp_path), "embedded:nonsense"):
        with pytest.raises(FairloopError) as caught:
            LanguageModel.load(PlmSettings(name="x", path=path, device="cpu"))
        assert "\n" not in str(caught.value)
        assert path in str(caught.value)


def test_a_configuration_without_an_architecture_needs_a_kind(saved, tmp_path):
    import json
    from pathlib import Path

    path, _ = saved("bert")
    file = Path(path) / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"architectures": None}))
    with pytest.raises(UserError, match=r"set plm\.kind"):
        detect_kind(path)
    assert LanguageModel.load(PlmSettings(name="x", path=path, kind="masked", device="cpu")).kind == "masked"


def test_devices():
    assert devices("cpu,cpu") == ["cpu", "cpu"]
    assert devices("auto")
    with pytest.raises(UserError, match=r"plm\.device=tpu"):
        devices("tpu")


@pytest.mark.embedded
def test_the_packaged_causal_model_is_scored(monkeypatch):
    plm = LanguageModel.load(
        PlmSettings(name="gemma_3_270m", path="embedded:gemma-3-270m", kind="causal", device="cpu")
    )
    sense, nonsense = token_scores(plm, ["The capital of France is Paris.", "Paris the capital is of France."])
    assert sense.mean > nonsense.mean
