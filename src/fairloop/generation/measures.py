"""What writing a corpus took, as measures of it."""

from fairloop.measures.catalogue import Declared
from fairloop.measures.measurement import Measurement

MEASURES = (
    Declared("generation/yield", "yield", goal="maximize", headline=True, place=13),
    Declared("generation/prompt_tokens", "tokens read", count=True),
    Declared("generation/tokens", "tokens written", count=True),
)


def yield_of(accepted: int, asked: int) -> Measurement:
    """Return the share of answers that were usable, with a Wilson interval over the answers."""
    from scipy.stats import binomtest

    result = binomtest(accepted, asked)
    interval = result.proportion_ci(method="wilson")
    return Measurement("generation/yield", result.statistic, interval.low, interval.high, asked)


def tokens_of(prompt_tokens: int, tokens: int, asked: int) -> list[Measurement]:
    """Return the tokens that a server read and wrote for a corpus."""
    counts = {"prompt_tokens": prompt_tokens, "tokens": tokens}
    return [Measurement(f"generation/{name}", count, None, None, asked) for name, count in counts.items()]
