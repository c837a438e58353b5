"""Counterfactual data augmentation: further training on text in which both genders stand wherever one does.

- Zmigrod, Mielke, Wallach and Cotterell 2019, "Counterfactual Data Augmentation for Mitigating Gender Stereotypes in
  Languages with Rich Morphology" (ACL).
- Webster et al. 2020, "Measuring and Reducing Gendered Correlations in Pre-trained Models" (arXiv 2010.06032): further
  training of a PLM with its own objective; two-sided: the counterfactual is added, the original stays.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from fairloop.debias import base, settings
from fairloop.debias.card import write_card
from fairloop.debias.start import kind_of
from fairloop.debias.trained import train_into, within_window
from fairloop.training.settings import BudgetSettings

if TYPE_CHECKING:
    from fairloop.plm.settings import PlmSettings
    from fairloop.training.hook import Training


class MethodSettings(settings.PairMethodSettings, BudgetSettings):
    """Further training on two-sided counterfactual text."""

    name: Literal["cda"] = Field("cda", description="the method")
    mask_share: float = Field(0.15, gt=0, lt=1, description="masked PLM: share of the tokens that are predicted")
    neutral: float = Field(
        1.0, ge=0, description="sentences without gender for each gendered one, at most all there are"
    )


class Method(base.Method):
    """Trains the PLM with its own objective on both sentences of every pair, and on neutral text."""

    name = "cda"
    settings: MethodSettings

    def debias(self, plm: "PlmSettings", data: base.DebiasData, folder: Path, training: "Training") -> None:
        """Write the trained PLM; see `base.Method.debias`."""
        from fairloop.training.language_modeling import LanguageModelingTask

        kind = kind_of(plm, self)
        gendered = [text for pair in data.pairs for text in (pair.male, pair.female)]
        neutral = list(data.neutral)[: round(self.settings.neutral * len(gendered))]
        budget = within_window(self.settings, plm)
        task = LanguageModelingTask(budget, kind, (*gendered, *neutral), self.settings.mask_share)
        train_into(folder, task, plm, training, stage="debias language_modeling")
        write_card(
            folder,
            plm,
            kind,
            self.settings,
            "Counterfactual data augmentation (Zmigrod et al. 2019; Webster et al. 2020): further training on text in "
            "which every gendered sentence stands beside its counterfactual.",
            f"{len(data.pairs)} counterfactual pairs, {len(neutral)} neutral sentences",
        )
