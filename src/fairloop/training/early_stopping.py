"""Early stopping on two held-out measures: bias shall fall, and language loss shall not rise beyond a tolerance."""

import math
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Evaluation:
    """What was measured on held-out data after a step.

    Attributes:
        step: the step; 0 is the untouched model.
        bias: mean bias of the held-out pairs.
        language: mean loss per token of the held-out text, in nats.
    """

    step: int
    bias: float
    language: float


@dataclass
class EarlyStopping:
    """The evaluations of a training so far, the best of them, and whether it is time to stop.

    An evaluation is better than another if its (pseudo-)perplexity rose less beyond the tolerance or, with equal rise
    beyond it (none, as a rule), if its bias is lower. The untouched model is the reference, not a candidate.

    Attributes:
        every: steps between two evaluations.
        patience: evaluations without a better one after which the training stops; 0: never.
        tolerance: share by which the held-out (pseudo-)perplexity may rise.
    """

    every: int
    patience: int
    tolerance: float
    evaluations: list[Evaluation] = field(default_factory=list)
    best: Evaluation | None = None
    stopped: bool = False

    def due(self, step: int) -> bool:
        """Tell whether the held-out data is to be evaluated after this step."""
        return step % self.every == 0

    def add(self, evaluation: Evaluation) -> bool:
        """Take a new evaluation; return whether it is the best so far."""
        self.evaluations.append(evaluation)
        if len(self.evaluations) == 1:
            return False
        better = self.best is None or self._rank(evaluation) < self._rank(self.best)
        if better:
            self.best = evaluation
        assert self.best is not None  # noqa: S101 - the first candidate became the best
        waited = sum(one.step > self.best.step for one in self.evaluations)
        self.stopped = bool(self.patience) and waited >= self.patience
        return better

    def _rank(self, evaluation: Evaluation) -> tuple[float, float]:
        rise = math.expm1(evaluation.language - self.evaluations[0].language)
        return max(0.0, rise - self.tolerance), evaluation.bias

    def state(self) -> dict[str, Any]:
        """Return the evaluations as plain data, for a checkpoint."""
        return {"evaluations": [[one.step, one.bias, one.language] for one in self.evaluations]}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on after the evaluations that `state` returned."""
        self.evaluations, self.best, self.stopped = [], None, False
        for step, bias, language in state["evaluations"]:
            self.add(Evaluation(int(step), float(bias), float(language)))
