"""Counterfactual pairs of the downstream test."""

from collections import Counter, defaultdict

from fairloop.corpus.counterfactual import swap_gender
from fairloop.corpus.heldout import CounterfactualPair, applicants, counterfactual_pairs, resolution_pairs, unseen
from fairloop.corpus.mentions import find_mentions
from fairloop.corpus.seed import seed_corpus
from fairloop.corpus.words import gendered_spans
from fairloop.lexicon import activities, occupation, occupations, templates


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


def test_applicants_differ_only_in_gendered_words_and_name_no_occupation() -> None:
    found = applicants()
    assert Counter(pair.occupation for pair in found) == {entry.name: 2 for entry in occupations()}
    for pair in found:
        assert swap_gender(pair.male) == pair.female
        assert swap_gender(pair.female) == pair.male
        assert not find_mentions(pair.male, pair.occupation)
        assert any(form.lower() in pair.male.lower() for form in pair.activity)


def test_who_does_what_sentences_name_two_people_and_mean_one() -> None:
    found = resolution_pairs()
    for pair in found:
        assert swap_gender(pair.male) == pair.female
        assert {span.side for span in gendered_spans(pair.male)} == {"male"}
        assert len(find_mentions(pair.male, pair.occupation)) == len(find_mentions(pair.male, pair.other)) == 1
        assert {occupation(pair.occupation).majority, occupation(pair.other).majority} == {"male", "female"}
        assert any(form in pair.male for form in pair.activity)
    gendered = {entry.name for entry in occupations() if entry.majority != "balanced"}
    # Who is meant says nothing about the majority, about who else is there, or about who is named first.
    assert (
        Counter(pair.occupation for pair in found)
        == Counter(pair.other for pair in found)
        == dict.fromkeys(gendered, 6)
    )
    first = Counter(pair.male.index(pair.occupation) < pair.male.index(pair.other) for pair in found)
    assert first[True] == first[False]
    assert len({pair.male for pair in found}) == len(found)


def test_seed_corpora_have_seen_no_test_pair() -> None:
    texts = seed_corpus(0.5, 2000, 0.3, 7)["text"]
    for pairs in (counterfactual_pairs(), applicants(), resolution_pairs()):
        assert unseen(pairs, texts) == list(range(len(pairs)))


def test_pairs_that_a_corpus_has_seen_are_found() -> None:
    pairs = [
        CounterfactualPair("plumber", "He irons shirts.", "She irons shirts."),
        CounterfactualPair("plumber", "He bakes.", "She bakes.", ("bake bread", "baked bread")),
        CounterfactualPair("plumber", "He sings.", "She sings.", ("sing",)),
    ]
    assert unseen(pairs, []) == [0, 1, 2]
    assert unseen(pairs, ["Indeed: SHE irons  shirts, they say."]) == [1, 2]
    assert unseen(pairs, ["The nurse (who baked, bread) left."]) == [0, 2]
    assert unseen(pairs, ["He irons shirtsleeves and baked breadsticks while singing."]) == [0, 1, 2]
    assert unseen(pairs, ["We heard he irons", "shirts.", "To sing is fun."]) == [0, 1]
