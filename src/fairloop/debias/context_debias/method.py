"""Context-Debias: target words are made orthogonal to gendered words in every layer.

Kaneko and Bollegala 2021, "Debiasing Pre-trained Contextualised Embeddings" (EACL); the loss: `loss`.
Attribute words are the gendered words of the pairs. They train on sentences with a target word, and on others with an
attribute word, from a corpus; here both come from what every method is given: the sentences of a pair hold a target and
an attribute, and neutral sentences may hold a target. So the regulariser leaves a pair's target alone.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from fairloop.debias import base
from fairloop.debias.card import write_card
from fairloop.debias.context_debias.sentences import training_data
from fairloop.debias.context_debias.settings import MethodSettings
from fairloop.debias.start import kind_of
from fairloop.debias.trained import train_into, within_window
from fairloop.errors import UserError

if TYPE_CHECKING:
    from fairloop.plm.settings import PlmSettings
    from fairloop.training.hook import Training


class Method(base.Method):
    """Trains the PLM so that its states of target words say nothing of gender, and the others stay."""

    name = "context_debias"
    settings: MethodSettings

    def debias(self, plm: "PlmSettings", data: base.DebiasData, folder: Path, training: "Training") -> None:
        """Write the trained PLM; see `base.Method.debias`."""
        from fairloop.debias.context_debias.loss import OrthogonalityTask
        from fairloop.plm.loading import load_tokenizer

        kind = kind_of(plm, self)
        tokenizer = load_tokenizer(plm.path, plm.revision)
        sentences, attributes = training_data(data, tokenizer, self.settings)
        if not any(sentence.targets for sentence in sentences) or not attributes:
            raise UserError("debias=context_debias: no pair has a target and a gendered word of its own")
        task = OrthogonalityTask(within_window(self.settings, plm), kind, tuple(sentences), tuple(attributes))
        train_into(folder, task, plm, training, stage="debias orthogonality")
        write_card(
            folder,
            plm,
            kind,
            self.settings,
            "Context-Debias (Kaneko and Bollegala 2021): hidden states of target words are made orthogonal to those of "
            "gendered words, in every layer, while the others stay close to the untouched PLM's.",
            f"{len(data.pairs)} counterfactual pairs, neutral sentences with their target words",
        )
