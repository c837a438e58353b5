"""Mitigation by contrastive augmentation: bias-sensitive sentences with their swapped variants as positive pairs.

The encoder is trained so that a sentence and its variant come together while other sentences stay apart (InfoNCE, as in
`training.contrastive`), and the variants join the corpus. `contrastive_augment` adds them without this training.
"""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from fairloop.corpus.counterfactual import swap_gender
from fairloop.errors import Fault, UserError
from fairloop.mitigation.base import Mitigation, Training
from fairloop.mitigation.counterfactuals import add_counterfactuals, is_sensitive, require_sentences
from fairloop.mitigation.fitting import at_most
from fairloop.training.settings import ContrastiveSettings
from fairloop.words import counted

if TYPE_CHECKING:
    from datasets import Dataset

    from fairloop.generation.settings import GeneratorSettings


class StrategySettings(ContrastiveSettings):
    """How the encoder is trained on the pairs of each generation."""

    batch_size: int = Field(16, ge=2, le=65536, description="pairs in one step, over all devices together")
    epochs: int = Field(2, ge=1, le=1000, description="passes over the pairs of a generation")


class Strategy(Mitigation):
    """Trains the encoder on the pairs of sentences with σ ≠ 0, and adds their variants to the corpus."""

    name: str = "contrastive"
    trains_encoder: bool = True

    def __init__(self, settings: StrategySettings) -> None:
        self.settings = settings

    def check(self, model: "GeneratorSettings", sentences: int) -> None:
        """Refuse a batch that no generation can fill."""
        if self.settings.batch_size > sentences:
            raise UserError.of(
                "mitigation.contrastive.batch_size", self.settings.batch_size, f"at most study.sentences={sentences}"
            )

    def change_corpus(self, corpus: "Dataset", generation: int) -> "Dataset":
        """Return the corpus with the variants of sentences with σ ≠ 0.

        Raises:
            Fault: if the corpus is empty.
        """
        require_sentences(corpus, self.name, generation)
        return add_counterfactuals(corpus, is_sensitive)

    def encoder(self, corpus: "Dataset", encoder: str, folder: Path, generation: int, training: Training) -> str:
        """Train the encoder into `folder`, a Hugging Face folder, and return its path.

        Raises:
            Fault: if fewer than two different sentences have σ ≠ 0.
        """
        from fairloop.plm.locate import resolve
        from fairloop.training.contrastive import ContrastiveTask
        from fairloop.training.train import train

        require_sentences(corpus, self.name, generation)
        pairs = sensitive_pairs(corpus)
        if len({frozenset(pair) for pair in pairs}) < 2:
            raise Fault(
                f"mitigation=contrastive: generation {generation} has {counted(len(pairs), 'sentence')} with a "
                "stereotype and a variant; contrastive training needs two different ones"
            )
        settings = at_most(self.settings, len(pairs), "mitigation.contrastive", generation)
        task = ContrastiveTask(settings, tuple(pairs))
        trained = train(task, resolve(encoder), training, stage=f"contrastive {generation}")
        shutil.copytree(trained.folder, folder, dirs_exist_ok=True)
        return str(folder)


def sensitive_pairs(corpus: "Dataset") -> list[tuple[str, str]]:
    """Return the sentences with σ ≠ 0, each with its variant; variants in the corpus are not sources."""
    rows = [row for row in corpus if is_sensitive(row) and row["source"] != "counterfactual"]
    pairs = [(row["text"], swap_gender(row["text"])) for row in rows]
    return [(text, variant) for text, variant in pairs if text != variant]
