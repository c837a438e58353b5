"""Which word a SEAT sentence puts into which of the published templates: sentences of one word hang together."""

import difflib
import re
from collections.abc import Sequence

_TEMPLATES = tuple(
    re.compile(template, re.IGNORECASE)
    for template in (
        r"(?:here|there) (?P<word>he|she) (?P<verb>is)\.",
        r"the person's name (?P<verb>is) (?P<word>.+)\.",
        r"(?:the |an? )?(?P<word>.+) (?P<verb>is|are) (?:here|there|an? thing|an? person|things|people|persons)\.",
        r"(?:this|that|these|those|they|there|here|it) (?P<verb>is|are) (?:an? |the )?(?P<word>.+)\.",
    )
)


def words_of(sentences: Sequence[str]) -> list[str]:
    """Return the word of each sentence, in lower case; a sentence of another form stands for itself.

    The templates are those of May et al. 2019 ("This is a piano.", "The pianos are here.", "The person's name is
    Ann."). A form that stands with "are" alone is a plural and goes to the word that it is most alike, if it is.
    """
    found = [_word(sentence) for sentence in sentences]
    alone = sorted({word for word, plural in found if not plural})

    def singular(word: str) -> str:
        return word if word in alone else next(iter(difflib.get_close_matches(word, alone, 1, 0.6)), word)

    known = {word: singular(word) for word in {word for word, _ in found}}
    return [known[word] for word, _ in found]


def _word(sentence: str) -> tuple[str, bool]:
    """Return the word, and whether it stands in the plural."""
    for template in _TEMPLATES:
        if match := template.fullmatch(sentence):
            return match["word"].lower(), match["verb"].lower() == "are"
    return sentence, False
