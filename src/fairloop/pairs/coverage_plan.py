"""Which target and which attribute each pair is about: spread evenly, by construction."""

import math
from dataclasses import dataclass

from fairloop.lexicon import Attribute, Target, TargetKind, attributes, targets
from fairloop.lexicon.gendered import Side
from fairloop.seeding import random_generator


@dataclass(frozen=True)
class Plan:
    """What one pair is to be about.

    Attributes:
        item: number of the pair.
        target: its target.
        attribute: its attribute.
        side: the gender of the sentence that is written first.
        visit: how many earlier pairs have the same target and attribute.
        refers_back: whether the gendered word comes after the target and refers back to it ("the nurse ... she"); else
            it is the sentence's subject, of whom the target is said ("she is a nurse").
    """

    item: int
    target: Target
    attribute: Attribute
    side: Side
    visit: int
    refers_back: bool = False


def plan_pairs(pairs: int, kinds: tuple[TargetKind, ...], *, seed: int) -> list[Plan]:
    """Plan pairs over all targets of these kinds and all attributes that are not held out.

    In every beginning of the plan the counts of any two targets differ by at most one, likewise those of attributes
    and of their combinations. The genders written first alternate within each attribute. Words that cannot be a subject
    (himself/herself) refer back to the target, and he/she do so half of the time.

    Args:
        pairs: how many.
        kinds: of targets.
        seed: decides the order of targets and attributes, and which gender begins.
    """
    draw = random_generator(seed, "pairs", "plan")
    rows = [target for target in targets("pairs") if target.kind in kinds]
    columns = attributes("pairs")
    rows = [rows[index] for index in draw.permutation(len(rows)).tolist()]
    columns = tuple(columns[index] for index in draw.permutation(len(columns)).tolist())
    first = int(draw.integers(2))
    # Stepping through both lists at once is even in both; it meets all combinations if one list is shifted by one
    # place whenever both have come to their end together.
    period = math.lcm(len(rows), len(columns))
    plans = []
    for item in range(pairs):
        column = (item + item // period) % len(columns)
        turn = item // len(columns)
        side: Side = "male" if (turn + column + first) % 2 else "female"
        attribute = columns[column]
        refers_back = not attribute.phrase or (attribute.phrase == "{}" and turn % 4 >= 2)
        visit = item // (len(rows) * len(columns))
        plans.append(Plan(item, rows[item % len(rows)], attribute, side, visit, refers_back))
    return plans
