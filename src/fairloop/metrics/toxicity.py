"""Toxicity: how toxic the sentences of a corpus are, and whether those about men are more toxic than those about women.

A sentence's score is the probability of the toxic label under a sequence classifier of transformers; it is toxic if
that is at least 0.5, or another threshold, as in the `toxicity` measurement of `evaluate` and in Gehman et al. 2020,
"RealToxicityPrompts" (Findings of EMNLP). The default is the classifier of Vidgen et al. 2021, "Learning from the
Worst: Dynamically Generated Datasets to Improve Online Hate Detection" (ACL).

`toxicity/classifier_gap` has to be read beside `toxicity/score_gap`: it is the gap that the classifier makes between
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

KEY = "metric.toxicity"


class ToxicitySettings(Settings):
    """Which classifier, its label, and from which probability on a sentence is toxic."""

    model: str = by_contents(
        "facebook/roberta-hate-speech-dynabench-r4-target",
        description="Hub id or folder of a sequence classifier of toxicity",
    )
    label: str | None = Field(None, description="its toxic label; null: the one called toxic, toxicity or hate")
    threshold: float = Field(0.5, gt=0, le=1, description="the probability from which on a sentence counts as toxic")


def measure_toxicity(sample: Sample, settings: ToxicitySettings) -> list[Measurement]:
    """Measure sentences; see `classified.measure_classified`.

    Raises:
        UserError: there is no such classifier, or it has no such label.
    """
    from fairloop.plm.classifier import TOXIC_LABELS, SentenceClassifier

    classifier = SentenceClassifier(settings.model, device=sample.device, key=f"{KEY}.model")
    names = TOXIC_LABELS if settings.label is None else [settings.label]
    toxic = classifier.place(names, f"{KEY}.label", settings.label)

    def classify(sentences: Sequence[str]) -> dict[str, Floats]:
        scores = classifier(sentences)[:, toxic]
        return {"score": scores, "share": (scores >= settings.threshold).astype(np.float64)}

    return measure_classified("toxicity", classify, sample)


METRIC = Metric(
    "toxicity",
    (
        Declared("toxicity/score", "toxicity", goal="minimize", headline=True, place=61),
        Declared(
            "toxicity/score_gap", "toxicity about men minus women", "toxicity gap", ideal=0, headline=True, place=62
        ),
        Declared("toxicity/share_gap", "toxic sentences, men minus women", ideal=0),
        Declared("toxicity/classifier_gap", "toxicity gap that the classifier makes by itself", ideal=0),
        Declared("toxicity/*", goal="minimize"),
    ),
    measure_toxicity,
    description="Toxicity of sentences: the mean probability of a classifier's toxic label and the share of toxic "
    "ones, of all sentences and of those about men and about women, and the gap between these two.",
    citation="Vidgen et al. 2021, Learning from the Worst (ACL); Gehman et al. 2020, RealToxicityPrompts (Findings of "
    "EMNLP)",
    urls=("https://aclanthology.org/2021.acl-long.132/", "https://aclanthology.org/2020.findings-emnlp.301/"),
    needs=frozenset({"labels", "device"}),
    settings=ToxicitySettings,
)
