"""Iterative null-space projection: what linear classifiers of gender look at is taken out of every hidden state.

- Ravfogel, Elazar, Gonen, Twiton and Goldberg 2020, "Null It Out: Guarding Protected Attributes by Iterative Nullspace
  Projection" (ACL), algorithm 1: train a linear classifier, project onto its null space, and so on.
- Meade, Poole-Dayan and Reddy 2022 (ACL): the classifiers tell male, female and neutral sentences apart by the mean of
  their final hidden states (80 linear support vector machines without intercept); the projection is applied to the
  final hidden state of every token, so that it changes predictions too. 80 classifiers take up to 240 dimensions of
  the width of 768 that all their PLMs have; the default takes the same share of any width.
"""

import warnings
from collections.abc import Callable
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


PUBLISHED_CLASSIFIERS, PUBLISHED_WIDTH = 80, 768


class MethodSettings(settings.PairMethodSettings):
    """How often it is projected."""

    name: Literal["inlp"] = Field("inlp", description="the method")
    classifiers: int | None = Field(
        None,
        ge=1,
        le=10_000,
        description="classifiers whose directions are taken out, at most; null: 80 for each 768 of the PLM's width",
    )


class Method(base.Method):
    """Projects every final hidden state onto the null space of the classifiers."""

    name = "inlp"
    settings: MethodSettings

    def debias(self, plm: "PlmSettings", data: base.DebiasData, folder: Path, training: "Training") -> None:
        """Write the untouched PLM with the projection; see `base.Method.debias`."""
        import numpy as np

        from fairloop.plm.inference_time import write_projection, write_record

        kind = kind_of(plm, self)
        sentences = [text for pair in data.pairs for text in (pair.male, pair.female)]
        # As many of each class, as in Meade et al. 2022.
        neutral = list(data.neutral)[: len(data.pairs)]
        vectors = embed(plm, [*sentences, *neutral], training).astype(np.float64)
        labels = np.array([1, 0] * len(data.pairs) + [-1] * len(neutral))
        count = self.settings.classifiers or classifiers_for(vectors.shape[1])
        basis = informative_subspace(vectors, labels, count, on_progress=training.on_progress)
        write_untouched(plm, kind, folder)
        write_projection(folder, basis)
        record = self.settings.model_dump(mode="json") | {"classifiers": count, "dimensions_removed": basis.shape[1]}
        write_record(folder, "projection", self.name, record)
        write_card(
            folder,
            plm,
            kind,
            self.settings,
            f"INLP (Ravfogel et al. 2020, as applied by Meade et al. 2022): {basis.shape[1]} of {len(basis)} "
            "dimensions, those by which linear classifiers tell gender, are taken out of the final hidden state of "
            "every token.",
            f"{len(data.pairs)} counterfactual pairs, {len(neutral)} neutral sentences",
            at_inference="every final hidden state has to be projected.",
        )


def classifiers_for(width: int) -> int:
    """Return how many classifiers Meade et al. 2022 train, for a PLM of this width: as large a share of it."""
    return max(1, round(PUBLISHED_CLASSIFIERS * width / PUBLISHED_WIDTH))


def informative_subspace(
    vectors: "np.ndarray",
    labels: "np.ndarray",
    classifiers: int,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> "np.ndarray":
    """Return an orthonormal basis [width, k] of the directions that successive linear classifiers use.

    Classifier i is trained on what is left of the vectors in the null space of classifiers 1 … i − 1; the basis B spans
    the rows of all their weights, so that I − B·Bᵀ is the projection onto the intersection of the null spaces. It ends
    early when no direction is left.

    Args:
        vectors: [n, width], float64.
        labels: class of each, [n].
        classifiers: how many are trained.
        on_progress: called with (classifiers trained, all).

    Raises:
        UserError: if all labels are the same.
    """
    import numpy as np
    from sklearn.svm import LinearSVC

    if len(np.unique(labels)) < 2:
        raise UserError("debias=inlp: it needs sentences about men and about women, and no pair is left")
    basis = np.empty((vectors.shape[1], 0))
    for number in range(classifiers):
        left = vectors - (vectors @ basis) @ basis.T
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # not converged: near the end there is nothing left to find
            weights = LinearSVC(fit_intercept=False, dual=False, random_state=0).fit(left, labels).coef_
        weights = weights - (weights @ basis) @ basis.T
        found, sizes, _ = np.linalg.svd(weights.T, full_matrices=False)
        new = found[:, sizes > 1e-8 * max(1.0, sizes.max())]
        basis = np.linalg.qr(np.hstack([basis, new]))[0]
        if on_progress is not None:
            on_progress(number + 1, classifiers)
        if not new.shape[1] or basis.shape[1] == len(basis):
            break
    return basis
