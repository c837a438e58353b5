"""Settings of pairs and of their screening (keys of the config group `debias`)."""

from typing import Literal

from pydantic import Field, model_validator

from fairloop.settings import Settings, by_contents


class PairSettings(Settings):
    """Where pairs of sentences come from, and how many."""

    source: Literal["llm", "template", "swap"] = Field(
        "llm", description="llm: written by the generator; template: filled templates; swap: given sentences, swapped"
    )
    pairs: int = Field(800, ge=1, le=1_000_000, description="pairs before the screening")
    kinds: tuple[Literal["occupation", "trait", "activity"], ...] = Field(
        ("occupation", "trait", "activity"), min_length=1, strict=False, description="what the target words are"
    )
    swap_file: str | None = by_contents(
        None, description="for source=swap: .txt, .csv or .parquet with sentences (a recursion's corpus.parquet too)"
    )
    counterpart: Literal["llm", "swap"] = Field(
        "llm", description="for source=llm: the second sentence is written by the generator and verified, or swapped"
    )
    examples: int = Field(5, ge=0, le=50, description="for source=llm: example sentences in each prompt")
    counterpart_examples: int = Field(
        14, ge=0, le=50, description="for source=llm: examples in the prompt of the counterpart"
    )
    group_size: int = Field(16, ge=1, le=4096, description="for source=llm: prompts that share their examples")
    attempts: int = Field(6, ge=1, le=100, description="for source=llm: answers after which a sentence is given up")
    min_yield: float = Field(
        0.05,
        gt=0.0,
        le=1.0,
        description="for source=llm: floor of accepted sentences per answer; below it the run ends",
    )

    @model_validator(mode="after")
    def _swap_has_a_file(self) -> "PairSettings":
        if self.source == "swap" and not self.swap_file:
            raise ValueError("debias.swap_file=null: debias.source=swap needs a file with sentences")
        return self


class ScreenSettings(Settings):
    """What a pair must pass before it is judged by its effect."""

    enabled: bool = Field(True, description="false: no screening at all")
    shortest: int = Field(4, ge=1, description="words a sentence has at least")
    longest: int = Field(40, ge=1, le=400, description="words a sentence has at most")
    english: bool = Field(True, description="drop what is not English")
    near_duplicates: float = Field(
        0.7,
        gt=0.0,
        le=1.0,
        description="drop pairs this similar (Jaccard over word trigrams) to an earlier one; 1: equal ones",
    )
    fluency: Literal["plm", "generator", "none"] = Field(
        "plm", description="whose (pseudo-)perplexity tells fluent sentences; none: not measured"
    )
    max_perplexity_ratio: float = Field(
        8.0, gt=0.0, description="drop pairs whose perplexity is above this many times the median of neutral sentences"
    )
    toxicity: Literal["wordlist", "classifier", "none"] = Field(
        "wordlist", description="wordlist: the packaged list; classifier: toxicity_model; none: not measured"
    )
    toxicity_model: str | None = by_contents(
        None, description="for toxicity=classifier: Hub id or folder of a sequence classifier"
    )
    toxicity_label: str | None = Field(
        None, description="for toxicity=classifier: its label that means toxic; null: the one that says so"
    )
    max_toxicity: float = Field(0.5, ge=0.0, le=1.0, description="drop pairs with a sentence more toxic than this")

    @model_validator(mode="after")
    def _fits_together(self) -> "ScreenSettings":
        if self.toxicity == "classifier" and not self.toxicity_model:
            raise ValueError("debias.screen.toxicity_model=null: toxicity=classifier needs a Hub id or a folder")
        if self.shortest > self.longest:
            raise ValueError(f"debias.screen.shortest={self.shortest}: at most debias.screen.longest={self.longest}")
        return self
