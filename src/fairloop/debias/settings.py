"""What the settings of debias methods (config group `debias`) have in common; a method adds its own.

The budget of those that train weights is `training.settings.BudgetSettings`.
"""

from pydantic import Field

from fairloop.pairs.settings import PairSettings, ScreenSettings
from fairloop.settings import Settings


class MethodSettings(Settings):
    """Settings of one method: it refines `name` to a `Literal` of its own name."""

    name: str = Field(description="the method: the name of its file or folder in fairloop/debias")


class PairMethodSettings(MethodSettings, PairSettings):
    """A method that learns from pairs: where they come from and how they are screened (conf/debias/data/pairs.yaml)."""

    screen: ScreenSettings = Field(ScreenSettings(), description="what a pair must pass before it is learned from")
