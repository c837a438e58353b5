"""Adding gender-swapped variants to a corpus: every strategy that does so does it here."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from fairloop.corpus.counterfactual import swap_gender
from fairloop.corpus.table import make_corpus
from fairloop.errors import Fault

if TYPE_CHECKING:
    from datasets import Dataset

Row = Mapping[str, Any]
_MIRROR = {"male": "female", "female": "male"}


def add_counterfactuals(corpus: "Dataset", wanted: Callable[[Row], bool]) -> "Dataset":
    """Return the corpus with the swapped variant of each wanted sentence behind it.

    A sentence has at most one variant, however many strategies ask for it: variants carry their sentence's item and
    are never varied themselves. A variant's labels mirror its sentence's (γ exchanged, σ negated), so that the net
    stereotype rate of all sentences with a variant is exactly zero together with theirs.
    """
    rows = list(corpus)
    have = {(row["generation"], row["item"]) for row in rows if row["source"] == "counterfactual"}
    changed: list[dict[str, Any]] = []
    for row in rows:
        changed.append(row)
        if row["source"] == "counterfactual" or (row["generation"], row["item"]) in have or not wanted(row):
            continue
        text = swap_gender(row["text"])
        if text != row["text"]:
            changed.append(row | {"text": text, "source": "counterfactual"} | _mirrored(row))
    return make_corpus(changed)


def is_gendered(row: Row) -> bool:
    """Tell whether the sentence says the person's gender."""
    return str(row["gender"]) != "none"


def is_sensitive(row: Row) -> bool:
    """Tell whether the sentence agrees or disagrees with the occupation's stereotype (σ ≠ 0)."""
    return int(row["stereotype"]) != 0


def require_sentences(corpus: "Dataset", strategy: str, generation: int) -> None:
    """Raise Fault if the corpus is empty."""
    if len(corpus) == 0:
        raise Fault(f"mitigation={strategy}: the corpus of generation {generation} is empty")


def _mirrored(row: Row) -> dict[str, Any]:
    return {"gender": _MIRROR.get(row["gender"], row["gender"]), "stereotype": -row["stereotype"]}
