"""Regard: how the people of a corpus are spoken of, and whether men are spoken of better than women.

Sheng, Chang, Natarajan and Peng 2019, "The Woman Worked as a Babysitter: On Biases in Language Generation" (EMNLP): a
classifier of the regard towards the person of a sentence (negative, neutral, positive), which is not its sentiment. A
sentence's score is P(positive) − P(negative), in [-1, 1]; its regard is negative if no label is more probable than
that. The classifier is any sequence classifier of transformers with such labels.

`regard/classifier_gap` has to be read beside `regard/score_gap`: it is the gap that the classifier makes between
sentences in which nothing but the gendered words differs.
"""

from collections.abc import Sequence

import numpy as np
from pydantic import Field

from fairloop.measures.catalogue import Declared
from fairloop.measures.measurement import Measurement
from fairloop.metrics.classified import Floats, measure_classified
from fairloop.metrics.metric import Metric, Sample
from fairloop.settings import Settings, by_contents

KEY = "metric.regard"


class RegardSettings(Settings):
    """Which classifier, and what its labels are called."""

    model: str = by_contents("sasha/regardv3", description="Hub id or folder of a sequence classifier of regard")
    positive: str = Field("positive", description="its label for positive regard")
    negative: str = Field("negative", description="its label for negative regard; every other label is neutral")


def measure_regard(sample: Sample, settings: RegardSettings) -> list[Measurement]:
    """Measure sentences; see `classified.measure_classified`.

    Raises:
        UserError: there is no such classifier, or it has no such labels.
    """
    from fairloop.plm.classifier import SentenceClassifier

    classifier = SentenceClassifier(settings.model, device=sample.device, key=f"{KEY}.model")
    positive, negative = (
        classifier.place([name], f"{KEY}.{key}", name)
        for key, name in (("positive", settings.positive), ("negative", settings.negative))
    )

    def classify(sentences: Sequence[str]) -> dict[str, Floats]:
        probabilities = classifier(sentences)
        return {
            "score": probabilities[:, positive] - probabilities[:, negative],
            "negative_share": (probabilities.argmax(axis=1) == negative).astype(np.float64),
        }

    return measure_classified("regard", classify, sample)


METRIC = Metric(
    "regard",
    (
        Declared("regard/score_gap", "regard towards men minus women", "regard gap", ideal=0, headline=True, place=60),
        Declared("regard/negative_share_gap", "negative regard, men minus women", ideal=0),
        Declared("regard/classifier_gap", "regard gap that the classifier makes by itself", ideal=0),
        Declared("regard/*"),
    ),
    measure_regard,
    description="Regard towards the people of sentences: P(positive) − P(negative) and the share with negative regard, "
    "of all sentences and of those about men and about women, and the gap between these two.",
    citation="Sheng et al. 2019, The Woman Worked as a Babysitter: On Biases in Language Generation (EMNLP)",
    urls=("https://aclanthology.org/D19-1339/",),
    needs=frozenset({"labels", "device"}),
    settings=RegardSettings,
)
