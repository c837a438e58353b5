"""Rule-based bias of a corpus: how often its sentences follow the stereotype of their occupation.

With the gender γ(s) and the stereotype σ(s) of a sentence s (`fairloop.corpus.annotation`), the net stereotype
rate is B(D) = mean of σ over all sentences. It is the product of two things that change for different reasons: the
share of gendered sentences, and the net rate among them. A sentence is gendered if it gives the person one gender;
mixed ones do not.
"""

from collections.abc import Hashable, Sequence
from typing import Any

import evaluate
import numpy as np
from datasets import Features, Value

from fairloop.measures.measurement import Measurement
from fairloop.metrics.module import InMemoryMetric, flat
from fairloop.seeding import derive
from fairloop.statistics.bootstrap import bootstrap_ratio


def measure_rule_based(
    gender: Sequence[str],
    stereotype: Sequence[int],
    *,
    seed: int,
    resamples: int = 2000,
    groups: Sequence[Hashable] | None = None,
) -> list[Measurement]:
    """Measure labelled sentences.

    All four measures are taken from the same resamples, and each is a ratio of two sums, so that
    `rule/net_stereotype_rate` = `rule/gendered_share` × `rule/net_rate_among_gendered` holds in each of them.
    The last two are undefined where nothing is gendered.

    Args:
        gender: [n], "male", "female", "mixed" or "none".
        stereotype: [n], +1 (stereotypical), -1 (anti-stereotypical) or 0.
        seed: decides the resamples.
        resamples: bootstrap resamples of the intervals.
        groups: [n], sentences whose prompts shared examples: they are resampled together.

    Returns:
        `rule/net_stereotype_rate`, `rule/gendered_share`, `rule/net_rate_among_gendered`, `rule/male_share`.
    """
    if len(gender) != len(stereotype):
        raise ValueError(f"{len(gender)} genders for {len(stereotype)} stereotypes")
    sigma = np.asarray(stereotype, dtype=np.float64)
    male = np.array([label == "male" for label in gender], dtype=np.float64)
    gendered = np.array([label in ("male", "female") for label in gender], dtype=np.float64)
    if np.any(sigma[gendered == 0]):
        raise ValueError("a sentence without one gender cannot follow or contradict a stereotype")
    every = np.ones_like(sigma)
    ratios = {
        "rule/net_stereotype_rate": (sigma, every),
        "rule/gendered_share": (gendered, every),
        "rule/net_rate_among_gendered": (sigma, gendered),
        "rule/male_share": (male, gendered),
    }
    shared = derive(seed, "rule_based")
    return [
        Measurement.of(name, bootstrap_ratio(*sums, seed=shared, resamples=resamples, clusters=groups))
        for name, sums in ratios.items()
    ]


class RuleBased(InMemoryMetric):
    """`evaluate` metric of sentences (configuration `default`) or of labels (configuration `labels`)."""

    def _info(self) -> evaluate.MetricInfo:
        sentences = {"predictions": Value("string"), "references": Value("string")}
        labels = {"predictions": Value("string"), "references": Value("int8")}
        return evaluate.MetricInfo(
            description="Net stereotype rate of sentences about people at work, the share of gendered sentences, the "
            "net rate among them and the share of male ones. Gendered words that refer to the person decide the "
            "gender of a sentence; the majority gender of the occupation (U.S. Bureau of Labor Statistics) decides "
            "whether it is stereotypical.",
            citation="arXiv:2511.10689",
            features=Features(labels if self.config_name == "labels" else sentences),
            inputs_description="""
Args:
    predictions: list of sentences; in the configuration `labels` their genders (male, female, mixed, none).
    references: list of occupations; in the configuration `labels` the stereotype labels (+1, 0, -1).
    groups: optional list, sentences with the same group are resampled together.
    seed, resamples: of the bootstrap.
Returns:
    For each measure its value, and `_low`, `_high` (95% interval) and `_n` beside it.
""",
            reference_urls=["https://arxiv.org/abs/2511.10689", "https://www.bls.gov/cps/cpsaat11.htm"],
        )

    def _compute(
        self,
        *,
        predictions: Sequence[Any],
        references: Sequence[Any],
        groups: Sequence[Hashable] | None = None,
        seed: int = 0,
        resamples: int = 2000,
    ) -> dict[str, float | int | None]:
        gender, stereotype = predictions, references
        if self.config_name != "labels":
            from fairloop.corpus.annotation import annotate

            labels = [annotate(text, occupation) for text, occupation in zip(predictions, references, strict=True)]
            gender, stereotype = [label.gender for label in labels], [label.stereotype for label in labels]
        return flat(measure_rule_based(gender, stereotype, seed=seed, resamples=resamples, groups=groups))
