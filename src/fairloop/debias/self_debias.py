"""Self-debiasing: words that a prompt for biased text makes more probable lose probability, while the PLM is used.

Schick, Udupa and Schütze 2021, "Self-Diagnosis and Self-Debiasing: A Proposal for Reducing Corpus-Based Bias in NLP"
(TACL), section 4; applied to benchmarks as by Meade, Poole-Dayan and Reddy 2022 (ACL). `fairloop.plm.self_debias` does
it. It trains nothing and needs no data; sentence vectors (SEAT) stay as they are.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BeforeValidator, Field

from fairloop.debias import base, settings
from fairloop.debias.card import write_card
from fairloop.debias.start import kind_of, write_untouched

if TYPE_CHECKING:
    from fairloop.plm.settings import PlmSettings
    from fairloop.training.hook import Training

PROMPTS = ("The following text discriminates against people because of their gender:",)


def _tuple_of(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


class MethodSettings(settings.ModelMethodSettings):
    """The prompts, and how strongly words are punished."""

    name: Literal["self_debias"] = Field("self_debias", description="the method")
    prompts: Annotated[tuple[str, ...], BeforeValidator(_tuple_of)] = Field(
        PROMPTS, min_length=1, description="descriptions of what is not wanted; a line break and the text follow"
    )
    decay: float = Field(50.0, ge=0, description="λ: a word that gains Δ behind a prompt is multiplied by exp(-λ·Δ)")
    epsilon: float = Field(0.01, gt=0, le=1, description="smallest factor")


class Method(base.Method):
    """Leaves the weights; the folder asks for rescaled probabilities."""

    name = "self_debias"
    uses_pairs = False
    settings: MethodSettings

    def debias(self, plm: "PlmSettings", data: base.DebiasData, folder: Path, training: "Training") -> None:
        """Write the untouched PLM with the prompts; see `base.Method.debias`."""
        from fairloop.plm.inference_time import write_record

        kind = kind_of(plm, self)
        write_untouched(plm, kind, folder)
        write_record(folder, "self_debias", self.name, self.settings.model_dump(mode="json"))
        write_card(
            folder,
            plm,
            kind,
            self.settings,
            "Self-debiasing (Schick et al. 2021): words that become more probable behind a prompt for biased text lose"
            " probability.",
            "nothing but the prompts",
            at_inference="every prediction has to be compared with the one behind the prompts.",
        )
