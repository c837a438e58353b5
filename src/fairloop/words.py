"""How things are counted in what users read."""

_PLURALS = {"initial bias": "initial levels of bias", "mitigation or method": "mitigations or methods"}


def counted(count: int, word: str) -> str:
    """Return `1 cell`, `2 cells`: a count with its word in the right number."""
    return f"{count} {word if count == 1 else _PLURALS.get(word, f'{word}s')}"
