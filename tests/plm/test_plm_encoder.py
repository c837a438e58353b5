import numpy as np
import pytest
import torch
from plm_models import SENTENCES, tiny

from fairloop.errors import Fault, UserError
from fairloop.plm.encoder import SentenceEncoder
from fairloop.plm.model import LanguageModel


@torch.no_grad()
def plain(model, tokenizer, sentence, pooling):
    hidden = model(**tokenizer(sentence, return_tensors="pt", return_token_type_ids=False)).last_hidden_state[0]
    return {"mean": hidden.mean(0), "cls": hidden[0], "last": hidden[-1]}[pooling].numpy()


@pytest.mark.parametrize("family", ["bert", "albert", "roberta", "distilbert", "gpt2", "gemma3"])
@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
@pytest.mark.parametrize("batch_tokens", [1, 90, 4096])
def test_equals_one_sentence_at_a_time(family, pooling, batch_tokens):
    model, tokenizer, _ = tiny(family)
    sentences = [*SENTENCES, "nurse", SENTENCES[2]]
    got = SentenceEncoder(model.base_model, tokenizer).embed(sentences, pooling=pooling, batch_tokens=batch_tokens)
    expected = [plain(model.base_model, tokenizer, sentence, pooling) for sentence in sentences]
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_normalised_vectors_have_length_one_and_the_same_direction():
    model, tokenizer, _ = tiny("bert")
    encoder = SentenceEncoder(model.base_model, tokenizer)
    plain_vectors, unit = encoder.embed(SENTENCES), encoder.embed(SENTENCES, normalize=True)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(unit * np.linalg.norm(plain_vectors, axis=1, keepdims=True), plain_vectors, atol=1e-5)


def test_no_sentences_and_an_unknown_pooling():
    model, tokenizer, _ = tiny("bert")
    encoder = SentenceEncoder(model.base_model, tokenizer)
    assert encoder.embed([]).shape == (0, 32)
    with pytest.raises(UserError, match="pooling=max"):
        encoder.embed(["x"], pooling="max")


def test_longer_than_the_window_is_named():
    model, tokenizer, _ = tiny("bert", 16)
    encoder = SentenceEncoder(model.base_model, tokenizer)
    assert encoder.too_long(["short", SENTENCES[0] * 3]) == [1]
    with pytest.raises(Fault, match="sentence 1 has"):
        encoder.embed(["short", SENTENCES[0] * 3])


def test_a_masked_model_lends_its_weights_to_the_encoder():
    model, tokenizer, _ = tiny("roberta")
    plm = LanguageModel(model, tokenizer, "masked")
    np.testing.assert_allclose(
        plm.encoder.embed(SENTENCES[:1])[0], plain(model.base_model, tokenizer, SENTENCES[0], "mean"), atol=1e-5
    )
