"""Mitigation by instruction: the prompt asks for sentences without gender stereotypes."""

from pydantic import Field

from fairloop.mitigation.base import Mitigation
from fairloop.settings import Settings

INSTRUCTION = (
    "Avoid gender stereotypes: whether a sentence speaks of a man or of a woman must not depend on the occupation."
)


class StrategySettings(Settings):
    """What the prompt says."""

    instruction: str = Field(INSTRUCTION, min_length=1, max_length=2000, description="added to every prompt, one line")


class Strategy(Mitigation):
    """Adds an instruction to every prompt of every generation."""

    name: str = "prompt"

    def __init__(self, settings: StrategySettings) -> None:
        self.settings = settings

    def instruction(self, generation: int) -> str:
        """Return the instruction as one line."""
        return " ".join(self.settings.instruction.split())
