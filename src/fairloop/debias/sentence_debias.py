"""SentenceDebias: the subspace in which the sentences of pairs differ is taken out of every hidden state.

- Liang et al. 2020, "Towards Debiasing Sentence Representations" (ACL), section 2: the principal components of the
  representations of each pair, centred on the pair, span the bias subspace V; h becomes h − V·Vᵀ·h.
- Meade, Poole-Dayan and Reddy 2022 (ACL): means of the final hidden states, scaled to length 1, are the
  representations; the subspace is taken out of the final hidden state of every token, so that it changes predictions
  too.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from fairloop.debias import base, settings
from fairloop.debias.card import write_card
from fairloop.debias.start import embed, kind_of, write_untouched
from fairloop.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from fairloop.plm.settings import PlmSettings
    from fairloop.training.hook import Training


class MethodSettings(settings.PairMethodSettings):
    """Which subspace is taken out."""

    name: Literal["sentence_debias"] = Field("sentence_debias", description="the method")
    components: int = Field(1, ge=1, le=1024, description="dimensions of the bias subspace")


class Method(base.Method):
    """Projects every final hidden state onto the complement of the bias subspace."""

    name = "sentence_debias"
    settings: MethodSettings

    def debias(self, plm: "PlmSettings", data: base.DebiasData, folder: Path, training: "Training") -> None:
        """Write the untouched PLM with the projection; see `base.Method.debias`."""
        from fairloop.plm.inference_time import write_projection, write_record

        kind = kind_of(plm, self)
        sentences = [text for pair in data.pairs for text in (pair.male, pair.female)]
        vectors = embed(plm, sentences, training)
        basis = bias_subspace(vectors[::2], vectors[1::2], self.settings.components)
        write_untouched(plm, kind, folder)
        write_projection(folder, basis)
        write_record(folder, "projection", self.name, self.settings.model_dump(mode="json"))
        write_card(
            folder,
            plm,
            kind,
            self.settings,
            "SentenceDebias (Liang et al. 2020, as applied by Meade et al. 2022): the subspace in which counterfactual "
            "sentences differ is taken out of the final hidden state of every token.",
            f"{len(data.pairs)} counterfactual pairs",
            at_inference="every final hidden state has to be projected.",
        )


def bias_subspace(male: "np.ndarray", female: "np.ndarray", components: int) -> "np.ndarray":
    """Return an orthonormal basis [width, components] of the bias subspace.

    Args:
        male: representations [n, width]; row i is the counterpart of row i of `female`.
        female: representations [n, width].
        components: its dimensions.

    Raises:
        UserError: if there are fewer pairs, or fewer dimensions, than components.
    """
    import numpy as np

    if components > min(male.shape):
        raise UserError.of(
            "debias.components", components, f"at most {min(male.shape)}: {len(male)} pairs of width {male.shape[1]}"
        )
    unit = [part.astype(np.float64) / np.linalg.norm(part, axis=1, keepdims=True) for part in (male, female)]
    # Centred on its pair, a sentence is half the difference: the two together have mean zero, as PCA wants it.
    half = (unit[0] - unit[1]) / 2
    return np.ascontiguousarray(np.linalg.svd(half, full_matrices=False)[2][:components].T)
