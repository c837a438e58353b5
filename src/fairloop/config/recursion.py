"""The study `recursion`: its settings, and what it declares of itself."""

from typing import ClassVar, Literal

from pydantic import Field

from fairloop.config.choices import Choices
from fairloop.config.metrics import MetricStudySettings
from fairloop.errors import UserError
from fairloop.generation.server_settings import ServerSettings
from fairloop.mitigation.compose import compose


class RecursionSettings(MetricStudySettings):
    """Group `study`, option `recursion`: an LLM writes data from its own data (arXiv 2511.10689)."""

    version: ClassVar[int] = 6
    reads: ClassVar[tuple[str, ...]] = ("model", "initial_bias", "mitigation", "metric")

    name: Literal["recursion"]
    generations: int = Field(ge=1, le=1000, description="rounds after the seed corpus, which is generation 0")
    sentences: int = Field(ge=1, le=1_000_000, description="sentences of each generation")
    examples: int = Field(ge=1, le=100, description="k: sentences of the previous generation that a prompt shows")
    prompt_group: int = Field(ge=1, description="prompts that share the same k examples")
    max_attempts: int = Field(ge=1, le=1000, description="asks for one sentence before its examples are drawn anew")
    min_yield: float = Field(ge=0, le=1, description="share of usable sentences under which the cell ends")
    resamples: int = Field(
        ge=100, le=1_000_000, description="draws of the training noise behind the downstream intervals"
    )

    def check(self, cell: Choices) -> None:
        """Refuse a mitigation that the generator or the number of sentences does not allow."""
        super().check(cell)
        if self.examples > self.sentences:
            allowed = f"at most study.sentences ({self.sentences}), which they are drawn from"
            raise UserError.of("study.examples", self.examples, allowed)
        strategies = compose(cell.mitigation)
        if strategies.trains_generator and isinstance(cell.model, ServerSettings):
            raise UserError.of(
                "mitigation",
                strategies.name,
                f"trains the generator, and {cell.model.name} runs on a server: choose a model of this process",
            )
        strategies.check(cell.model, self.sentences)

    def names(self, cell: Choices) -> dict[str, str]:
        """Generator and mitigation."""
        return {"model_name": cell.model.name, "strategies": cell.strategies}


STUDY = RecursionSettings
