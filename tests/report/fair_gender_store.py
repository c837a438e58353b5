"""Synthetic Fair-Gender cells of known truth, written with the run store's own functions."""

import csv
import io
import math

from fairloop.files import write_text
from fairloop.measures.measurement import Measurement
from fairloop.tracking.store import Cell

HEADLINE = "heldout_templates/mean_abs_log_odds"
PERPLEXITY = "perplexity/pseudo_perplexity"

DEFAULTS = {
    "source": "llm",
    "pairs": 1000,
    "screen": {"enabled": True, "toxicity": "wordlist"},
    "alignment": {"enabled": True},
    "causal": "knn",
    "regularizer": True,
    "lambda_r": 0.05,
}
FULL, RISE = 0.3, 1.004
"""Bias left by the full method as a share of the untouched PLM's, and what its pseudo-perplexity is multiplied by."""

ABLATIONS = {
    "source=template": ({"source": "template"}, 0.42, 1.004),
    "causal=none": ({"causal": "none"}, 0.33, 1.006),
    "alignment": ({"alignment": {"enabled": False}}, 0.31, 1.005),
    "regularizer": ({"regularizer": False}, 0.25, 1.05),
}


def untouched(seed):
    """Return the untouched PLM's headline bias and pseudo-perplexity."""
    return 1.2 + 0.1 * seed, 20.0 + seed


def make_method(
    runs_dir, name, seed, left=1.0, rise=1.0, settings=None, items=False, benchmarks=("heldout_templates",), part=None
):
    """Write one finished cell; `settings`: those of the method that differ from `DEFAULTS`; `part`: of the items."""
    config = {
        "study": {"name": "fair_gender", "benchmarks": list(benchmarks)},
        "model": {"name": "gemma_3_270m"},
        "plm": {"name": "minilm", "path": "embedded:minilm", "device": "auto"},
        "debias": {"name": name, **({**DEFAULTS, **(settings or {})} if name == "fair_gender" else {})},
        "seed": seed,
        **({"benchmarks": {"heldout_templates": {"part": part}}} if part else {}),
    }
    cell = Cell.open(runs_dir, "fair_gender", {key: config[key] for key in config if key != "model"}, config)
    bias, perplexity = untouched(seed)
    with cell.working():
        for when, factor, rate in (("before", 1.0, 1.0), *((("after", left, rise),) if name != "none" else ())):
            if items:
                cell.stage(f"{when}-heldout_templates", _writer(templates_table(bias * factor)))
                cell.stage(f"{when}-perplexity", _writer(lines_table(perplexity * rate)))
        measures = [
            Measurement(prefix + metric, value, value - 0.1, value + 0.1, 36)
            for prefix, factor, rate in (("before/", 1.0, 1.0), ("", left, rise))
            for metric, value in ((HEADLINE, bias * factor), (PERPLEXITY, perplexity * rate))
        ]
        cell.write_results({None: measures})
    return cell.folder


def make_grid(runs_dir, seeds=(0, 1, 2), items=False, ablations=tuple(ABLATIONS), baselines=("cda",)):
    """Write the untouched PLM, the full method, its ablations and baselines that leave 0.6 of the bias."""
    for seed in seeds:
        make_method(runs_dir, "none", seed, items=items)
        make_method(runs_dir, "fair_gender", seed, FULL, RISE, items=items)
        for name in ablations:
            settings, left, rise = ABLATIONS[name]
            make_method(runs_dir, "fair_gender", seed, left, rise, settings, items=items)
        for name in baselines:
            make_method(runs_dir, name, seed, 0.6, 1.01, items=items)


def templates_table(mean):
    """Return a per-item table whose occupations' mean |score| is `mean`; a trait besides, which does not count."""
    rows = []
    for subject in range(12):
        for template in range(3):
            size = mean * (1 + 0.4 * math.sin(subject + 1.7 * template))
            rows.append([f"job{subject}", "occupation", "he/she", f"t{template}", size * (-1) ** subject])
    correction = mean / (sum(abs(row[-1]) for row in rows) / len(rows))
    rows = [[*row[:-1], row[-1] * correction] for row in rows] + [["kind", "trait", "he/she", "t0", 9.0]]
    return table(["target", "kind", "words", "template", "score"], rows)


def lines_table(perplexity):
    """Return a per-item table of lines whose pseudo-perplexity is `perplexity`."""
    tokens = [5 + line % 7 for line in range(30)]
    spread = [0.2 * math.cos(line) for line in range(30)]
    mean = sum(count * part for count, part in zip(tokens, spread, strict=True)) / sum(tokens)
    rows = [
        [line, "text", count, -count * (math.log(perplexity) + part - mean)]
        for line, (count, part) in enumerate(zip(tokens, spread, strict=True))
    ]
    return table(["item", "text", "tokens", "log_likelihood"], rows)


def table(header, rows):
    """Return CSV."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return stream.getvalue()


def _writer(text):
    return lambda folder: write_text(folder / "items.csv", text)
