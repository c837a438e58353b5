"""What the settings of debias methods (config group `debias`) have in common; a method adds its own.

The budget of those that train weights is `training.settings.BudgetSettings`.
"""

from pydantic import Field, field_validator

from fairloop.debias.hub import KEY, is_repository
from fairloop.pairs.settings import PairSettings, ScreenSettings
from fairloop.settings import Settings, incidental


class MethodSettings(Settings):
    """Settings of one method: it refines `name` to a `Literal` of its own name."""

    name: str = Field(description="the method: the name of its file or folder in fairloop/debias")


class ModelMethodSettings(MethodSettings):
    """A method that makes a model."""

    push_to_hub: str | None = incidental(
        None,
        description="the Hub's repository (NAME or ME/NAME) that the finished model is uploaded to; "
        "the environment variable HF_TOKEN has the key",
    )

    @field_validator("push_to_hub", mode="after")
    @classmethod
    def _is_repository(cls, value: str | None) -> str | None:
        if value is not None and not is_repository(value):
            raise ValueError(
                f"{KEY}={value}: allowed is a repository of the Hub, NAME or ME/NAME (letters, digits, - _ .) or null"
            )
        return value


class PairMethodSettings(ModelMethodSettings, PairSettings):
    """A method that learns from pairs: where they come from and how they are screened (conf/debias/data/pairs.yaml)."""

    screen: ScreenSettings = Field(ScreenSettings(), description="what a pair must pass before it is learned from")
