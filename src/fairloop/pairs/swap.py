"""Pairs from given sentences and their counterfactuals."""

from collections import Counter
from collections.abc import Iterable

from fairloop.lexicon import TargetKind, occupations
from fairloop.pairs.gathered import Gathered
from fairloop.pairs.pair import Pair, PairRow
from fairloop.pairs.sentence_files import GivenSentence
from fairloop.pairs.settings import PairSettings
from fairloop.pairs.verification import (
    HELD_OUT,
    TARGET_TWICE,
    attribute_in,
    counterpart_of,
    find_phrase,
    find_targets,
    held_out_in,
    in_order,
    sides,
)


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
    return PairRow(Pair(item, male, female, target, kind, attribute_in(male), "swap"), replaced=found.replaced)


def _given_target(sentence: GivenSentence) -> list[tuple[str, TargetKind]]:
    """Return the given target as it stands in the sentence; an occupation of the lexicon may stand in the plural."""
    name = sentence.target or ""
    plural = next((entry.plural for entry in occupations() if entry.name == name.lower()), name)
    spans = find_phrase(sentence.text, name) or find_phrase(sentence.text, plural)
    return [(sentence.text[start:end], sentence.target_kind) for start, end in spans]
