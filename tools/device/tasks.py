"""One training task of every module of Fairloop, on sentences about occupations and their counterfactuals."""

from pathlib import Path
from typing import Any

from fairloop.debias.auto_debias.loss import Probe, PromptDivergenceTask
from fairloop.debias.auto_debias.settings import MethodSettings as AutoDebias
from fairloop.debias.context_debias.loss import OrthogonalityTask
from fairloop.debias.context_debias.sentences import Attribute, Sentence
from fairloop.debias.context_debias.settings import MethodSettings as ContextDebias
from fairloop.debias.fair_gender.loss import IncorporationTask
from fairloop.debias.fair_gender.settings import MethodSettings as FairGender
from fairloop.debias.fair_gender.tokens import TrainingPair
from fairloop.debias.mabel.loss import EntailmentTask, PairAlignmentTask
from fairloop.debias.mabel.settings import MethodSettings as Mabel
from fairloop.training.causal_lm import CausalExample, CausalLMTask
from fairloop.training.classify import ClassifierTask, LabelledItems
from fairloop.training.contrastive import ContrastiveTask
from fairloop.training.job import TrainingTask
from fairloop.training.language_modeling import LanguageModelingTask
from fairloop.training.settings import BudgetSettings, CausalLMSettings, ClassifierSettings, ContrastiveSettings

from .models import sentences


def tasks(bert: Path, batch: int, steps: int) -> dict[str, TrainingTask]:
    """Return a task for each module by its name; `causal_lm` is for the generator, all others for the masked model.

    Args:
        bert: the folder of the masked model, for its tokenizer.
        batch: items of a step.
        steps: of the optimiser.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(bert)
    found = sentences(4 * batch)
    pairs = tuple((first, second) for first, second, _ in found)
    step: dict[str, Any] = {"batch_size": batch, "max_length": 64}
    once, budget = {**step, "max_steps": steps, "epochs": steps}, {**step, "steps": steps}
    ids = [[tokenizer(text)["input_ids"] for text in pair] for pair in pairs]
    even = [both for both in ids if len(both[0]) == len(both[1])]
    differing = [[i for i, (a, b) in enumerate(zip(*both, strict=True)) if a != b] for both in even]
    attributes = tuple(
        Attribute([(both[side], places) for both, places in zip(even, differing, strict=True)]) for side in (0, 1)
    )
    # Any word may stand for the target: the shape of the computation is the same.
    targets = tuple(Sentence(male, [2], [0, 1, 3]) for male, _ in ids)
    people = tuple(
        TrainingPair(male, female, occupation, neighbours=(n, (n + 1) % len(found)), mixture=(0.7, 0.3))
        for n, (male, female, occupation) in enumerate(found)
    )
    fair_gender = FairGender(predicted="target", early_stopping={"enabled": False}, **budget)
    examples = tuple(CausalExample("the", f" {male}") for male, _ in pairs)
    labels = tuple(n % 3 for n in range(len(pairs)))
    mask = int(tokenizer.mask_token_id)
    return {
        "causal_lm (LoRA)": CausalLMTask(CausalLMSettings(**once), examples),
        "language_modeling": LanguageModelingTask(BudgetSettings(**budget), "masked", tuple(p[0] for p in pairs), 0.15),
        "contrastive": ContrastiveTask(ContrastiveSettings(**once), pairs),
        "classifier": ClassifierTask(ClassifierSettings(**once), LabelledItems(tuple(p[0] for p in pairs), labels)),
        "fair_gender": IncorporationTask(fair_gender, "masked", people, tuple(p[0] for p in pairs)),
        "orthogonality": OrthogonalityTask(ContextDebias(**budget), "masked", targets, attributes),
        "prompt_divergence": PromptDivergenceTask(
            AutoDebias(**budget), tuple(Probe(*([*one[:-2], mask, one[-1]] for one in both)) for both in ids)
        ),
        "pair_alignment": PairAlignmentTask(Mabel(**budget), pairs),
        "entailment": EntailmentTask(
            Mabel(**budget), tuple((male, f"{male} today", female, f"{female} today") for male, female in pairs)
        ),
    }
