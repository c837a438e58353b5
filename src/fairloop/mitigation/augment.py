"""Mitigation by counterfactual data augmentation: every gendered sentence is joined by its gender-swapped variant.

Lu et al. 2020, "Gender bias in neural natural language processing" (CDA), applied between generations.
"""

from typing import TYPE_CHECKING

from fairloop.mitigation.base import Mitigation
from fairloop.mitigation.counterfactuals import add_counterfactuals, is_gendered, require_sentences
from fairloop.settings import Settings

if TYPE_CHECKING:
    from datasets import Dataset


class StrategySettings(Settings):
    """There is nothing to choose."""


class Strategy(Mitigation):
    """Adds the swapped variant of every gendered sentence: the corpus then has a net stereotype rate of zero."""

    name: str = "augment"

    def __init__(self, settings: StrategySettings) -> None:
        self.settings = settings

    def change_corpus(self, corpus: "Dataset", generation: int) -> "Dataset":
        """Return the corpus with the variants.

        Raises:
            Fault: if the corpus is empty.
        """
        require_sentences(corpus, self.name, generation)
        return add_counterfactuals(corpus, is_gendered)
