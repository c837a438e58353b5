"""Measures of a corpus: rule-based, embedding-based, downstream and diversity, each also an `evaluate` metric."""

from typing import TYPE_CHECKING, Any

from fairloop.errors import UserError

if TYPE_CHECKING:
    import evaluate

NAMES = {
    "rule_based": "RuleBased",
    "embedding": "Embedding",
    "downstream": "Downstream",
    "downstream_pronoun": "DownstreamPronoun",
    "downstream_hiring": "DownstreamHiring",
    "diversity": "Diversity",
}


def load(name: str, config_name: str | None = None, **options: Any) -> "evaluate.EvaluationModule":
    """Return an `evaluate` metric by name; nothing is downloaded, and no file is written.

    Args:
        name: `rule_based`, `embedding`, `downstream`, `downstream_pronoun`, `downstream_hiring` or `diversity`.
        config_name: `rule_based` has the configurations `default` (sentences and occupations) and `labels`.
        options: passed on to `evaluate.EvaluationModule`, such as `seed`.

    Example:
        >>> metric = load("rule_based", "labels")
        >>> metric.compute(predictions=["male", "none"], references=[1, 0])["rule/net_stereotype_rate"]
        0.5
    """
    import importlib

    if name not in NAMES:
        raise UserError.of("metric", name, f"choose one of {', '.join(NAMES)}")
    module = importlib.import_module(f"fairloop.metrics.{name}")
    return getattr(module, NAMES[name])(config_name=config_name, **options)
