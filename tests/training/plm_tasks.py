"""One task of each loss that trains a PLM, for a tiny masked one: uneven sentences, so that processes differ."""

from pathlib import Path

from fairloop.debias.auto_debias.loss import Probe, PromptDivergenceTask
from fairloop.debias.auto_debias.settings import MethodSettings as AutoDebias
from fairloop.debias.context_debias.loss import OrthogonalityTask
from fairloop.debias.context_debias.sentences import Attribute, Sentence
from fairloop.debias.context_debias.settings import MethodSettings as ContextDebias
from fairloop.debias.mabel.loss import EntailmentTask, PairAlignmentTask
from fairloop.debias.mabel.settings import MethodSettings as Mabel
from fairloop.training.job import TrainingTask
from fairloop.training.language_modeling import LanguageModelingTask
from fairloop.training.settings import BudgetSettings
from masked_models import JOBS, counterfactuals, neutral


def plm_tasks(model: Path, batch: int, **step) -> dict[str, TrainingTask]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    rows = [*counterfactuals()[: batch - 2], *counterfactuals()[-2:]]
    ids = [[tokenizer(text)["input_ids"] for text in row[:2]] for row in rows]
    job_tokens = tokenizer.convert_tokens_to_ids(list(JOBS))
    sentences = tuple(
        Sentence(male, [place for place, token in enumerate(male) if token in job_tokens], [0, 1, 2 + number % 3])
        for number, (male, _) in enumerate(ids)
    )
    differing = [[i for i, (a, b) in enumerate(zip(*both, strict=True)) if a != b] for both in ids]
    attributes = tuple(
        Attribute([(both[side], places) for both, places in zip(ids, differing, strict=True)]) for side in (0, 1)
    )
    mask = tokenizer.mask_token_id
    probes = tuple(Probe(*([*one[:-2], mask, one[-1]] for one in both)) for both in ids)
    texts = (*(row[0] for row in rows[:-2]), *neutral()[:2])
    step = {**step, "batch_size": batch}
    return {
        "language_modeling": LanguageModelingTask(BudgetSettings(**step), "masked", texts, 0.15),
        "orthogonality": OrthogonalityTask(ContextDebias(**step), "masked", sentences, attributes),
        "prompt_divergence": PromptDivergenceTask(AutoDebias(**step), probes),
        "entailment": EntailmentTask(
            Mabel(**step), tuple((row[0], f"{row[0]} today", row[1], f"{row[1]} today") for row in rows)
        ),
        "pair_alignment": PairAlignmentTask(Mabel(**step), tuple((row[0], row[1]) for row in rows)),
    }
