"""Counterfactual pairs of the downstream test."""

from collections import Counter, defaultdict

from fairloop.corpus.counterfactual import swap_gender
from fairloop.corpus.heldout import counterfactual_pairs
from fairloop.corpus.mentions import find_mentions
from fairloop.corpus.words import gendered_spans
from fairloop.lexicon import activities, occupations, templates


def test_versions_differ_only_in_gendered_words() -> None:
    for pair in counterfactual_pairs():
        assert pair.male != pair.female
        assert swap_gender(pair.male) == pair.female
        assert swap_gender(pair.female) == pair.male
        assert {span.side for span in gendered_spans(pair.male)} == {"male"}
        assert {span.side for span in gendered_spans(pair.female)} == {"female"}


def test_every_occupation_is_covered_alike_and_unnamed() -> None:
    pairs = counterfactual_pairs()
    counts = Counter(pair.occupation for pair in pairs)
    assert set(counts) == {entry.name for entry in occupations()}
    assert set(counts.values()) == {2 * len(templates("heldout"))}
    assert not [pair for pair in pairs if find_mentions(pair.male, pair.occupation)]
    assert len({pair.male for pair in pairs}) == len(pairs)


def test_no_activity_is_in_the_seed_corpus() -> None:
    seed = {entry.base for job in occupations() for entry in activities(job.name).seed}
    heldout = defaultdict(list)
    for job in occupations():
        heldout[job.name] = [entry.base for entry in activities(job.name).heldout]
    assert not seed & {base for bases in heldout.values() for base in bases}
