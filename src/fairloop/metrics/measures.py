"""All measures of a corpus at once, as the studies take them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fairloop.corpus.heldout import CounterfactualPair
from fairloop.errors import UserError
from fairloop.measures.measurement import Measurement
from fairloop.metrics.diversity import measure_diversity
from fairloop.metrics.downstream import Fit, measure_downstream
from fairloop.metrics.downstream_hiring import measure_hiring
from fairloop.metrics.downstream_pronoun import measure_pronoun
from fairloop.metrics.embedding import Embed, measure_embedding, remembering
from fairloop.metrics.rule_based import measure_rule_based

if TYPE_CHECKING:
    from datasets import Dataset


def measure_corpus(
    corpus: "Dataset",
    embed: Embed,
    pairs: Sequence[CounterfactualPair],
    *,
    seed: int,
    resamples: int = 2000,
    partitions: int = 10_000,
    fit: Fit | None = None,
) -> list[Measurement]:
    """Measure a labelled corpus with all families, always in the same order.

    The downstream measure has three tasks: occupation prediction, pronoun resolution and hiring.

    Equal arguments give equal measurements, bit for bit on the same machine, if the encoder does so.

    Args:
        corpus: a table with the columns text, occupation, gender, stereotype and group (`fairloop.corpus.schema`).
        embed: the encoder of the embedding-based and the downstream measures; the sentences of the
            corpus are embedded once for all tasks.
        pairs: held-out counterfactual pairs of the occupation task (`fairloop.corpus.heldout.counterfactual_pairs`);
            the other two tasks have their own there.
        seed: decides resamples and sampled partitions.
        resamples: bootstrap resamples of each interval.
        partitions: the largest number of partitions that the permutation test looks at.
        fit: trains the occupation classifier; logistic regression if None.

    Raises:
        UserError: the corpus has no sentences.
    """
    if len(corpus) == 0:
        raise UserError("corpus: it has no sentences, so there is nothing to measure")
    table = corpus.with_format(None)[:]
    texts, occupations, groups = table["text"], table["occupation"], table["group"]
    embed_once = remembering(embed)
    return [
        *measure_rule_based(table["gender"], table["stereotype"], seed=seed, resamples=resamples, groups=groups),
        *measure_embedding(
            texts, occupations, embed, seed=seed, resamples=resamples, partitions=partitions, groups=groups
        ),
        *measure_downstream(
            texts, occupations, embed_once, pairs, seed=seed, resamples=resamples, fit=fit, groups=groups
        ),
        *measure_pronoun(texts, occupations, embed_once, seed=seed, resamples=resamples, groups=groups),
        *measure_hiring(texts, occupations, embed_once, seed=seed, resamples=resamples, groups=groups),
        *measure_diversity(texts, seed=seed, resamples=resamples, groups=groups),
    ]
