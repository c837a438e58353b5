"""Metrics of a corpus: rule-based, embedding-based, downstream, diversity …; each is also an `evaluate` module."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import evaluate


def load(name: str, config_name: str | None = None, **options: Any) -> "evaluate.EvaluationModule":
    """Return a metric as an `evaluate` module; nothing is downloaded, and no file is written.

    Args:
        name: the metric's name, such as `rule_based`.
        config_name: `rule_based` has the configurations `default` (sentences and occupations) and `labels`.
        options: passed on to `evaluate.EvaluationModule`, such as `seed`.

    Raises:
        UserError: there is no such metric.

    Example:
        >>> metric = load("rule_based", "labels")
        >>> metric.compute(predictions=["male", "none"], references=[1, 0])["rule/net_stereotype_rate"]
        0.5
    """
    from fairloop.metrics.registry import metric

    chosen = metric(name)
    from fairloop.metrics.module import CorpusModule  # imports `evaluate`: a wrong name is answered without it

    return CorpusModule(chosen, config_name, **options)
