"""The tables of the lexicon are complete, disjoint and consistent."""

import re

import pytest

from fairloop.corpus.mentions import find_mentions
from fairloop.corpus.words import gendered_spans
from fairloop.errors import UserError
from fairloop.lexicon import activities, fillers, gendered_pairs, names, occupation, occupations, templates, word_table
from fairloop.lexicon.occupations import Occupation, with_article
from fairloop.lexicon.word_classes import word_class


def test_occupations_cover_the_three_kinds() -> None:
    kinds = [entry.majority for entry in occupations()]
    assert len(kinds) >= 60
    assert min(kinds.count("male"), kinds.count("female")) >= 25
    assert kinds.count("balanced") >= 15
    assert len({entry.name for entry in occupations()}) == len(occupations())


@pytest.mark.parametrize(
    ("share", "majority"), [(0.0, "male"), (0.399, "male"), (0.4, "balanced"), (0.6, "balanced"), (0.601, "female")]
)
def test_majority_follows_the_design(share: float, majority: str) -> None:
    assert Occupation("x", "xs", share, "X", 2022).majority == majority


@pytest.mark.parametrize(
    ("name", "share"), [("nurse", 0.879), ("carpenter", 0.035), ("janitor", 0.402), ("pharmacist", 0.596)]
)
def test_shares_are_those_of_cps_table_11(name: str, share: float) -> None:
    assert occupation(name).female_share == pytest.approx(share)
    assert occupation(name).year == 2022


def test_an_unknown_occupation_is_a_users_mistake() -> None:
    with pytest.raises(UserError, match="wizard"):
        occupation("wizard")
    with pytest.raises(UserError):
        activities("wizard")


def test_articles() -> None:
    assert with_article("architect") == "an architect"
    assert with_article("nurse") == "a nurse"


def test_names_are_paired_one_to_one_and_are_no_words() -> None:
    male, female = [pair.male for pair in names()], [pair.female for pair in names()]
    assert len(names()) >= 80
    assert len({*male, *female}) == 2 * len(names())
    english = {"may", "will", "mark", "grace", "hope", "rose", "joy", "faith", "frank", "bill", "jack", "art", "june"}
    assert not english & {name.lower() for name in male + female}
    assert not {name.lower() for name in male + female} & word_table().side.keys()
    assert not {name.lower() for name in male + female} & {text.lower() for text in fillers()["surname"]}


def test_two_way_pairs_are_one_to_one_but_for_pronouns() -> None:
    pairs = [pair for pair in gendered_pairs() if not pair.one_way and pair.kind != "pronoun"]
    assert len({pair.male for pair in pairs}) == len(pairs)
    assert len({pair.female for pair in pairs}) == len(pairs)
    assert {pair.kind for pair in gendered_pairs()} == {"pronoun", "kinship", "title", "noun", "occupation"}
    for pair in gendered_pairs():
        assert word_table().side[pair.female] == "female"
        if pair.occupation:
            occupation(pair.occupation)


@pytest.mark.parametrize("name", [entry.name for entry in occupations()])
def test_activities_are_natural_material(name: str) -> None:
    found = activities(name)
    assert len(found.seed) >= 4
    assert len(found.heldout) >= 2
    assert not {entry.base for entry in found.seed} & {entry.base for entry in found.heldout}
    for entry in (*found.seed, *found.heldout):
        for form in (entry.base, entry.present, entry.past, entry.gerund):
            assert not gendered_spans(form)
            assert not find_mentions(form, name)
            assert not set(name.split()) & set(re.findall(r"\w+", form))
        assert entry.gerund.split()[0].endswith("ing")
        assert entry.present.split()[0].endswith("s")
        assert entry.base.split()[1:] == entry.past.split()[1:] == entry.present.split()[1:]


def test_templates_are_many_and_name_the_occupation() -> None:
    seed = [*templates("gendered"), *templates("neutral")]
    assert len(seed) >= 40
    assert len({template.id for template in seed}) == len({template.text for template in seed}) == len(seed)
    for template in seed:
        assert {"job", "jobs", "a job", "A job"} & set(template.slots), template
    for template in templates("heldout"):
        assert not {"job", "jobs", "a job", "A job"} & set(template.slots)
    assert len(templates("heldout")) >= 3


def test_word_classes() -> None:
    assert "the" in word_class("determiner")
    with pytest.raises(KeyError):
        word_class("nothing of the kind")
