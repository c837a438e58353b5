"""Dropout regularisation: further training with more dropout, which weakens learned associations.

Webster et al. 2020, "Measuring and Reducing Gendered Correlations in Pre-trained Models" (arXiv 2010.06032), and Meade,
Poole-Dayan and Reddy 2022, "An Empirical Survey of the Effectiveness of Debiasing Techniques for Pre-trained Language
Models" (ACL), whose rates are the defaults (`PUBLISHED`). The model that is written has its own rates again.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from fairloop.debias import base, settings
from fairloop.debias.card import write_card
from fairloop.debias.start import kind_of
from fairloop.debias.trained import train_into, within_window
from fairloop.training.settings import BudgetSettings

if TYPE_CHECKING:
    from fairloop.plm.settings import PlmSettings
    from fairloop.training.hook import Training


#: Dropout of hidden states and of attention, by family: ALBERT's, and everybody else's, which are BERT's and RoBERTa's
#: (McGill-NLP/bias-bench, experiments/run_mlm.py).
PUBLISHED = {"albert": (0.05, 0.05), "": (0.2, 0.15)}

Rate = Annotated[float, Field(ge=0, lt=1)] | Literal["published"] | None


class MethodSettings(settings.ModelMethodSettings, BudgetSettings):
    """Further training with raised dropout."""

    name: Literal["dropout"] = Field("dropout", description="the method")
    hidden_dropout: Rate = Field(
        "published", description="dropout of hidden states; published: by the PLM's family; null: the PLM's own"
    )
    attention_dropout: Rate = Field(
        "published", description="dropout of attention; published: by the PLM's family; null: the PLM's own"
    )
    mask_share: float = Field(0.15, gt=0, lt=1, description="masked PLM: share of the tokens that are predicted")


class Method(base.Method):
    """Trains the PLM with its own objective and more dropout, on text as it is: it needs no pairs."""

    name = "dropout"
    uses_pairs = False
    settings: MethodSettings

    def debias(self, plm: "PlmSettings", data: base.DebiasData, folder: Path, training: "Training") -> None:
        """Write the trained PLM; see `base.Method.debias`."""
        from fairloop.training.language_modeling import LanguageModelingTask

        kind = kind_of(plm, self)
        hidden, attention = self.rates(plm)
        task = LanguageModelingTask(
            within_window(self.settings, plm),
            kind,
            tuple(data.neutral),
            self.settings.mask_share,
            hidden_dropout=hidden,
            attention_dropout=attention,
        )
        train_into(folder, task, plm, training, stage="debias language_modeling")
        write_card(
            folder,
            plm,
            kind,
            self.settings,
            "Dropout regularisation (Webster et al. 2020): further training with raised dropout.",
            f"{len(data.neutral)} sentences",
        )

    def rates(self, plm: "PlmSettings") -> tuple[float | None, float | None]:
        """Return the dropout of hidden states and of attention; the published ones go by the PLM's family."""
        from fairloop.plm.loading import load_config

        given = (self.settings.hidden_dropout, self.settings.attention_dropout)
        if "published" not in given:
            return given  # type: ignore[return-value]
        family = str(load_config(plm.path, plm.revision).model_type)
        published = PUBLISHED.get(family, PUBLISHED[""])
        hidden, attention = (mine if one == "published" else one for one, mine in zip(given, published, strict=True))
        return hidden, attention
