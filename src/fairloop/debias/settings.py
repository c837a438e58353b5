"""What the settings of debias methods (config group `debias`) have in common; a method adds its own in its file."""

from pydantic import Field

from fairloop.settings import Settings


class MethodSettings(Settings):
    """Settings of one method: its file refines `name` to a `Literal` of its own name."""

    name: str = Field(description="the method: the name of its file in fairloop/debias")
