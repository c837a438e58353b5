"""Small incorporations of Fair-Gender: pairs whose neighbours and weights are all different, and their settings."""

import numpy as np

from fairloop.debias.fair_gender.loss import IncorporationTask
from fairloop.debias.fair_gender.settings import EarlyStoppingSettings, MethodSettings
from fairloop.debias.fair_gender.tokens import TrainingPair

TARGETS = ("nurse", "doctor", "engineer", "teacher", "pilot")
STORIES = (
    ("the {} said that he will be there today .", "the {} said that she will be there today ."),
    ("his mother and the {} read the plan .", "her mother and the {} read the plan ."),
    ("the man wrote to a {} before lunch", "the woman wrote to a {} before lunch"),
)
NEUTRAL = ("the report and the chart will be there .", "read the plan after lunch today .", "of the chart")


def training_pairs(count=10):
    """Pairs whose neighbours and weights are all different; every other one has a word for its target's place."""
    pairs = []
    for n in range(count):
        story, target = STORIES[n % len(STORIES)], TARGETS[n % len(TARGETS)]
        near = (n, (n + 1) % count, (n + 4) % count)
        mixture = np.array([3.0, 1 + n / count, 0.5])
        pairs.append(
            TrainingPair(*(text.format(target) for text in story), target, 0.5 + n / count, near,
                         tuple((mixture / mixture.sum()).tolist()), "man" if n % 2 else "")
        )  # fmt: skip
    return pairs


OFF = EarlyStoppingSettings(enabled=False)
EARLY = MethodSettings(
    batch_size=4, steps=8, learning_rate=3e-3, predicted="target", lambda_r=0.5, text_weight=1.0, mask_share=0.3,
    early_stopping=EarlyStoppingSettings(every=3, patience=0, tolerance=10.0),
)  # fmt: skip
HELD_OUT = [TrainingPair(*(text.format("pilot") for text in story), "pilot") for story in STORIES]


def incorporation(settings, kind="masked"):
    return IncorporationTask(settings, kind, tuple(training_pairs(8)), NEUTRAL[:2], tuple(HELD_OUT), NEUTRAL[2:])


class StoppedError(Exception):
    pass
