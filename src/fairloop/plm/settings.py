"""Settings of the config group `plm`: which pre-trained model is measured, and how it is computed."""

from typing import Any, ClassVar, Literal

from pydantic import Field

from fairloop.errors import UserError
from fairloop.servers.settings import ENGINES, ConnectionSettings
from fairloop.settings import Settings, incidental


class PlmSettings(Settings):
    """The pre-trained language model that is measured or debiased."""

    name: str = incidental(
        min_length=1, description="Name in tables and figures; the leaderboard's name of the same model"
    )
    path: str = incidental(min_length=1, description="Hub id, folder, or a packaged model: embedded:minilm")
    revision: str | None = incidental(
        None, description="Revision (commit, tag or branch) of a Hub id; null is its newest"
    )
    kind: Literal["auto", "masked", "causal", "encoder"] = Field(
        "auto", description="Masked or causal language model, or encoder without a head; auto reads it from the model"
    )
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="Number format of weights and activations")
    batch_tokens: int = incidental(2048, ge=1, description="Padded tokens in one batch")
    device: str = incidental(
        "auto",
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?(, *cuda:\d+)*)$",
        description="auto (every GPU, else the processor), cpu, cuda, cuda:1, cuda:0,cuda:1",
    )


class ServedPlmSettings(ConnectionSettings):
    """A causal language model behind an OpenAI-compatible server, which is only measured."""

    GROUP: ClassVar[str] = "plm"

    name: str = incidental(min_length=1, description="Name in tables and figures")
    tokenizer: str | None = incidental(
        None, description="Hub id, folder or packaged model whose tokenizer the served model has; null: plm.path"
    )

    @property
    def kind(self) -> Literal["causal"]:
        """What servers serve."""
        return "causal"

    def hint(self, said: str) -> UserError | None:
        """Return the line for a request that the server refuses with these words, if they tell what to set."""
        if "vocab" in said:
            return UserError.of("plm.tokenizer", self.tokenizer, f"not the served model's tokenizer{said}")
        return super().hint(said)

    def refuse_unserved(self, benchmark: str, needs: str) -> None:
        """Raise UserError if a benchmark needs what the server does not return."""
        if needs == "log_probabilities" and ENGINES[self.engine].scores:
            return
        words = NEEDS[needs]
        if needs == "log_probabilities":
            able = ", ".join(name for name, engine in ENGINES.items() if engine.scores)
            raise UserError.of("plm.engine", self.engine, f"{benchmark} needs {words}, which {able} return")
        raise UserError.of("benchmark", benchmark, f"needs {words}, and plm={self.name} runs on a server")


NEEDS = {
    "log_probabilities": "the log probabilities of a prompt's tokens",
    "hidden_states": "the model's hidden states",
    "weights": "the model's weights",
}
"""What a benchmark may need of a model, by its word in the benchmark's declaration."""


def plm_class(chosen: dict[str, Any]) -> type[PlmSettings] | type[ServedPlmSettings]:
    """Return the class of the settings under the config group `plm`: those of a served model name an engine."""
    return ServedPlmSettings if "engine" in chosen else PlmSettings
