"""Find strategies by their files, validate their settings, and compose several into one."""

import importlib
import pkgutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from fairloop.errors import UserError
from fairloop.mitigation.base import Mitigation, Training
from fairloop.settings import Settings, mistake

if TYPE_CHECKING:
    from datasets import Dataset

    from fairloop.generation.settings import GeneratorSettings, ModelSettings


def strategies() -> tuple[str, ...]:
    """Return the names of all strategies: the files of this package that define a `Strategy`."""
    names = [module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)])]
    return tuple(name for name in names if hasattr(_module(name), "Strategy"))


def validate(choices: Mapping[str, Any]) -> dict[str, Settings]:
    """Return the validated settings of the chosen strategies by name, in alphabetical order; empty for none.

    The order in which strategies are named decides nothing: their hooks commute (`Composition`).

    Raises:
        UserError: an unknown strategy, or settings of one that are not allowed; the line names the key.
    """
    settings: dict[str, Settings] = {}
    for name in sorted(choices, key=str):
        if name not in strategies():
            raise UserError.of("mitigation", name, "use none, " + ", ".join(strategies()))
        try:
            settings[name] = _module(name).StrategySettings.model_validate(choices[name] or {})
        except ValidationError as error:
            raise UserError(mistake(error, _module(name).StrategySettings, f"mitigation.{name}.")) from error
    return settings


def compose(settings: Mapping[str, Settings]) -> "Composition":
    """Return the strategies of validated settings as one mitigation.

    Raises:
        UserError: if two of them would train the same model.
    """
    chosen: list[Mitigation] = [_module(name).Strategy(settings[name]) for name in sorted(settings)]
    for what in ("generator", "encoder"):
        training = [strategy.name for strategy in chosen if getattr(strategy, f"trains_{what}")]
        if len(training) > 1:
            raise UserError.of("mitigation", ",".join(training), f"only one strategy can train the {what}")
    return Composition(chosen)


def name_of(strategies: Iterable[str]) -> str:
    """Return the one name of strategies for tables and figures, whatever their order: `none`, `augment+prompt`, …."""
    return "+".join(sorted(strategies)) or "none"


class Composition(Mitigation):
    """Several strategies as one: instructions add up, corpora and encoders pass through all of them.

    Every sentence gets at most one variant, behind it, whoever asks for it; so the order of strategies is no matter.
    """

    def __init__(self, parts: Sequence[Mitigation]) -> None:
        self.parts = tuple(parts)
        self.name = name_of(part.name for part in parts)
        self.trains_encoder = any(part.trains_encoder for part in parts)
        self.trains_generator = any(part.trains_generator for part in parts)
        self.changes_corpus = any(type(part).change_corpus is not Mitigation.change_corpus for part in parts)

    def check(self, model: "GeneratorSettings", sentences: int) -> None:
        """Check every part."""
        for part in self.parts:
            part.check(model, sentences)

    def instruction(self, generation: int) -> str:
        """Return all instructions, one after the other."""
        return " ".join(filter(None, (part.instruction(generation) for part in self.parts)))

    def change_corpus(self, corpus: "Dataset", generation: int) -> "Dataset":
        """Pass the corpus through every part."""
        for part in self.parts:
            corpus = part.change_corpus(corpus, generation)
        return corpus

    def encoder(self, corpus: "Dataset", encoder: str, folder: Path, generation: int, training: Training) -> str:
        """Pass the encoder through every part; at most one of them trains it."""
        for part in self.parts:
            encoder = part.encoder(corpus, encoder, folder, generation, training)
        return encoder

    def generator(
        self, corpus: "Dataset", model: "ModelSettings", folder: Path, generation: int, training: Training
    ) -> Path | None:
        """Return what the part that trains the generator returns, or None."""
        adapted = [part.generator(corpus, model, folder, generation, training) for part in self.parts]
        return next(filter(None, adapted), None)


def _module(name: str) -> Any:
    return importlib.import_module(f"fairloop.mitigation.{name}")
