"""Near-duplicates among sentences: exact Jaccard similarity over shingles of three words, through an inverted index."""

from collections import Counter
from collections.abc import Sequence

from fairloop.generation.screening import normal_form

WIDTH = 3
"""Words in a shingle."""

Shingle = tuple[str, ...]


def shingles(text: str) -> frozenset[Shingle]:
    """Return the runs of three successive words of a text; a shorter text is one shingle."""
    found = normal_form(text).split()
    return frozenset(tuple(found[start : start + WIDTH]) for start in range(max(1, len(found) - WIDTH + 1)))


def similarities(texts: Sequence[str], threshold: float) -> list[float]:
    """Return for each text its highest similarity to an earlier one that was kept, 0 to 1.

    A text is kept if that is below `threshold`: of a chain of near-duplicates the first one stays. Only texts that
    share a shingle are ever compared, and all of them are: the result is that of comparing each with each.
    """
    postings: dict[Shingle, list[int]] = {}
    sizes: dict[int, int] = {}
    highest = []
    for number, text in enumerate(texts):
        own = shingles(text)
        shared: Counter[int] = Counter()
        for shingle in own:
            shared.update(postings.get(shingle, ()))
        best = max((count / (len(own) + sizes[other] - count) for other, count in shared.items()), default=0.0)
        highest.append(best)
        if best < threshold:
            sizes[number] = len(own)
            for shingle in own:
                postings.setdefault(shingle, []).append(number)
    return highest
