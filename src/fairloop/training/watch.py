"""Early stopping on two held-out measures: bias shall fall, and language loss shall not rise beyond a tolerance."""

import math
from dataclasses import dataclass, field
from typing import Any

from fairloop.training.settings import WatchSettings


@dataclass(frozen=True)
class Look:
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
class Watch:
    """The looks of a training so far, the best of them, and whether it is time to stop.

    A look is better than another if its (pseudo-)perplexity rose less beyond the tolerance or, with equal rise beyond
    it (none, as a rule), if its bias is lower. The untouched model is the reference, not a candidate.
    """

    settings: WatchSettings
    looks: list[Look] = field(default_factory=list)
    best: Look | None = None
    stopped: bool = False

    def due(self, step: int) -> bool:
        """Tell whether the held-out data is to be looked at after this step."""
        return step % self.settings.every == 0

    def judge(self, look: Look) -> bool:
        """Take a new look; return whether it is the best so far."""
        if not self.looks:
            self.looks.append(look)
            return False
        self.looks.append(look)
        better = self.best is None or self._rank(look) < self._rank(self.best)
        if better:
            self.best = look
        assert self.best is not None  # noqa: S101 - the first candidate became the best
        waited = sum(one.step > self.best.step for one in self.looks)
        self.stopped = bool(self.settings.patience) and waited >= self.settings.patience
        return better

    def _rank(self, look: Look) -> tuple[float, float]:
        rise = math.expm1(look.language - self.looks[0].language)
        return max(0.0, rise - self.settings.tolerance), look.bias

    def state(self) -> dict[str, Any]:
        """Return the looks as plain data, for a checkpoint."""
        return {"looks": [[look.step, look.bias, look.language] for look in self.looks]}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on after the looks that `state` returned."""
        self.looks, self.best, self.stopped = [], None, False
        for step, bias, language in state["looks"]:
            self.judge(Look(int(step), float(bias), float(language)))
