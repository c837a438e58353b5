"""Mitigation by fine-tuning: the generator learns (LoRA) from a debiased corpus before it writes a generation."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from fairloop.errors import UserError
from fairloop.mitigation.base import Mitigation, Training
from fairloop.mitigation.counterfactuals import add_counterfactuals, is_gendered, require_sentences
from fairloop.mitigation.fitting import at_most
from fairloop.training.settings import CausalLMSettings

if TYPE_CHECKING:
    from datasets import Dataset

    from fairloop.generation.requests import Example
    from fairloop.generation.settings import GeneratorSettings, ModelSettings
    from fairloop.training.causal_lm import CausalExample


class StrategySettings(CausalLMSettings):
    """How the generator is fine-tuned before each generation."""

    batch_size: int = Field(16, ge=1, le=65536, description="sentences in one step, over all devices together")
    examples: int = Field(0, ge=0, le=64, description="example sentences in each training prompt, as when writing")
    max_length: int = Field(256, ge=4, le=32768, description="tokens of prompt and sentence; longer prompts are cut")


class Strategy(Mitigation):
    """Fine-tunes the generator on the swap-balanced corpus: every gendered sentence with its swapped variant."""

    name: str = "finetune"
    trains_generator: bool = True

    def __init__(self, settings: StrategySettings) -> None:
        self.settings = settings

    def check(self, model: "GeneratorSettings", sentences: int) -> None:
        """Refuse a batch that no generation can fill, even with all variants."""
        if self.settings.batch_size > 2 * sentences:
            raise UserError.of(
                "mitigation.finetune.batch_size",
                self.settings.batch_size,
                f"at most {2 * sentences}, study.sentences with their variants",
            )

    def generator(
        self, corpus: "Dataset", model: "ModelSettings", folder: Path, generation: int, training: Training
    ) -> Path | None:
        """Fine-tune the generator and return `folder`: an adapter of a few MB, or with `weights: full` a model.

        Raises:
            Fault: if the corpus is empty.
        """
        from fairloop.plm.locate import resolve
        from fairloop.training.causal_lm import CausalLMTask
        from fairloop.training.train import train

        require_sentences(corpus, self.name, generation - 1)
        stage = f"finetune {generation}"
        examples = self.training_examples(corpus, model, seed=training.seed, stage=stage)
        settings = at_most(self.settings, len(examples), "mitigation.finetune", generation)
        task = CausalLMTask(settings, tuple(examples), base=model.path)
        where = resolve(model.path, model.revision)
        trained = train(task, where, training, stage=stage, revision=model.revision)
        shutil.copytree(trained.folder, folder, dirs_exist_ok=True)
        return folder

    def training_examples(
        self, corpus: "Dataset", model: "ModelSettings", *, seed: int, stage: str
    ) -> "list[CausalExample]":
        """Return each sentence of the balanced corpus behind the prompt that asks for it."""
        from fairloop.generation.prompts import base_prompt, chat_prompt
        from fairloop.generation.requests import Example, Request
        from fairloop.plm.loading import load_tokenizer
        from fairloop.training.causal_lm import CausalExample

        tokenizer = load_tokenizer(model.path, model.revision, "model.path")
        chat = model.style == "chat" or (model.style == "auto" and tokenizer.chat_template is not None)
        balanced = [Example(row["occupation"], row["text"]) for row in add_counterfactuals(corpus, is_gendered)]
        wanted = []
        for item, example in enumerate(balanced):
            shown = self._shown(balanced, item, seed, stage)
            request = Request(item, item, example.occupation, shown)
            prompt = chat_prompt(request, tokenizer, model.prompt_form) if chat else base_prompt(request)
            # A list goes on with a new line; an answer ends with what the chat template puts behind it.
            text = example.text + _end_of_answer(tokenizer) if chat else f" {example.text}\n"
            wanted.append(CausalExample(prompt.shared + prompt.rest, text, ended=False))
        return wanted

    def _shown(self, balanced: "list[Example]", item: int, seed: int, stage: str) -> "tuple[Example, ...]":
        """Draw other sentences for the prompt."""
        from fairloop.seeding import random_generator

        count = min(self.settings.examples, len(balanced) - 1)
        if count == 0:
            return ()
        drawn = random_generator(seed, stage, "examples", item).choice(len(balanced) - 1, size=count, replace=False)
        return tuple(balanced[number + (number >= item)] for number in drawn)


def _end_of_answer(tokenizer: Any) -> str:
    """Return what the chat template writes behind an answer."""
    mark = "FAIRLOOP-ANSWER"
    chat = [{"role": "user", "content": "?"}, {"role": "assistant", "content": mark}]
    return str(tokenizer.apply_chat_template(chat, tokenize=False)).rpartition(mark)[2].rstrip()
