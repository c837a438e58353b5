"""One job of each loss that trains a PLM, on a tiny masked one: uneven sentences, so that processes differ."""

from pathlib import Path

from fairloop.training.job import Job
from fairloop.training.plm_settings import (
    LanguageModelingSettings,
    OrthogonalitySettings,
    PairAlignmentSettings,
    PlmTrainingSettings,
)  # fmt: skip
from masked_models import JOBS, counterfactuals, neutral

MODULES = {
    "language_modeling": "fairloop.training.language_modeling",
    "orthogonality": "fairloop.debias.context_debias.loss",
    "prompt_divergence": "fairloop.debias.auto_debias.loss",
    "pair_alignment": "fairloop.debias.mabel.loss",
}


def plm_jobs(model: Path, rest: tuple, batch: int, **step) -> dict[str, Job]:
    """`rest` is what follows a job's settings: trainer, seed, stage, folder."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    rows = [*counterfactuals()[: batch - 2], *counterfactuals()[-2:]]
    ids = [[tokenizer(text)["input_ids"] for text in row[:2]] for row in rows]
    job_tokens = tokenizer.convert_tokens_to_ids(list(JOBS))
    sentences = [
        [male, [place for place, token in enumerate(male) if token in job_tokens], [0, 1, 2 + number % 3]]
        for number, (male, _) in enumerate(ids)
    ]
    differing = [[i for i, (a, b) in enumerate(zip(*both, strict=True)) if a != b] for both in ids]
    attributes = [[[both[side], places] for both, places in zip(ids, differing, strict=True)] for side in (0, 1)]
    mask = tokenizer.mask_token_id
    probes = [[[*one[:-2], mask, one[-1]] for one in both] for both in ids]
    texts = [row[0] for row in rows[:-2]] + neutral()[:2]
    kinds = {
        "language_modeling": ({"kind": "masked", "texts": texts}, LanguageModelingSettings(batch_size=batch, **step)),
        "orthogonality": (
            {"kind": "masked", "sentences": sentences, "attributes": attributes},
            OrthogonalitySettings(batch_size=batch, **step),
        ),
        "prompt_divergence": ({"probes": probes}, PlmTrainingSettings(batch_size=batch, **step)),
        "pair_alignment": (
            {"pairs": [list(row[:2]) for row in rows]},
            PairAlignmentSettings(batch_size=batch, **step),
        ),
    }
    return {
        task: Job(MODULES[task], str(model), data, settings.model_dump(), *rest)
        for task, (data, settings) in kinds.items()
    }
