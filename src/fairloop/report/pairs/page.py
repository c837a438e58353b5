"""Pairs of sentences for inspection: an HTML page with filters, and the same as text on the console."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fairloop.console import Console
from fairloop.pairs.pair import Balance, Coverage, PairRow, coverage, kept, reasons
from fairloop.report.page import environment
from fairloop.report.payload import script
from fairloop.report.samples import Piece, gendered_pieces, visible
from fairloop.words import counted

# One word each: they are names of attributes of HTML elements as well.
SCORES = ("fluency", "toxicity", "similarity", "plausibility", "rank", "aligned", "effect", "bias")
_FIELD = {"rank": "target_rank", "bias": "bias_effect"}


@dataclass(frozen=True)
class PairView:
    """What the page shows of a pair; `status` is kept or dropped."""

    row: PairRow
    male: tuple[Piece, ...]
    female: tuple[Piece, ...]
    status: str
    scores: tuple[tuple[str, float | None], ...]


@dataclass(frozen=True)
class Spread:
    """A line of the table of balance: over what, how many there are, and how evenly pairs are spread over them."""

    name: str
    size: int
    balance: Balance


def spaced(rows: Sequence[PairRow], count: int) -> list[PairRow]:
    """Return at most `count` rows, evenly spaced, the first and the last among them."""
    places = np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)
    return [rows[place] for place in np.unique(places).tolist()]


def render_pairs_page(rows: Sequence[PairRow], title: str, count: int = 100) -> str:
    """Return a page that needs no network: `count` pairs with scores and filters, and the balance of all that are kept.

    All text is escaped; unseen characters are shown as such. Without scripts it shows the same without the filters.
    """
    covered = coverage(kept(rows))
    shown = spaced(rows, count)
    names = _measured(rows)
    code, digest = script("pairs.js")
    page = (
        environment()
        .get_template("pairs.html")
        .render(
            title=title,
            total=len(rows),
            kept=len(kept(rows)),
            replaced=sum(row.replaced for row in rows),
            views=[_view(row, names) for row in shown],
            balance=_spreads(covered),
            coverage=covered,
            matrix=list(zip(covered.targets, covered.kinds, covered.counts.tolist(), strict=True)),
            dropped=list(reasons(rows).items()),
            reasons=sorted({row.dropped for row in shown if row.dropped}),
            attributes=sorted({row.pair.attribute for row in shown}),
            kinds=sorted({row.pair.target_kind for row in shown}),
            sources=sorted({row.pair.source for row in shown}),
            scores=names,
            in_words=score_in_words,
            script=code,
            script_hash=digest,
        )
    )
    return page.encode("utf-8", "replace").decode()


def print_pairs(rows: Sequence[PairRow], console: Console, count: int = 100) -> None:
    """Print `count` evenly spaced pairs with their scores, the balance of all that are kept, and why others are not.

    A pair is a block of lines and not a row of a table: with a dozen columns sentences become one word wide.
    """

    def line(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    names = _measured(rows)
    for row in spaced(rows, count):
        pair = row.pair
        scores = [
            f"{name} {score_in_words(name, value, '.3g' if abs(value) < 1000 else '.0f')}"
            for name, value in _view(row, names).scores
            if value is not None
        ]
        line(f"{pair.item}: {f'dropped: {visible(row.dropped)}' if row.dropped else 'kept'}")
        line(f"    male:   {visible(pair.male)}")
        line(f"    female: {visible(pair.female)}")
        what = f"{visible(pair.target)} ({pair.target_kind}), {visible(pair.attribute)}"
        line(f"    {'; '.join([what, *scores])}")
    line("")
    for spread in _spreads(coverage(kept(rows))):
        balance = spread.balance
        line(
            f"{spread.size} {spread.name}: {balance.smallest} to {balance.largest} kept pairs each, "
            f"evenness {balance.evenness:.3f}"
        )
    dropped = ", ".join(f"{reason} {number}" for reason, number in reasons(rows).items()) or "none"
    line(f"{counted(len(rows), 'pair')}, {len(kept(rows))} kept; dropped: {dropped}")
    replaced = sum(row.replaced for row in rows)
    if replaced:
        line(
            f"{replaced} proposed counterparts differed in more than gendered words: swapped sentences took their place"
        )


def _spreads(covered: Coverage) -> list[Spread]:
    return [
        Spread("attributes", len(covered.attributes), covered.over_attributes),
        Spread("targets", len(covered.targets), covered.over_targets),
    ]


def score_in_words(name: str, value: float, digits: str = ".3f") -> str:
    """Return a score: a rank as a whole number, an alignment as yes or no, anything else with these digits."""
    if name == "aligned":
        return "yes" if value else "no"
    return f"{value:.0f}" if name == "rank" else f"{value:{digits}}"


def _measured(rows: Sequence[PairRow]) -> list[str]:
    """Return the names of the scores that some pair has."""
    return [name for name in SCORES if any(_score(row, name) is not None for row in rows)]


def _view(row: PairRow, names: Sequence[str]) -> PairView:
    scores = tuple((name, _score(row, name)) for name in names)
    status = "dropped" if row.dropped else "kept"
    return PairView(row, gendered_pieces(row.pair.male), gendered_pieces(row.pair.female), status, scores)


def _score(row: PairRow, name: str) -> float | None:
    value = getattr(row, _FIELD.get(name, name))
    return None if value is None else float(value)
