"""The model card of a debiased PLM: what it was made from, how, and how it scores (Hugging Face's README.md)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Score:
    """One measure of the PLM as it was and as it is; None is undefined."""

    metric: str
    before: float | None
    after: float | None


@dataclass(frozen=True)
class Card:
    """What a model card states.

    Attributes:
        base: the PLM's Hub id or packaged name.
        kind: `masked` or `causal`.
        method: the debias method.
        settings: its settings, as plain data.
        data: lines on the pairs: how many, from where, and what took the others.
        scores: measures before and after.
        needs_fairloop: whether the method works at inference time, with code of Fairloop.
    """

    base: str
    kind: str
    method: str
    settings: Mapping[str, Any]
    data: Sequence[str]
    scores: Sequence[Score]
    needs_fairloop: bool = False

    def render(self) -> str:
        """Return the card as Markdown with Hugging Face's header."""
        auto = "AutoModelForMaskedLM" if self.kind == "masked" else "AutoModelForCausalLM"
        task = "fill-mask" if self.kind == "masked" else "text-generation"
        header = ["---", "library_name: transformers", f"pipeline_tag: {task}", "language: en"]
        if "/" in self.base and not self.base.startswith(("/", ".", "~")):
            header.append(f"base_model: {self.base}")
        parts = [
            "\n".join([*header, "tags: [gender-bias, fairloop]", "---"]),
            f"# {self.base}, debiased with {self.method}",
            self._loading(auto),
            "## Data\n\n" + "\n".join(f"- {line}" for line in self.data),
            "## Settings\n\n"
            + _table(("setting", "value"), [(f"`{key}`", value) for key, value in _flat(self.settings)]),
            "## Scores\n\n"
            + _table(
                ("measure", "before", "after"),
                [(f"`{s.metric}`", _number(s.before), _number(s.after)) for s in self.scores],
            ),
            "## Limits\n\nWhat was reduced is what the measures above see, in English, for a binary view of gender. "
            "The model is not free of bias: measure it on the task it is meant for.",
        ]
        return "\n\n".join(parts) + "\n"

    def _loading(self, auto: str) -> str:
        if self.needs_fairloop:
            return (
                "**The weights are those of the untouched model: the method acts while the model is used.** Load it "
                "with `fairloop.plm.loading.load_model`; `transformers` alone loads the untouched model."
            )
        return f"An ordinary model folder: `transformers.{auto}.from_pretrained(folder)`."


def _flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return settings by their dotted keys."""
    rows: list[tuple[str, Any]] = []
    for key, value in settings.items():
        rows += _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [(prefix + key, value)]
    return rows


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4g}"
