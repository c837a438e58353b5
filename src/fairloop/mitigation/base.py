"""The four hooks of a mitigation.

The recursion calls, for generation g = 1 … G:

1. `generator`, on the corpus D'(g-1) that generation g is written from: an adapted generator, or None;
2. `instruction`: what the prompts of generation g add;
3. `change_corpus`, on the corpus D(g) as written: D'(g), which generation g+1 and the classifier see;
4. `encoder`, on D(g): the encoder that the embedding and downstream measures use.

Each hook does nothing unless a strategy overrides it.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from fairloop.training.hook import Training as Training

if TYPE_CHECKING:
    from datasets import Dataset

    from fairloop.generation.settings import GeneratorSettings, ModelSettings


class Mitigation:
    """A strategy that does nothing: each one overrides the hooks it needs."""

    name: str = "none"
    trains_encoder: bool = False
    trains_generator: bool = False

    def check(self, model: "GeneratorSettings", sentences: int) -> None:
        """Raise UserError, before anything is loaded, if this cannot work with this generator or so few sentences."""

    def instruction(self, generation: int) -> str:
        """Return what the prompts of this generation (1 …) say in addition; empty: nothing."""
        return ""

    def change_corpus(self, corpus: "Dataset", generation: int) -> "Dataset":
        """Return the corpus that the next generation and the classifier see, from the one written (0: the seed)."""
        return corpus

    def encoder(self, corpus: "Dataset", encoder: str, folder: Path, generation: int, training: Training) -> str:
        """Return the path of the encoder to measure this generation with, written into `folder` if it is trained.

        `encoder` is the path of the untouched one: every generation starts from it.
        """
        return encoder

    def generator(
        self, corpus: "Dataset", model: "ModelSettings", folder: Path, generation: int, training: Training
    ) -> Path | None:
        """Return a folder for `generators.load_generator` to write this generation with; None: the model as it is.

        `corpus` is what the generation is written from. Every generation starts from the untouched model.
        """
        return None
