"""Fit a training's batch to what a generation happens to offer."""

import logging
from typing import TypeVar

from fairloop.training.settings import OptimizationSettings

Chosen = TypeVar("Chosen", bound=OptimizationSettings)
_log = logging.getLogger("fairloop.mitigation")


def at_most(settings: Chosen, items: int, key: str, generation: int) -> Chosen:
    """Return the settings, with a smaller batch and one line of warning if fewer items are left to train on.

    How many sentences of a generation are gendered is its outcome, not the user's mistake: the run goes on. A batch
    that is larger than a whole generation is refused before the run (`Mitigation.check`).
    """
    left = items - round(settings.validation_share * items)
    if settings.batch_size <= left:
        return settings
    _log.warning("%s.batch_size=%d: generation %d has only %d to train on", key, settings.batch_size, generation, left)
    return settings.model_copy(update={"batch_size": left})
