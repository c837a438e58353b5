"""MABEL: contrastive debiasing, on entailment pairs that the user has, or on counterfactual pairs in their place.

He, Xia, Fellbaum and Chen 2022, "MABEL: Attenuating Gender Bias using Textual Entailment Data" (EMNLP): a contrastive,
an alignment and a masked-LM loss on premises, hypotheses and their gender-swapped copies. Without entailment data
`loss` says what takes its place. Weights, temperature and vectors are the published ones.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from fairloop.debias import base
from fairloop.debias.card import write_card
from fairloop.debias.mabel.entailment import read_entailment
from fairloop.debias.mabel.settings import MethodSettings
from fairloop.debias.start import kind_of
from fairloop.debias.trained import train_into, within_window
from fairloop.errors import UserError

if TYPE_CHECKING:
    from fairloop.plm.settings import PlmSettings
    from fairloop.training.hook import Training


class Method(base.Method):
    """Brings the two sentences of a pair together, and keeps different sentences apart."""

    name = "mabel"
    kinds = ("masked",)
    settings: MethodSettings

    def __init__(self, settings: MethodSettings) -> None:
        super().__init__(settings)
        self.uses_pairs = settings.entailment is None

    def check(self, plm: "PlmSettings") -> None:
        """Read the entailment pairs, too, so that a mistake in them is found before anything is computed."""
        super().check(plm)
        if self.settings.entailment is not None:
            found = len(read_entailment(self.settings.entailment))
            if found < self.settings.batch_size:
                raise UserError.of(
                    "debias.batch_size", self.settings.batch_size, f"at most {found}, the entailing pairs"
                )

    def debias(self, plm: "PlmSettings", data: base.DebiasData, folder: Path, training: "Training") -> None:
        """Write the trained PLM; see `base.Method.debias`."""
        from fairloop.debias.mabel.loss import PairAlignmentTask

        kind = kind_of(plm, self)
        if self.settings.entailment is not None:
            self._debias_by_entailment(plm, self.settings.entailment, folder, training)
            return
        pairs = tuple((pair.male, pair.female) for pair in data.pairs)
        if len(set(pairs)) < 2:
            raise UserError(f"debias=mabel: it needs two different pairs, and {len(pairs)} are left")
        task = PairAlignmentTask(within_window(self.settings, plm), pairs)
        train_into(folder, task, plm, training, stage="debias pair_alignment")
        write_card(
            folder,
            plm,
            kind,
            self.settings,
            "MABEL's losses (He et al. 2022) on counterfactual pairs in place of entailment pairs: contrastive, "
            "alignment and masked language modelling.",
            f"{len(pairs)} counterfactual pairs",
        )

    def _debias_by_entailment(self, plm: "PlmSettings", path: str, folder: Path, training: "Training") -> None:
        """Write the PLM trained on the user's entailment pairs."""
        from fairloop.debias.mabel.loss import EntailmentTask

        rows = read_entailment(path)
        task = EntailmentTask(within_window(self.settings, plm), rows)
        train_into(folder, task, plm, training, stage="debias entailment")
        write_card(
            folder,
            plm,
            "masked",
            self.settings,
            "MABEL (He et al. 2022): contrastive, alignment and masked-LM losses on entailment pairs and their "
            "gender-swapped copies.",
            f"{len(rows)} entailing pairs",
        )
