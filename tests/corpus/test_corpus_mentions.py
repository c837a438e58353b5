"""Finding the occupation in a sentence, and masking it."""

import pytest

from fairloop.corpus.mentions import find_mentions, mask_occupation
from fairloop.errors import UserError
from fairloop.lexicon import occupations


@pytest.mark.parametrize(
    ("text", "occupation", "masked"),
    [
        ("An architect drew plans.", "architect", "A person drew plans."),
        ("Architects met an  architect's friend.", "architect", "People met a  person's friend."),
        ("THE NURSE LEFT.", "nurse", "THE PERSON LEFT."),
        ("Two police-officers and a policewoman", "police officer", "Two people and a woman"),
        ("The firemen ate.", "firefighter", "The men ate."),
        ("The financial advisor spoke.", "financial adviser", "The person spoke."),
        ("The CEO resigned.", "chief executive", "The person resigned."),
        ("The nursery hired nursemaids.", "nurse", "The nursery hired nursemaids."),
        ("She saw an old architect.", "architect", "She saw an old person."),
        ("", "nurse", ""),
    ],
)
def test_masks(text: str, occupation: str, masked: str) -> None:
    assert mask_occupation(text, occupation) == masked
    assert not find_mentions(masked, occupation)


def test_every_name_and_plural_is_found() -> None:
    for entry in occupations():
        text = f"One {entry.name} met two {entry.plural.upper()}."
        found = find_mentions(text, entry.name)
        assert [text[mention.start : mention.end].lower() for mention in found] == [entry.name, entry.plural]
        assert [mention.plural for mention in found] == [False, True]


def test_gendered_forms_carry_their_side() -> None:
    (mention,) = find_mentions("The stewardess smiled.", "flight attendant")
    assert (mention.side, mention.plural) == ("female", False)


def test_an_unknown_occupation_is_a_users_mistake() -> None:
    with pytest.raises(UserError):
        mask_occupation("x", "wizard")
