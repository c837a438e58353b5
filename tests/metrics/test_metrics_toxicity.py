"""Toxicity by a classifier that is known: it goes by the last word of a sentence."""

import numpy as np
import pytest

from fairloop.errors import UserError
from fairloop.metrics.metric import Sample
from fairloop.metrics.toxicity import ToxicitySettings, measure_toxicity
from tiny_models import planted_classifier

WORDS = ["the", "a", "he", "she", "nurse", "teacher", "was", "said", "kind", "awful", "there"]
SENTENCES = [
    ("the nurse said he was awful", "male"),
    ("the nurse said he was kind", "male"),
    ("the teacher said she was kind", "female"),
    ("the nurse was awful", "none"),
]


@pytest.fixture
def build(tmp_path):
    def path(*labels):
        return str(
            planted_classifier(tmp_path / labels[1], labels, {"awful": labels[1], "kind": labels[0]}, words=WORDS)
        )

    return path


def measured(path, **chosen):
    texts, gender = zip(*SENTENCES, strict=True)
    found = measure_toxicity(Sample(texts, gender=gender, resamples=50), ToxicitySettings(model=path, **chosen))
    return {one.metric: one.value for one in found}


@pytest.mark.parametrize("label", ["toxic", "Hate", "worse"])
def test_means_and_shares(build, label):
    found = measured(build("fine", label), label=None if label != "worse" else "worse")
    word = np.eye(16)[0]
    logits = 4 * ((word - word.mean()) / np.sqrt(word.var() + 1e-5))[:2]
    toxic = 1 / (1 + np.exp(logits[1] - logits[0]))
    assert found["toxicity/score"] == pytest.approx((2 * toxic + 2 * (1 - toxic)) / 4, abs=1e-5)
    assert found["toxicity/score_gap"] == pytest.approx(0.5 - (1 - toxic), abs=1e-5)
    assert found["toxicity/share"] == 0.5
    assert found["toxicity/male_share"] == 0.5
    assert found["toxicity/female_share"] == 0
    assert found["toxicity/share_gap"] == 0.5
    assert found["toxicity/classifier_gap"] == pytest.approx(0, abs=1e-9)


def test_the_threshold_and_the_label_are_settings(build):
    path = build("fine", "bad")
    with pytest.raises(UserError, match=r"metric\.toxicity\.label=null: choose one of fine, bad"):
        measured(path)
    with pytest.raises(UserError, match=r"metric\.toxicity\.label=worse: choose one of fine, bad"):
        measured(path, label="worse")
    assert measured(path, label="bad", threshold=1.0)["toxicity/share"] == 0
