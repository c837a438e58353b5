"""Mitigation by contrastive augmentation, read as augmentation alone: bias-sensitive sentences get their variants.

The abstract of arXiv 2511.10689 speaks of "contrastive augmentation, which introduces gender-swapped variants"; this
does that, with the sentences that agree or disagree with a stereotype (σ ≠ 0), and trains nothing. `contrastive` is the
other reading: it adds the same variants and trains the encoder on the pairs.
"""

from typing import TYPE_CHECKING

from fairloop.mitigation.base import Mitigation
from fairloop.mitigation.counterfactuals import add_counterfactuals, is_sensitive, require_sentences
from fairloop.settings import Settings

if TYPE_CHECKING:
    from datasets import Dataset


class StrategySettings(Settings):
    """There is nothing to choose."""


class Strategy(Mitigation):
    """Adds the variants of sentences with σ ≠ 0, as `contrastive` does, and leaves the encoder as it is."""

    name: str = "contrastive_augment"

    def __init__(self, settings: StrategySettings) -> None:
        self.settings = settings

    def change_corpus(self, corpus: "Dataset", generation: int) -> "Dataset":
        """Return the corpus with the variants.

        Raises:
            Fault: if the corpus is empty.
        """
        require_sentences(corpus, self.name, generation)
        return add_counterfactuals(corpus, is_sensitive)
