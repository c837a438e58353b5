"""Perplexity of a causal model and pseudo-perplexity of a masked one, on a given text or on neutral sentences.

Salazar, Liang, Nguyen and Kirchhoff 2020, "Masked Language Model Scoring" (ACL), equation 3: pseudo-perplexity is
exp(-sum of pseudo-log-likelihoods / number of tokens). For causal models the log likelihood takes the place of the
pseudo-log-likelihood. Each line of the text is scored by itself. Values of models with different tokenizers do not
compare.
"""

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from fairloop.benchmarks.data import read_text
from fairloop.benchmarks.parts import PartSettings, items_of
from fairloop.benchmarks.result import Benchmark, BenchmarkResult, Skipped, Task, skipped_measurement
from fairloop.errors import UserError
from fairloop.files import lines_of
from fairloop.lexicon import neutral_sentences
from fairloop.measures.catalogue import Declared, Item, ItemScore
from fairloop.measures.measurement import Measurement
from fairloop.plm.scoring import token_scores
from fairloop.settings import by_contents
from fairloop.statistics.bootstrap import bootstrap_sums
from fairloop.statistics.units import quotient


class PerplexitySettings(PartSettings):
    """Settings of perplexity."""

    name: Literal["perplexity"] = Field("perplexity", description="The benchmark")
    text: str | None = by_contents(
        None, description="A UTF-8 text file, one sentence or paragraph in each line; null: packaged neutral sentences"
    )


@dataclass(frozen=True)
class LineItem:
    """One scored line."""

    item: str
    text: str
    tokens: int
    log_likelihood: float


def run(task: Task, settings: PerplexitySettings) -> BenchmarkResult:
    """Score every line; a line that is longer than the model's window is skipped and listed."""
    lines = items_of(_lines(settings.text), settings.part, "perplexity", str)
    fits = [task.plm.fits(encoded.ids) for encoded in task.plm.encode(lines)]
    skipped = [Skipped(str(n), "longer than the model's window") for n, fit in enumerate(fits) if not fit]
    kept = [(str(n), line) for n, (line, fit) in enumerate(zip(lines, fits, strict=True)) if fit]
    scores = token_scores(task.plm, [line for _, line in kept], on_progress=task.on_progress, memory=task.memory)
    items = [
        LineItem(item, line, len(score.tokens), score.total)
        for (item, line), score in zip(kept, scores, strict=True)
        if score.tokens
    ]
    name = "perplexity" if task.plm.kind == "causal" else "pseudo_perplexity"
    estimate = bootstrap_sums(
        np.array([[item.log_likelihood, item.tokens] for item in items]).reshape(-1, 2),
        lambda sums: -quotient(sums),
        seed=task.seed,
        resamples=settings.resamples,
    ).mapped(math.exp)  # the logarithm's interval: perplexities are skewed
    tokens = float(sum(item.tokens for item in items))
    measurements = [
        Measurement.of(f"perplexity/{name}", estimate),
        Measurement("perplexity/tokens", tokens, None, None, len(items)),
        skipped_measurement("perplexity", skipped, len(lines)),
    ]
    return BenchmarkResult("perplexity", "salazar2020", measurements, items, skipped)


def _lines(text: str | None) -> list[str]:
    """Return the lines of a text file, or the packaged neutral sentences that are held out."""
    if text is None:
        return list(neutral_sentences("heldout"))
    path = Path(text).expanduser()
    if not path.is_file():
        raise UserError.of("benchmark.text", path, "there is no such file")
    if path.suffix.lower() in (".csv", ".parquet"):
        raise UserError.of("benchmark.text", path, "a text file with a sentence in each line, no table")
    return [line.strip() for line in lines_of(read_text(path)) if line.strip()]


def _of_line(row: Item, metric: str) -> tuple[float, float]:
    return -float(row["log_likelihood"]), float(row["tokens"])


_PERPLEXITY = partial(
    Declared,
    goal="minimize",
    headline=True,
    place=60,
    paired_by="item",
    item_score=ItemScore(_of_line, of_ratio=np.exp),
)

MEASURES = (
    _PERPLEXITY("perplexity/pseudo_perplexity", "pseudo-perplexity (neutral)", "pseudo-perplexity"),
    _PERPLEXITY("perplexity/perplexity", "perplexity (neutral)", "perplexity"),
    Declared("perplexity/tokens", "tokens that were scored", "tokens", count=True),
)

BENCHMARK = Benchmark(
    PerplexitySettings,
    ("masked", "causal"),
    None,
    run,
    MEASURES,
    "log_probabilities",
    provide=lambda settings: _lines(settings.text),
)
