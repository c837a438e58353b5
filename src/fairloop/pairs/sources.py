"""Pairs without a language model: filled templates, and given sentences with their counterfactuals."""

from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fairloop.errors import UserError
from fairloop.lexicon import TargetKind, occupations, pair_templates, with_article
from fairloop.lexicon.gendered import Side
from fairloop.pairs.coverage_plan import Plan, plan_pairs
from fairloop.pairs.pair import Pair, PairRow
from fairloop.pairs.sentence_files import GivenSentence
from fairloop.pairs.settings import PairSettings
from fairloop.pairs.verification import attribute_in, counterpart_of, find_phrase, find_targets, held_out_in, sides
from fairloop.seeding import random_generator

if TYPE_CHECKING:
    from fairloop.generation.generator import Generator

Progress = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]
"""Shows the progress of a named part: within the context, called with (done, all)."""


def unshown(_: str) -> AbstractContextManager[Callable[[int, int], None]]:
    """Show no progress."""
    return nullcontext(lambda *_: None)


HELD_OUT = "contains what is held out"
TARGET_TWICE = "names its target twice"


@dataclass(frozen=True)
class Gathered:
    """Pairs, and how they came about.

    Attributes:
        rows: the pairs, by item; nothing is dropped yet.
        rejected: how many sentences or answers made no pair, by reason.
        asked: sentences read or answers of the generator seen, whether or not they made a pair.
        seconds: wall time of the generator.
    """

    rows: list[PairRow]
    rejected: Counter[str] = field(default_factory=Counter)
    asked: int = 0
    seconds: float = 0.0

    @property
    def mended(self) -> int:
        """Pairs whose proposed counterpart was replaced by the swapped sentence."""
        return sum(row.mended for row in self.rows)

    @property
    def yield_(self) -> float:
        """Pairs per sentence or answer (1 where nothing was asked)."""
        return len(self.rows) / self.asked if self.asked else 1.0


def gather_pairs(
    settings: PairSettings,
    *,
    seed: int,
    generator: "Generator | None" = None,
    progress: Progress = unshown,
) -> Gathered:
    """Make pairs as the settings say.

    Args:
        settings: the source and how many.
        seed: of the cell.
        generator: who writes, for the source `llm` only.
        progress: of the two prompts, "sentences" and "counterparts", for the source `llm` only.

    Raises:
        UserError: there are not so many templates, or the file of sentences is wrong.
        Fault: the generator's yield lies under its floor.
    """
    if settings.source == "template":
        return from_templates(settings, seed=seed)
    if settings.source == "swap":
        from fairloop.pairs.sentence_files import read_sentences

        return from_sentences(read_sentences(settings.swap_file or ""), settings)
    if generator is None:
        raise ValueError("source=llm needs a generator")
    from fairloop.pairs.llm import write_pairs

    return write_pairs(generator, settings, seed=seed, progress=progress)


# --- templates ------------------------------------------------------------------------------------------------------


def from_templates(settings: PairSettings, *, seed: int) -> Gathered:
    """Fill templates; every combination of target, attribute and template occurs at most once.

    Raises:
        UserError: more pairs are asked for than there are combinations.
    """
    rows = []
    for plan in plan_pairs(settings.pairs, settings.kinds, seed=seed):
        male = _fill(plan, seed, settings.pairs)
        found = counterpart_of(male)
        if found is None:
            raise ValueError(f"template without a gendered word: {male!r}")
        pair = Pair(plan.item, male, found.text, plan.target.name, plan.target.kind, plan.attribute.name, "template")
        rows.append(PairRow(pair))
    return Gathered(rows, asked=len(rows))


def _fill(plan: Plan, seed: int, wanted: int) -> str:
    word = f"{{{plan.attribute.male}}}"
    fitting = [
        template
        for template in pair_templates(plan.target.kind)
        if (not template.has_subject and word in template.text if plan.refers_back else template.has_subject)
    ]
    if plan.visit >= len(fitting):
        raise UserError.of("debias.pairs", wanted, "the templates make fewer pairs; take fewer or source=llm")
    # Which template comes first is drawn for each combination, the others follow in their order.
    first = random_generator(seed, "pairs", "template", plan.target.name, plan.attribute.name).integers(len(fitting))
    template = fitting[(int(first) + plan.visit) % len(fitting)]
    subject = plan.attribute.subject("male")
    values = {
        "{subject}": subject,
        "{Subject}": subject[:1].upper() + subject[1:],
        "{target}": plan.target.name,
        "{a target}": with_article(plan.target.name),
        **{f"{{{word}}}": word for word in ("he", "his", "him", "himself")},
    }
    text = template.text
    for slot, value in values.items():
        text = text.replace(slot, value)
    return _capital(text)


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


# --- given sentences ------------------------------------------------------------------------------------------------


def from_sentences(sentences: Iterable[GivenSentence], settings: PairSettings) -> Gathered:
    """Pair sentences with their counterfactuals, in their order, until there are `settings.pairs`.

    A sentence makes a pair if it has a gendered word, and a target word: the one given with it, else the first one of
    the lexicon in it. Sentences that make none are counted by reason.
    """
    rows: list[PairRow] = []
    rejected: Counter[str] = Counter()
    asked = 0
    for sentence in sentences:
        if len(rows) == settings.pairs:
            break
        asked += 1
        made = pair_of(sentence, len(rows), settings)
        if isinstance(made, str):
            rejected[made] += 1
        else:
            rows.append(made)
    return Gathered(rows, rejected, asked)


def pair_of(sentence: GivenSentence, item: int, settings: PairSettings) -> PairRow | str:
    """Return the pair that a given sentence makes, or the reason why it makes none.

    Whose sentence it is (x_m or x_f) is decided by its first gendered word.
    """
    genders = sides(sentence.text)
    if not genders:
        return "no gendered word"
    if held_out_in(sentence.text) is not None:
        return HELD_OUT
    targets_in = find_targets(sentence.text, settings.kinds) if sentence.target is None else _given_target(sentence)
    if not targets_in:
        return "no target word"
    target, kind = targets_in[0]
    if len(find_phrase(sentence.text, target)) > 1:
        return TARGET_TWICE
    found = counterpart_of(sentence.text, sentence.counterpart)
    if found is None:
        return "no counterpart"
    male, female = in_order(sentence.text, found.text, genders[0])
    return PairRow(Pair(item, male, female, target, kind, attribute_in(male), "swap"), mended=found.mended)


def in_order(sentence: str, counterpart: str, side: Side) -> tuple[str, str]:
    """Return (x_m, x_f) of a sentence of that side and its counterpart."""
    return (sentence, counterpart) if side == "male" else (counterpart, sentence)


def _given_target(sentence: GivenSentence) -> list[tuple[str, TargetKind]]:
    """Return the given target as it stands in the sentence; an occupation of the lexicon may stand in the plural."""
    name = sentence.target or ""
    plural = next((entry.plural for entry in occupations() if entry.name == name.lower()), name)
    spans = find_phrase(sentence.text, name) or find_phrase(sentence.text, plural)
    return [(sentence.text[start:end], sentence.target_kind) for start, end in spans]
