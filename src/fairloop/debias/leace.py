"""LEACE: the smallest change of the hidden states after which no linear classifier can tell gender from them.

Belrose, Schneider-Joseph, Ravfogel, Cotterell, Raff and Biderman 2023, "LEACE: Perfect Linear Concept Erasure in Closed
Form" (NeurIPS). No linear classifier does better than chance exactly if the states have no covariance with the labels
(theorem 3.1). Among all affine maps that bring this about, the one that moves the states least is (theorem 4.3)

    r(x) = x − W⁺·P·W·(x − E[x]),    W = (Σ_xx^½)⁺,    P the orthogonal projection onto the column space of W·Σ_xz.

One direction goes for gender (two with `neutral`), where INLP takes up to three for each of its classifiers.

Σ_xx is estimated with shrinkage, as in the authors' release (Bodnar, Gupta and Parolya 2014, "On the strong convergence
of the optimal linear shrinkage estimator for large dimensional covariance matrix"). Of few sentences it is all but
singular, and counterfactual pairs differ where it is smallest: W then stretches those directions, and the map moves
tokens, which no mean of a sentence resembles, out of all bounds. What the sentences themselves lose is the same with
any Σ_xx of full rank.

Applied as INLP and SentenceDebias are (Meade et al. 2022): the labels are those of sentences, the states are means over
their tokens, and the map acts on every token. An affine map of all tokens maps their mean in the same way, so that the
guarantee holds for the means. With `layers=all` it is fitted to and applied behind every layer, each one to what the
layers before it leave (concept scrubbing, section 5).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from fairloop.debias import base, settings
from fairloop.debias.card import write_card
from fairloop.debias.start import kind_of, write_untouched
from fairloop.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from fairloop.plm.encoder import SentenceEncoder
    from fairloop.plm.inference_time import Projection
    from fairloop.plm.settings import PlmSettings
    from fairloop.training.hook import Training


class MethodSettings(settings.PairMethodSettings):
    """Where gender is erased, and whether neutral sentences are a class."""

    name: Literal["leace"] = Field("leace", description="the method")
    layers: Literal["last", "all"] = Field("last", description="erase in the final hidden states, or behind each layer")
    neutral: bool = Field(
        False,
        description="neutral sentences are a third class, as for INLP: also that a sentence has a gender is erased",
    )
    shrinkage: bool = Field(
        True, description="shrink the covariance of the states, as the authors' release does; false: the sample's own"
    )


class Method(base.Method):
    """Maps every final hidden state, or every layer's, to the nearest one without linear information on gender."""

    name = "leace"
    settings: MethodSettings

    def debias(self, plm: "PlmSettings", data: base.DebiasData, folder: Path, training: "Training") -> None:
        """Write the untouched PLM with the erasures; see `base.Method.debias`."""
        import numpy as np

        from fairloop.plm.encoder import SentenceEncoder
        from fairloop.plm.inference_time import write_projections, write_record
        from fairloop.plm.model import devices

        kind = kind_of(plm, self)
        sentences = [text for pair in data.pairs for text in (pair.male, pair.female)]
        labels = np.tile(np.eye(2), (len(data.pairs), 1))
        neutral = list(data.neutral)[: len(data.pairs)] if self.settings.neutral else []
        labels = np.vstack([labels, np.zeros((len(neutral), 2))])
        encoder = SentenceEncoder.load(plm.path, devices(plm.device)[0], plm.dtype, revision=plm.revision)

        def embed() -> "np.ndarray":
            texts = [*sentences, *neutral]
            return encoder.embed(texts, batch_tokens=plm.batch_tokens, on_progress=training.on_progress)

        every, shrinkage = self.settings.layers == "all", self.settings.shrinkage
        erasures = erase(encoder, embed, labels, every=every, shrinkage=shrinkage)
        write_untouched(plm, kind, folder)
        write_projections(folder, erasures)
        write_record(folder, "projection", self.name, self.settings.model_dump(mode="json"))
        where = "the final hidden state" if len(erasures) == 1 else "the hidden states of every layer"
        write_card(
            folder,
            plm,
            kind,
            self.settings,
            f"LEACE (Belrose et al. 2023): {where} of every token moved as little as can be, so that no linear "
            f"classifier tells gender from the mean of a sentence ({erasures[-1].left.shape[1]} of "
            f"{len(erasures[-1].mean)} dimensions).",
            f"{len(data.pairs)} counterfactual pairs, {len(neutral)} neutral sentences",
            at_inference="hidden states have to be mapped.",
        )


def erase(
    encoder: "SentenceEncoder", embed: "Callable[[], np.ndarray]", labels: "np.ndarray", *, every: bool, shrinkage: bool
) -> "list[Projection]":
    """Return the erasure of the final hidden states, or with `every` one for each layer; the last is the final states'.

    Args:
        encoder: the PLM's; with `every` it is left with the erasures of all layers but the last.
        embed: returns its vectors of the sentences, [n, width].
        labels: of the sentences, [n, k].
        every: whether to erase behind every layer.
        shrinkage: of the covariance of the states.

    Raises:
        UserError: if the family has no module for each layer, or there is nothing to erase.
    """
    import numpy as np

    from fairloop.plm.inference_time import layers, project_layer

    found: list[Projection] = []
    for layer in layers(encoder.model)[:-1] if every else []:
        with _output_of(layer, encoder.model):
            found.append(least_squares_erasure(embed().astype(np.float64), labels, shrinkage=shrinkage))
        project_layer(layer, found[-1])
    return [*found, least_squares_erasure(embed().astype(np.float64), labels, shrinkage=shrinkage)]


@contextmanager
def _output_of(layer: Any, model: Any) -> Iterator[None]:
    """Let the model answer with the states that leave one of its layers in place of the final ones."""
    states: list[Any] = []

    def keep(module: Any, inputs: Any, output: Any) -> None:
        states.append(output[0] if isinstance(output, tuple) else output)

    def answer(module: Any, inputs: Any, output: Any) -> Any:
        output.last_hidden_state = states.pop()
        return output

    handles = [layer.register_forward_hook(keep), model.register_forward_hook(answer)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def least_squares_erasure(vectors: "np.ndarray", labels: "np.ndarray", *, shrinkage: bool = False) -> "Projection":
    """Return r of theorem 4.3 as a projection: L = W⁺·U and R = W·U, where U spans the column space of W·Σ_xz.

    Args:
        vectors: x [n, width], float64.
        labels: z [n, k]; columns may depend on each other.
        shrinkage: whether Σ_xx is the shrunk estimate.

    Raises:
        UserError: if vectors and labels have no covariance (all labels are the same): there is nothing to erase.
    """
    import numpy as np

    from fairloop.plm.inference_time import Projection

    mean = vectors.mean(axis=0)
    x, z = vectors - mean, labels - labels.mean(axis=0)
    covariance = x.T @ x / len(x)
    sizes, axes = np.linalg.eigh(shrunk(covariance, len(x)) if shrinkage else covariance)
    kept = sizes > sizes[-1] * len(sizes) * np.finfo(sizes.dtype).eps  # the pseudo-inverse's rule
    deviations, axes = np.sqrt(sizes[kept]), axes[:, kept]
    # W·Σ_xz in the coordinates of the principal axes.
    directions, strengths, _ = np.linalg.svd(axes.T @ (x.T @ z / len(x)) / deviations[:, None], full_matrices=False)
    directions = directions[:, strengths > 1e-8]
    if not directions.shape[1]:
        raise UserError("debias=leace: it needs sentences about men and about women that the PLM tells apart")
    return Projection(axes @ (deviations[:, None] * directions), axes @ (directions / deviations[:, None]), mean)


def shrunk(covariance: "np.ndarray", count: int) -> "np.ndarray":
    """Return α·S + (1 − α)·(tr S / p)·1, α = 1 − (tr S)² / n / (‖S‖² − (tr S)² / p), within [0, 1].

    Bodnar, Gupta and Parolya 2014, equations 2.17 and 2.18, with the target 1/p.

    Args:
        covariance: S [p, p], of a sample.
        count: n, the size of the sample.
    """
    import numpy as np

    width, trace = len(covariance), np.trace(covariance)
    spread = np.square(covariance).sum() - trace**2 / width  # squared distance of S from a multiple of 1
    weight = float(np.clip(1 - trace**2 / count / spread, 0, 1)) if spread > 0 else 0.0
    return np.asarray(weight * covariance + (1 - weight) * trace / width * np.eye(width))
