"""Which names and nouns of a sentence are the person in the occupation: appositions, predicates, modifiers."""

from collections.abc import Iterable, Sequence
from functools import cache

from fairloop.corpus.sentence import PEOPLE, Token
from fairloop.lexicon.word_classes import word_class

_SPEAKER = ("i", "my", "me")
_PLACES = ("at", "in", "on", "of", "from", "with", "for", "near", "by")


class Identity:
    """Token numbers that denote the person in the occupation (`linked`) or surely somebody else (`others`)."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self.tokens = tokens
        self.linked: set[int] = set()
        self.others: set[int] = set()
        for index, token in enumerate(tokens):
            if token.tag == "target":
                self._link_modifier(index)
                self._link_apposition_after(index)
                self._link_apposition_before(index)
                self._link_predicate(index)
                self._link_what_it_is(index)
                self._link_coordination(index)
                self._note_owner(index)

    def _at(self, index: int) -> Token | None:
        return self.tokens[index] if 0 <= index < len(self.tokens) else None

    def _is(self, index: int, *lowers: str) -> bool:
        token = self._at(index)
        return token is not None and token.lower in lowers

    def _tag(self, index: int, *tags: str) -> bool:
        token = self._at(index)
        return token is not None and token.tag in tags

    def _is_possessor(self, index: int) -> bool:
        """Return whether the token is followed by 's (or a bare apostrophe)."""
        return self._is(index + 1, "'", "’")

    def _ends(self, index: int) -> bool:
        """Return whether a noun phrase can end before the token: a mark, a preposition, "who", or nothing."""
        token = self._at(index)
        return (
            token is None
            or token.tag in ("mark", "quote")
            or token.lower in word_class("preposition")
            or token.lower in ("who", "whose", "and", "that", "which")
        )

    def start_of_phrase(self, index: int) -> int:
        """Return where the noun phrase that ends with token `index` begins: its determiner, else its modifiers."""
        start = index
        while index - start < 4:
            before = self._at(start - 1)
            if before is not None and before.tag == "capital" and self._is(start - 2, *word_class("determiner")):
                return start - 2  # "a Chinese author"
            if before is None or before.tag not in ("word", "possessive", "noun"):
                break
            if before.lower in word_class("determiner") or before.tag == "possessive":
                return start - 1
            if before.tag == "noun" or before.lower in _not_modifiers():
                break
            start -= 1
        return index

    def _start_of_list(self, index: int) -> int:
        """Return where a noun phrase with a list of adjectives begins: "a brilliant, dedicated machinist"."""
        start = self.start_of_phrase(index)
        before = start
        while start - before < 7 and (self._tag(before - 1, "word") or self._is(before - 1, ",")):
            before -= 1
            if self._is(before, "a", "an"):
                return before
            if self.tokens[before].lower in _not_modifiers() - {"and"}:
                break
        return start

    def _behind_modifiers(self, index: int) -> int:
        """Return the number behind what says more about a noun at `index`: "at work", "on the third floor"."""
        after = index + 1
        while self._is(after, *_PLACES) and after - index < 8:
            after += 1
            while self._tag(after, "word", "capital") and not self._is(after, *_PLACES) and after - index < 8:
                if self.tokens[after].lower in word_class("be") | word_class("subordinator") - {"and"}:
                    break
                after += 1
        return after

    def _link_modifier(self, target: int) -> None:
        """ "male nurse", "woman plumber", "male and female pilots"."""
        if not self._tag(target - 1, "noun"):
            return
        self.linked.add(target - 1)
        if self._is(target - 2, "and", "or") and self._tag(target - 3, "noun"):
            self.linked.add(target - 3)

    def _link_apposition_after(self, target: int) -> None:
        """ "the nurse, David,", "Detective Novak", "the teacher (John Smith)", "the welder at work, a mother,"."""
        if self._tag(target + 1, "name", "capital") and not self._is_possessor(target + 1):
            self.linked.add(target + 1)
        for after in {target + 1, self._behind_modifiers(target)}:
            closed = self._is(after + 2, ",", ".", "!", ")", ";") or self._tag(after + 2, "word")
            if self._is(after, ",", "(") and self._tag(after + 1, "name", "capital") and closed:
                known = self.tokens[after + 1].tag == "name" or self._is(after + 2, ",", ".", "!", ")")
                if known and not self._is(after + 2, *word_class("be"), "and", "or"):
                    self.linked.add(after + 1)
            if self._is(after, ","):
                self._link_noun_phrase(after + 1, target)
        self._link_named(target)

    def _link_noun_phrase(self, start: int, target: int) -> None:
        """ ", a mother of two", ", a master craftsman, a man of few words": gendered nouns in apposition."""
        while True:
            noun = start
            while self._tag(noun, "word", "person") and noun - start < 5:
                noun += 1
            bare = noun == start and self.tokens[target].plural
            if self._is(start, "a", "an", "the", "both") or bare:
                if self._tag(noun, "noun") and not self._is_possessor(noun):
                    self._link_with_conjuncts(noun)
                    return
                if self._is(noun, ",") and self._tag(noun - 1, "person"):
                    self.linked.add(noun - 1)  # ", a doctor,": the same person, whoever "her" is
                if self._is(noun, ",") and self._is(noun + 1, "a", "an"):
                    start = noun + 1
                    continue
            return

    def _link_named(self, target: int) -> None:
        """ "a carpenter named Tom", "is also a welder named Emma", "..., a man named Eli", within the clause."""
        described = True  # whether the last noun phrase is the target, or what the target is said to be
        for index in range(target + 1, len(self.tokens)):
            token = self.tokens[index]
            if token.lower in ("named", "called") and self._tag(index + 1, "name", "capital"):
                if described:
                    self.linked.add(index + 1)
                    if self._tag(index - 1, "noun"):
                        self.linked.add(index - 1)
                return
            copula = token.lower in ("is", "was") and self._is(index - 1, "name")
            if copula and self._tag(index + 1, "name", "capital"):  # "whose name is Tom"
                self.linked.add(index + 1)
                return
            joins = token.lower == "and" and self._tag(index + 1, "word")  # "a brilliant and talented leader named"
            if token.lower in (".", ";", ":", "and", "but", "while") and not joins:
                return
            if token.tag in ("subject", "quote", "target"):
                return
            if token.tag in ("name", "noun", "person"):
                described = token.tag != "name" and any(
                    self._is(start - 1, *word_class("be"), *word_class("before_predicate"), ",")
                    and self._is(start, "a", "an", "the", "one")
                    for start in (self._start_of_list(index), self.start_of_phrase(index))
                )

    def _link_apposition_before(self, target: int) -> None:
        """ "Maria, a plumber, ...", "our uncle, a farmer,", "Ben, their teacher.", "Maria the plumber"."""
        start = self._start_of_list(target)
        has_determiner = start < target
        if has_determiner and self._is(start - 1, ",") and self._tag(start - 2, "name", "capital", "noun"):
            opening = start - 2 == 0 and self.tokens[0].tag == "name" and self._is(start, "a", "an")
            participle = self._at(target + 1)
            described = participle is not None and participle.tag == "word" and participle.lower.endswith(("ing", "ed"))
            if self._ends(target + 1) or opening or described:
                self.linked.add(start - 2)
        elif has_determiner and self._is(start, "the") and self._tag(start - 1, "name") and start - 1 == 0:
            self.linked.add(start - 1)

    def _link_coordination(self, target: int) -> None:
        """ "a wife and nurse", "a nurse and mother of two": one determiner, one person."""
        if self.tokens[target].plural:
            return
        if self._is(target - 1, "and") and self._tag(target - 2, "noun") and not self.tokens[target - 2].plural:
            self.linked.add(target - 2)
        if self._is(target + 1, "and") and self._tag(target + 2, "noun") and not self.tokens[target + 2].plural:
            self.linked.add(target + 2)

    def _note_owner(self, target: int) -> None:
        """ "her lawyer", "Maria's lawyer": the owner is somebody else."""
        start = self.start_of_phrase(target)
        again = any(token.tag == "target" for token in self.tokens[:start])  # "the roofer uses his roofer"
        if self._tag(start, "possessive") and start < target and not again:
            self.others.add(start)

    def _link_predicate(self, target: int) -> None:
        """ "X is a nurse", "X works as a nurse", "As a nurse, X ...": link X, or note that X is not one."""
        found = self._predicator(target)
        if found is None:
            return
        predicator, negated = found
        subjects = self._subjects(predicator)
        if negated:
            self.others.update(subjects)
        elif subjects:
            self.linked.update(subjects)
        elif self.tokens[predicator].lower in ("as", "being"):
            self.linked.update(self._subject_after(target))

    def _predicator(self, target: int) -> tuple[int, bool] | None:
        """Return the "is", "became" or "as" that makes the occupation a predicate, and whether it is negated."""
        between: list[str] = []
        index = self._start_of_list(target) - 1
        if self._is(index, "of") and self._is(index - 1, "role", "position", "capacity", "job", "uniform"):
            return index, False
        while index >= 0 and target - index < 12:
            token = self.tokens[index]
            if token.lower in word_class("be") | word_class("predicated") and not (
                token.lower == "s" and not self._is_contraction(index)
            ):
                return index, self._negated(index, between)
            if token.tag == "reflexive":  # "she calls herself a hairdresser"
                return index, self._negated(index, between)
            if token.lower == "to" and self._is(index - 1, "promoted"):
                return index, False
            skippable = (
                token.lower in word_class("before_predicate")
                or (token.tag == "mark" and token.lower == ",")
                or between[-1:] == ["not"]
            )
            joined = bool({"not", "but", "and"} & set(between))
            if not (skippable or (joined and token.tag in ("word", "person", "noun", "mark"))):
                return None
            between.append(token.lower)
            index -= 1
        return None

    def _is_contraction(self, index: int) -> bool:
        """Return whether "'s" stands for "is": after a pronoun, or a name before an article."""
        return self._tag(index - 2, "subject")

    def _negated(self, predicator: int, between: Iterable[str]) -> bool:
        words = list(between)  # from the occupation back to the predicator
        if "but" in words and "not" in words:
            return words.index("not") < words.index("but")
        near = [token.lower for token in self.tokens[max(0, predicator - 3) : predicator + 3]]
        negative = "not" in words or bool(word_class("negation") & set(near[:3] + near[4:5]))
        if self._is(predicator + 1, "t") or self._is(predicator + 2, "t"):
            negative = True
        return negative and not word_class("unnegated") & set(near)

    def _subjects(self, predicator: int) -> set[int]:
        """Return the people that the predicate is said of: the nearest before it, with its conjuncts."""
        quote = self.tokens[predicator].quote
        for index in range(predicator - 1, -1, -1):
            token = self.tokens[index]
            if token.quote != quote:
                continue
            if token.tag == "possessive" or (token.tag in ("name", "noun", "capital") and self._is_possessor(index)):
                # "his job as a nurse", "Maria's dream was to become a nurse": the owner of the job
                held = self.tokens[predicator].lower == "as" or self._aspires(index)
                if held and not self._people_between(index, predicator):
                    return {index}
                continue
            if token.tag in ("name", "noun", "capital", "subject", "object", "person"):
                if token.tag == "capital" and self._is(index - 1, *word_class("preposition")):
                    continue
                if token.tag != "object" and self._is_oblique(index) and self._earlier_person(index):
                    continue
                if token.lower in _SPEAKER:
                    return {index} | self._speaker(predicator)
                if self._is(index - 1, "named", "called") and self._tag(index - 2, "noun"):
                    return {index, index - 2}  # "a man named Weiwei was an author"
                return {index} | self._conjuncts_before(index)
            if token.tag == "target":
                return set()
        return set()

    def _aspires(self, index: int) -> bool:
        return any(token.lower in word_class("aspiration") for token in self.tokens[index + 1 : index + 5])

    def _people_between(self, start: int, end: int) -> bool:
        return any(token.tag in PEOPLE or token.tag in ("subject", "object") for token in self.tokens[start + 1 : end])

    def _is_oblique(self, index: int) -> bool:
        return self._is(
            self.start_of_phrase(index) - 1,
            *(word_class("preposition") - {"that", "after", "before", "until", "since", "than"}),
        )

    def _earlier_person(self, index: int) -> bool:
        return any(token.tag in ("name", "noun", "subject", "person") for token in self.tokens[:index])

    def _conjuncts_before(self, index: int) -> set[int]:
        """ "Tom and his brother": the others that "and" joins to the person."""
        start = self.start_of_phrase(index)
        if self._is(start - 1, "and", "or") and self._tag(start - 2, "name", "noun", "subject", "capital"):
            return {start - 2}
        return set()

    def _link_with_conjuncts(self, index: int) -> None:
        self.linked.add(index)
        after = index + 1
        if self._is(after, "and", "or"):
            after += 2 if self._is(after + 1, "a", "an", "the") else 1
            if self._tag(after, "noun"):
                self.linked.add(after)

    def _speaker(self, index: int) -> set[int]:
        """Return who says the quoted speech around the token: the first person outside quotes after it."""
        if self.tokens[index].quote == 0:
            return set()
        order = [*range(index, len(self.tokens)), *range(index)]
        for number in order:
            if self.tokens[number].quote == 0 and self.tokens[number].tag in ("subject", "name", "noun"):
                return {number}
        return set()

    def _subject_after(self, target: int) -> set[int]:
        """ "As a farmer, he gets up early.": the subject after the comma."""
        for index in range(target + 1, len(self.tokens)):
            token = self.tokens[index]
            if token.lower in _SPEAKER and token.quote:
                return self._speaker(index)
            if token.tag in ("subject", "name", "noun", "person", "target"):
                return {index} if token.tag in ("subject", "name", "noun") and not self._is_possessor(index) else set()
        return set()

    def _link_what_it_is(self, target: int) -> None:
        """ "The plumber is a woman", "the welder at work is Emma", "most nurses are women"; not negated ones."""
        if self._is(target - 1, "not") or self._is(target - 2, "not"):
            return
        negative = False
        predicator = None
        for index in range(target + 1, min(target + 18, len(self.tokens))):
            token = self.tokens[index]
            if token.lower in word_class("be") and not self._is_genitive(index):
                predicator = index
            negative = negative or token.lower in ("not", "never", "t", "neither")
            if token.lower in word_class("unnegated") or (token.lower == "but" and predicator is not None):
                negative = False
            said = (
                token.tag in ("noun", "person", "name")
                and predicator is not None
                and self._only_predicate(predicator, self._start_of_list(index) if token.tag != "name" else index)
                and not self._is_possessor(index)
                and not self._names_another(index, token)
            )
            if said and negative and token.tag == "noun":
                self.others.add(index)
                continue
            if said and not negative and token.tag == "person":
                self.linked.add(index)
            elif said and not negative:
                self._link_with_conjuncts(index)
                return
            if token.tag == "noun" or (said and token.tag == "person"):
                continue
            if token.tag in PEOPLE or token.tag == "subject" or token.lower in (";", "."):
                return

    def _is_genitive(self, index: int) -> bool:
        """Return whether an "s" is that of a genitive: not before an article ("the dentist's a woman")."""
        return (
            self._is(index, "s") and self._is(index - 1, "'", "’") and not self._is(index + 1, "a", "an", "the", "not")
        )

    def _names_another(self, index: int, token: Token) -> bool:
        """Return whether a name behind "is" is not the predicate: "is Emma Street's", "is Tom and Mary"."""
        return token.tag == "name" and self._is(index + 1, "and", "or", "who", "whose")

    def _only_predicate(self, predicator: int, start: int) -> bool:
        """Return whether only "not", "all", "a man but" and the like stand between the verb and the phrase."""
        return all(
            token.lower in word_class("before_predicate")
            or token.tag == "noun"
            or token.lower in word_class("determiner")
            or (token.lower == "known" and self._is(start - 1, "as"))
            or (token.lower == "as" and self._is(start - 2, "known"))
            for token in self.tokens[predicator + 1 : start]
        )


@cache
def _not_modifiers() -> frozenset[str]:
    names = ("preposition", "subordinator", "be", "predicated", "negation")
    return frozenset().union(*(word_class(name) for name in names))
