"""Whom the pronouns of a sentence refer to: the person in the occupation, or somebody else.

Rules, without a model, from left to right; each pronoun is resolved among the people mentioned before it in the
same stretch of speech (quoted speech is apart from what surrounds it):

- people whose gender is known and is the other one are out;
- a reflexive goes with the subject of its clause, an object pronoun never does (Binding Theory, conditions A, B);
- a possessive goes with the subject of its clause, unless another fitting person stands between;
- a subject pronoun goes with a person of that known gender, else with the person in the occupation;
- before anybody is mentioned, a pronoun in a fronted phrase ("When she arrived, the nurse ...") waits for the
  subject of the main clause; any other one is somebody new.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from fairloop.corpus.identity import Identity
from fairloop.corpus.sentence import PEOPLE, PRONOUNS, Token
from fairloop.lexicon.gendered import Side
from fairloop.lexicon.word_classes import word_class


@dataclass
class _Person:
    """Somebody mentioned: `side` None means of unknown gender; `target`: the person in the occupation."""

    index: int
    side: Side | None
    target: bool
    subject: bool
    plural: bool
    quote: int


class Resolver:
    """Collects the sides of all words that refer to the person in the occupation, in `sides`."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self.tokens = tokens
        self.identity = Identity(tokens)
        self.sides: set[Side] = set()
        self._people: list[_Person] = []
        # The gender of the person is known from names and nouns wherever in the sentence they stand.
        for index, token in enumerate(tokens):
            if token.side and (index in self.identity.linked - self.identity.others or token.tag == "target"):
                self.sides.add(token.side)
        for index, token in enumerate(tokens):
            self._read(index, token)

    def _read(self, index: int, token: Token) -> None:
        if token.tag == "target":
            self._add(index, next(iter(self.sides)) if len(self.sides) == 1 else token.side, target=True)
        elif token.tag in ("name", "noun", "person", "capital"):
            if token.tag == "capital" and index not in self.identity.linked:
                return
            if token.tag == "noun" and self._next_is_target(index):
                return
            self._add(index, token.side or self._known(index), target=index in self.identity.linked)
        elif token.tag in PRONOUNS and token.side is not None:
            self._resolve(index, token)

    def _known(self, index: int) -> Side | None:
        return next(iter(self.sides)) if index in self.identity.linked and len(self.sides) == 1 else None

    def _next_is_target(self, index: int) -> bool:
        return index + 1 < len(self.tokens) and self.tokens[index + 1].tag == "target"

    def _add(self, index: int, side: Side | None, *, target: bool) -> None:
        token = self.tokens[index]
        self._people.append(_Person(index, side, target, self._is_subject(index), token.plural, token.quote))

    def _is_subject(self, index: int) -> bool:
        """Return whether a mention is the subject of its clause, from what stands before its noun phrase."""
        if self.tokens[index].tag == "subject":
            return True
        if index + 1 < len(self.tokens) and self.tokens[index + 1].lower in ("'", "’"):
            return False
        start = self.identity.start_of_phrase(index)
        before = self.tokens[start - 1] if start else None
        if before is None or before.tag in ("mark", "quote"):
            return True
        if before.lower in word_class("subordinator"):
            # "before the nurse left" opens a clause, "after the nurse" at the end does not; both are read as clauses.
            return before.lower not in ("than", "but") and not (
                before.lower in ("and", "or") and self._object_before(start)
            )
        if before.lower in word_class("preposition"):
            return False
        return not any(person.quote == self.tokens[index].quote for person in self._people)

    def _object_before(self, start: int) -> bool:
        """Return whether "and" joins the phrase to an object ("helped the man and the nurse")."""
        return any(person.index == start - 2 and not person.subject for person in self._people)

    def _resolve(self, index: int, token: Token) -> None:
        if index in self.identity.others:
            target = False
        elif index in self.identity.linked:
            target = True
        elif self._second_of_pair(index):
            target = self._people[-1].target
        else:
            target = self._refers_to_target(index, token)
        if target and token.side is not None:
            if not self.sides:
                for person in self._people:
                    if person.target and person.side is None:
                        person.side = token.side
            self.sides.add(token.side)
        self._add(index, token.side, target=target)

    def _second_of_pair(self, index: int) -> bool:
        """Return whether the pronoun is the second of "he or she", "his or her", "she/he"."""
        return (
            index >= 2
            and self.tokens[index - 1].lower in ("or", "/")
            and self.tokens[index - 2].tag in PRONOUNS
            and bool(self._people)
            and self._people[-1].index == index - 2
        )

    def _refers_to_target(self, index: int, token: Token) -> bool:
        before = [person for person in self._people if person.quote == token.quote]
        fitting = [
            person
            for person in before
            if person.side in (None, token.side)
            and (not person.plural or (person.target and not self._other_singular(before)))
        ]
        subject = self._clause_subject(before, index)
        if token.tag == "object" and subject is not None:
            carried = self._is_carried(index)
            if not (carried and subject.target and subject in fitting):
                fitting = [person for person in fitting if person is not subject and not self._same(person, subject)]
            else:
                return True
        if not fitting:
            return self._waits_for_target(index, token, before) or self._is_said_of_target(index, token, before)
        if token.tag == "reflexive" and subject is not None and subject in fitting:
            return subject.target
        if token.tag == "possessive":
            return self._owner(index, fitting, subject).target
        return self._best(index, token, fitting).target

    @staticmethod
    def _other_singular(before: Sequence[_Person]) -> bool:
        return any(not person.plural and not person.target for person in before)

    @staticmethod
    def _same(person: _Person, other: _Person) -> bool:
        return person.target and other.target

    def _clause_subject(self, before: Sequence[_Person], index: int) -> _Person | None:
        """Return the subject of the clause around the token, among the people mentioned before it."""
        subject = next((person for person in reversed(before) if person.subject), None)
        nearest = before[-1] if before else None
        if nearest is None or nearest is subject or self.tokens[nearest.index].tag == "possessive":
            return subject
        after = [token.lower for token in self.tokens[nearest.index + 1 : index]]
        # "a plumber who gave her ...", "asked the plumber to help her": the plumber is the one who acts.
        return nearest if after[:1] in (["who"], ["that"], ["to"]) else subject

    def _is_carried(self, index: int) -> bool:
        """Return whether the object pronoun is that of "took the bag with her", "gathered them around him"."""
        before = self.tokens[index - 1].lower if index else ""
        if before in ("behind", "around", "beside"):
            return True
        return before == "with" and any(token.lower in word_class("carrying") for token in self.tokens[:index])

    def _owner(self, index: int, fitting: Sequence[_Person], subject: _Person | None) -> _Person:
        side = self.tokens[index].side
        if subject is None or subject not in fitting:
            return self._best(index, self.tokens[index], fitting)
        between = [
            person for person in fitting if person.index > subject.index and self.tokens[person.index].tag in PEOPLE
        ]
        if subject.side is not None or self._possesses(index, "own_body"):
            return subject
        unknown = [person for person in between if person.side is None]
        if self._possesses(index, "work_possession"):
            return next((person for person in [subject, *unknown] if person.target), subject)
        known = [person for person in fitting if person.side == side]
        return [subject, *unknown, *known][-1]

    def _possesses(self, index: int, kind: str) -> bool:
        """Return whether what is possessed is in that class of words: with a person at work ("tools"), a body's own."""
        return any(token.lower in word_class(kind) for token in self.tokens[index + 1 : index + 3])

    def _best(self, index: int, token: Token, fitting: Sequence[_Person]) -> _Person:
        known = [person for person in fitting if person.side == token.side]
        if known:
            return next((person for person in known if person.target), known[-1])
        targets = [person for person in fitting if person.target]
        others = [person for person in fitting if not person.target]
        if not targets or not others:
            return fitting[-1]
        target, other = targets[-1], others[-1]
        if other.subject and not target.subject and target.index > other.index:
            # "The patient thanked the nurse because she ..." is about the nurse, "... before she left" is not.
            gap = [word.lower for word in self.tokens[target.index : index]]
            return target if {"because", "since", "for", "who", "after"} & set(gap) else other
        following = self.tokens[index + 1].lower if index + 1 < len(self.tokens) else ""
        if token.tag == "subject" and following in ("should", "must", "needed", "needs") and other.index > target.index:
            return other  # "The doctor told the patient that he should rest."
        return target

    def _waits_for_target(self, index: int, token: Token, before: Sequence[_Person]) -> bool:
        """Return whether the pronoun stands in a fronted phrase and the occupation is the main clause's subject."""
        if any(not person.plural and person.side == token.side for person in before):
            return False
        first = next((number for number, other in enumerate(self.tokens) if other.tag not in ("quote", "mark")), 0)
        opening = self.tokens[first].lower
        fronted = (
            opening in word_class("fronting")
            or opening.endswith(("ing", "ed"))
            or opening in ("known", "proud", "born", "back", "alone", "late", "early", "always")
        )
        if not fronted:
            return False
        for number in range(index + 1, len(self.tokens)):
            following = self.tokens[number]
            if following.tag == "target":
                start = self.identity.start_of_phrase(number)
                owned = self.tokens[start].tag == "possessive" and start < number
                return self.tokens[start - 1].lower == "," and not owned
            if following.tag in PEOPLE and not following.plural and following.side in (None, token.side):
                return False
        return False

    def _is_said_of_target(self, index: int, token: Token, before: Sequence[_Person]) -> bool:
        """Return whether quoted speech is said "of" or "about" the occupation outside the quotes."""
        if token.quote == 0 or any(person.side == token.side for person in before):
            return False
        return any(
            other.tag == "target"
            and other.quote == 0
            and self.tokens[self.identity.start_of_phrase(number) - 1].lower in ("about", "of")
            for number, other in enumerate(self.tokens)
            if number
        )
