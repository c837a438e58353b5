"""The model card of a debiased PLM."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fairloop.debias.hub import is_repository
from fairloop.debias.settings import MethodSettings
from fairloop.files import write_text

if TYPE_CHECKING:
    from fairloop.plm.settings import PlmSettings

_CLASSES = {"masked": "AutoModelForMaskedLM", "causal": "AutoModelForCausalLM"}


def write_card(
    folder: Path,
    plm: "PlmSettings",
    kind: str,
    settings: MethodSettings,
    summary: str,
    learned_from: str,
    *,
    at_inference: str = "",
) -> None:
    """Write `README.md`, the card that the Hugging Face Hub shows.

    Args:
        folder: the model's folder.
        plm: the PLM that was debiased.
        kind: masked or causal.
        settings: of the method.
        summary: what the method did, with its source.
        learned_from: the data, in a few words.
        at_inference: what has to happen while the model is used; empty: nothing, the weights say it all.
    """
    base = plm.path if plm.revision is None else f"{plm.path}, revision {plm.revision}"
    chosen = json.dumps(settings.model_dump(mode="json", exclude={"push_to_hub"}), indent=2, ensure_ascii=False)
    text = f"""---
{_metadata(plm, kind, settings.name)}
---

# {plm.name}, debiased with {settings.name}

{summary}

- Start: {base}
- Learned from: {learned_from}

## Use

{_at_inference(kind, at_inference) if at_inference else _as_usual(kind)}

## Settings

```json
{chosen}
```

## Limits

It was debiased for gender as a binary, in English, and nothing is said about other groups or languages. Less bias on a
benchmark is no proof of fair behaviour in a use of one's own.
"""
    write_text(folder / "README.md", text)


def _metadata(plm: "PlmSettings", kind: str, method: str) -> str:
    """Return what the Hub reads at the head of a card, in its own schema."""
    from huggingface_hub import ModelCardData

    on_the_hub = is_repository(plm.path) and not Path(plm.path).exists()  # a folder or `embedded:…` is no base model
    data = ModelCardData(
        language="en",
        library_name="transformers",
        pipeline_tag="fill-mask" if kind == "masked" else "text-generation",
        tags=["fairloop", "debias", method],
        base_model=plm.path if on_the_hub else None,
        model_name=f"{plm.name}, debiased with {method}",
    )
    return str(data.to_yaml())


def _as_usual(kind: str) -> str:
    return f"""```python
from transformers import {_CLASSES[kind]}, AutoTokenizer

model = {_CLASSES[kind]}.from_pretrained(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)
```"""


def _at_inference(kind: str, what: str) -> str:
    return f"""The weights are those of the untouched model: {what}
Fairloop does it, as `fairloop_debias.json` says; every benchmark of Fairloop runs on this folder unchanged.

```python
from fairloop.plm.model import LanguageModel
from fairloop.plm.settings import PlmSettings

model = LanguageModel.load(PlmSettings(name="debiased", path=folder))
```

Loaded without Fairloop, with `{_CLASSES[kind]}`, the model is **not** debiased."""


@dataclass(frozen=True)
class Score:
    """One measure of the PLM as it was and as it is; None is undefined."""

    metric: str
    before: float | None
    after: float | None


def with_results(card: str, data: Sequence[str], scores: Sequence[Score]) -> str:
    """Return a method's card with what a study knows besides: the data, line by line, and the scores."""
    rows = [f"| `{score.metric}` | {_number(score.before)} | {_number(score.after)} |" for score in scores]
    table = "\n".join(["| measure | before | after |", "| --- | --- | --- |", *rows])
    lines = "\n".join(f"- {line}" for line in data)
    text = f"{card.rstrip()}\n\n## Data\n\n{lines}\n\n## Scores\n\n{table}\n"
    return _with_evaluation(text, scores)


def _with_evaluation(text: str, scores: Sequence[Score]) -> str:
    """Return a card whose head has the scores of the debiased model as the Hub's evaluation results."""
    from huggingface_hub import EvalResult, ModelCard

    card = ModelCard(text)
    measured = [score for score in scores if score.after is not None]
    card.data.eval_results = [
        EvalResult(
            task_type=card.data.pipeline_tag,
            dataset_type=score.metric.partition("/")[0],
            dataset_name=score.metric.partition("/")[0],
            metric_type=score.metric,
            metric_name=score.metric,
            metric_value=score.after,
        )
        for score in measured
    ] or None
    return str(card)


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4g}"
