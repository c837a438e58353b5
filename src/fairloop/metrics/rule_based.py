"""Rule-based bias of a corpus: how often its sentences follow the stereotype of their occupation.

With the gender γ(s) and the stereotype σ(s) of a sentence s (`fairloop.corpus.annotation`), the net stereotype
rate is B(D) = mean of σ over all sentences. It is the product of two things that change for different reasons: the
share of gendered sentences, and the net rate among them. A sentence is gendered if it gives the person one gender;
mixed ones do not.
"""

from collections.abc import Hashable, Sequence
from dataclasses import replace

import numpy as np

from fairloop.measures.catalogue import Declared
from fairloop.measures.measurement import Measurement
from fairloop.metrics.metric import Metric, of_sample
from fairloop.statistics.intervals import estimate_mean, estimate_share


def measure_rule_based(
    gender: Sequence[str], stereotype: Sequence[int], *, groups: Sequence[Hashable] | None = None
) -> list[Measurement]:
    """Measure labelled sentences.

    The net rate has Student's interval and the shares Wilson's, over groups (`statistics/intervals.py`); the net rate
    among gendered sentences, which lies between -1 and 1, is taken as the share (1 + σ)/2. The last two are undefined
    where nothing is gendered.

    Args:
        gender: [n], "male", "female", "mixed" or "none".
        stereotype: [n], +1 (stereotypical), -1 (anti-stereotypical) or 0.
        groups: [n], sentences whose prompts shared examples: they are one unit.

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
    share = estimate_share((1 + sigma) / 2 * gendered, gendered, clusters=groups)
    among = share.scaled(2, -1)
    if among.defined:
        among = replace(among, value=float(sigma.sum() / gendered.sum()))  # what scaling would leave of it is rounded
    estimates = {
        "rule/net_stereotype_rate": estimate_mean(sigma, clusters=groups, bounds=_RATE),
        "rule/gendered_share": estimate_share(gendered, clusters=groups),
        "rule/net_rate_among_gendered": among,
        "rule/male_share": estimate_share(male, gendered, clusters=groups),
    }
    return [Measurement.of(name, estimate) for name, estimate in estimates.items()]


_RATE, _SHARE = (-1.0, 1.0), (0.0, 1.0)

METRIC = Metric(
    "rule_based",
    (
        Declared(
            "rule/net_stereotype_rate",
            "net stereotype rate",
            "net rate B",
            ideal=0,
            headline=True,
            place=1,
            possible=_RATE,
        ),
        Declared("rule/gendered_share", "gendered share", headline=True, place=4, possible=_SHARE),
        Declared(
            "rule/net_rate_among_gendered",
            "net rate among gendered",
            "net among gendered",
            ideal=0,
            headline=True,
            place=5,
            possible=_RATE,
        ),
        Declared("rule/male_share", "male share among gendered", "male", headline=True, place=6, possible=_SHARE),
    ),
    of_sample(measure_rule_based),
    description="Net stereotype rate of sentences about people at work, the share of gendered sentences, the net rate "
    "among them and the share of male ones. Gendered words that refer to the person decide the gender of a sentence; "
    "the majority gender of the occupation (U.S. Bureau of Labor Statistics) decides whether it is stereotypical.",
    citation="arXiv:2511.10689",
    urls=("https://arxiv.org/abs/2511.10689", "https://www.bls.gov/cps/cpsaat11.htm"),
    needs=frozenset({"labels"}),
)
