"""What Fair-Gender's pairs are about: target words, attribute words and templates, and which of them are held out."""

from dataclasses import dataclass
from functools import cache
from typing import Literal

from fairloop.lexicon.data_files import read_table

TargetKind = Literal["occupation", "trait", "activity"]
Split = Literal["pairs", "heldout"]
NeutralSplit = Literal["heldin", "heldout"]


@dataclass(frozen=True)
class Target:
    """A target word or phrase: an occupation, a trait (an adjective) or an activity (a gerund)."""

    name: str
    kind: TargetKind


@dataclass(frozen=True)
class Attribute:
    """A pair of gendered words; `phrase` puts either into a sentence as its subject: "my {}".

    Without a phrase the words cannot be a subject ("himself"): they refer back to whoever is the subject.
    """

    male: str
    female: str
    phrase: str

    @property
    def name(self) -> str:
        """Return "father/mother"."""
        return f"{self.male}/{self.female}"

    def subject(self, side: Literal["male", "female"]) -> str:
        """Return the phrase with that side's word: "my father"."""
        return self.phrase.replace("{}", self.male if side == "male" else self.female)


@dataclass(frozen=True)
class PairTemplate:
    """A sentence about a man with slots; `swap_gender` makes its counterpart.

    Slots: `{subject}`, `{Subject}`, `{target}`, `{a target}`. `{he}`, `{his}`, `{him}`, `{himself}` stand for
    themselves and show which words are gendered. Without a subject the target comes first, and one of these four
    refers back to it.
    """

    id: str
    kind: TargetKind
    text: str

    @property
    def has_subject(self) -> bool:
        """Whether the sentence names its subject with the attribute word."""
        return "{subject}" in self.text or "{Subject}" in self.text


@dataclass(frozen=True)
class HeldoutTemplate:
    """A sentence with the slots `{subject}` or `{Subject}` and `{word}`, the gendered word that a model predicts."""

    id: str
    word: Literal["pronoun", "noun"]
    text: str


@dataclass(frozen=True)
class PairExample:
    """An example sentence for prompts, about a man; `word` and `target` are words of it.

    `word` is the gendered subject ("my father"), or, if there is a `person`, the pronoun that refers back to that
    person, who is named by the target ("the nurse", "the shy guest").
    """

    word: str
    target: str
    kind: TargetKind
    person: str
    text: str


@cache
def targets(split: Split) -> tuple[Target, ...]:
    """Return the targets that pairs are made of, or those held out, in the order of the file."""
    return tuple(Target(row["target"], row["kind"]) for row in read_table("targets") if row["split"] == split)  # type: ignore[arg-type]


@cache
def attributes(split: Split) -> tuple[Attribute, ...]:
    """Return the attribute words that pairs are built on, or those held out."""
    rows = read_table("attributes")
    return tuple(Attribute(row["male"], row["female"], row["phrase"]) for row in rows if row["split"] == split)


@cache
def pair_templates(kind: TargetKind) -> tuple[PairTemplate, ...]:
    """Return the templates of pairs about targets of that kind."""
    rows = read_table("pair_templates")
    return tuple(PairTemplate(row["id"], row["kind"], row["text"]) for row in rows if row["kind"] == kind)  # type: ignore[arg-type]


@cache
def heldout_templates(word: Literal["pronoun", "noun"]) -> tuple[HeldoutTemplate, ...]:
    """Return the benchmark's templates with a pronoun, or those with a noun."""
    rows = read_table("heldout_templates")
    return tuple(HeldoutTemplate(row["id"], row["word"], row["text"]) for row in rows if row["word"] == word)  # type: ignore[arg-type]


@cache
def pair_examples(kind: TargetKind, *, refers_back: bool) -> tuple[PairExample, ...]:
    """Return the example sentences about targets of that kind, whose gendered word is the subject or refers back."""
    rows = read_table("pair_examples")
    return tuple(
        PairExample(row["word"], row["target"], row["kind"], row["person"], row["text"])  # type: ignore[arg-type]
        for row in rows
        if row["kind"] == kind and bool(row["person"]) == refers_back
    )


@cache
def neutral_sentences(split: NeutralSplit) -> tuple[str, ...]:
    """Return the sentences without people to train on ("heldin") or to measure on ("heldout")."""
    return tuple(row["text"] for row in read_table("neutral_sentences") if row["split"] == split)


@cache
def toxic_terms() -> tuple[str, ...]:
    """Return the words and phrases of the toxicity list, in lower case."""
    return tuple(row["term"] for row in read_table("toxic_terms"))
