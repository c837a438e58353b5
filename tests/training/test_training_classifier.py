import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from fairloop.errors import UserError
from fairloop.training.settings import ClassifierSettings, TrainerSettings
from fairloop.training.tasks import train_classifier
from tiny_models import ENDINGS, PEOPLE, tiny_encoder

CPU = TrainerSettings(accelerator="cpu", precision="float32", threads=1)


def clusters(n=300, classes=3, width=6, seed=0):
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, n)
    centres = np.random.default_rng(1).normal(size=(classes, width)) * 2
    return (centres[labels] + random.normal(size=(n, width))).astype(np.float32) * 5 + 40, labels


def test_a_frozen_encoders_classifier_agrees_with_logistic_regression(tmp_path):
    (train, labels), (test, truth) = clusters(), clusters(seed=2)
    settings = ClassifierSettings(weight_decay=0.0, epochs=40, learning_rate=0.1)
    found = train_classifier(train, labels, settings, CPU, tmp_path, seed=0, stage="s")
    probabilities = found.probabilities(test)
    reference = LogisticRegression(max_iter=2000).fit((train - 40) / 5, labels).predict_proba((test - 40) / 5)
    assert np.allclose(probabilities.sum(axis=1), 1)
    assert np.abs(probabilities - reference).mean() < 0.02
    assert (probabilities.argmax(axis=1) == truth).mean() > 0.9


def test_a_trained_encoder_learns_what_it_is_told(tmp_path):
    sentences = [f"the {who} said that he {what} ." for who in PEOPLE for what in ENDINGS]
    labels = [number for number in range(len(PEOPLE)) for _ in ENDINGS]
    model = tiny_encoder(tmp_path / "model")
    settings = ClassifierSettings(batch_size=10, epochs=12, learning_rate=3e-3)
    found = train_classifier(sentences, labels, settings, CPU, tmp_path / "run", encoder=model, seed=0, stage="s")
    assert (found.probabilities(sentences).argmax(axis=1) == labels).mean() > 0.9
    one_by_one = np.concatenate([found.probabilities([sentence]) for sentence in sentences])
    assert np.allclose(one_by_one, found.probabilities(sentences), atol=1e-5)
    assert found.probabilities([]).shape == (0, 5)


def test_equal_seeds_give_equal_classifiers_and_others_do_not(tmp_path):
    train, labels = clusters()
    settings = ClassifierSettings(epochs=1)
    first, again, other = (
        train_classifier(train, labels, settings, CPU, tmp_path / name, seed=seed, stage="s").probabilities(train)
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("items", "labels", "line"),
    [
        (np.zeros((0, 3)), [], "there are no sentences to train a classifier on"),
        (np.zeros((3, 3)), [0, 1], "a classifier needs one label for each item: 3 items, 2 labels"),
        (np.zeros((3, 3)), [1, 1, 1], "a classifier needs at least two classes, and the 3 items have 1"),
        (np.zeros((3, 3)), [0, 1, 1], "batch_size=32: at most 3, the sentence vectors there are to train on"),
    ],
)
def test_bad_data_is_one_line(tmp_path, items, labels, line):
    with pytest.raises(UserError, match=f"^{line}$"):
        train_classifier(items, labels, ClassifierSettings(), CPU, tmp_path, seed=0, stage="s")
