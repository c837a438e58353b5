"""Synthetic run stores: what the recursion study leaves behind, without running it."""

import csv
import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

SHARES = (0.72, 0.42, 0.33, 0.26)


def make_cell(
    runs_dir,
    *,
    level=0.3,
    seed=0,
    mitigation=(),
    model="gemma_3_270m",
    study="recursion",
    generations=3,
    sentences=256,
    rho=0.35,
    settle=0.14,
    state="complete",
    reason="",
    sealed=True,
    numerics=(),
    mitigated=False,
    texts=None,
    name=None,
    drop=(),
    **more,
):
    """Write one finished cell and return its folder. `texts`: sentences of every generation's corpus."""
    name = (
        name or hashlib.sha256(repr((study, model, mitigation, level, seed, sentences, more)).encode()).hexdigest()[:16]
    )
    folder = Path(runs_dir) / study / name
    config = {
        "study": {"name": study, "generations": generations, "sentences": sentences, **more},
        "model": {"name": model, "temperature": 0.8, "batch_size": 64},
        "initial_bias": {"level": level, "neutral_share": 0.2},
        "mitigation": {strategy: {} for strategy in mitigation},
        "tracking": {"mode": "none"},
        "seed": seed,
        "runs_dir": str(runs_dir),
    }
    generator = np.random.default_rng([seed, int(1000 * level), len(mitigation)])
    rows, bias = [], level
    for generation in range(generations + 1):
        if generation:
            bias = settle * (1 - rho) + rho * bias + 0.025 * generator.standard_normal()
        share = SHARES[min(generation, 3)] + 0.02 * generator.standard_normal()
        for prefix, factor in (("", 1.0), *((("mitigated/", 0.0),) if mitigated and generation else ())):
            half = 1.96 * math.sqrt(share / sentences)
            rate, count = bias * factor, round(share * sentences)
            among = rate / share
            measures = {
                "rule/net_stereotype_rate": (rate, rate - half, rate + half, sentences),
                "rule/gendered_share": (share, share - half / 2, share + half / 2, sentences),
                "rule/net_rate_among_gendered": (among, among - 0.1, among + 0.1, count),
                "rule/male_share": (0.6, 0.54, 0.66, count),
                "embedding/effect_size": (0.4 + bias, 0.2 + bias, 0.6 + bias, sentences),
                "downstream/bias": (bias / 2, bias / 2 - 0.03, bias / 2 + 0.03, 120),
                "downstream/accuracy": (0.61, 0.55, 0.67, 120),
                "diversity/distinct_2": (0.8 - 0.1 * generation, None, None, sentences),
            }
            rows += [(generation, prefix + metric, *numbers) for metric, numbers in measures.items()]
        if generation:
            rows.append((generation, "generation/yield", 0.93, None, None, 300))
    write_cell(folder, config, [row for row in rows if row[1] not in drop], state, reason, sealed, numerics)
    if texts is not None:
        for generation in range(generations + 1):
            make_corpus(
                folder / "stages" / f"{generation:02d}-corpus_{generation}" / "corpus.parquet", texts, generation
            )
    return folder


def write_cell(folder, config, rows, state="complete", reason="", sealed=True, numerics=(), units=False):
    """Write the files of a cell: its configuration and its measures, with `units` if rows have them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    with (folder / "metrics.csv").open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["generation", "metric", "value", "low", "high", "n", *(["units"] if units else [])])
        writer.writerows(["" if item is None else item for item in row] for row in rows)
    result = {f"{metric}@{generation}": value for generation, metric, value, *_ in rows}
    (folder / "result.json").write_text(json.dumps(result, sort_keys=True, indent=2))
    seal = {
        file: [hashlib.sha256((folder / file).read_bytes()).hexdigest(), (folder / file).stat().st_size, 0]
        for file in ("metrics.csv", "result.json")
    }
    status = {"status": state, "reason": reason, "study": config["study"]["name"], "cell": folder.name}
    status |= {"numerics": list(numerics)} if numerics else {}
    (folder / "status.json").write_text(json.dumps(status | ({"seal": seal} if sealed else {})))


def make_corpus(path, texts, generation):
    """Write a corpus in the schema of fairloop.corpus (the columns that the report reads, and some it does not)."""
    path.parent.mkdir(parents=True)
    count = len(texts)
    table = pa.table(
        {
            "text": pa.array(texts, pa.string()),
            "occupation": pa.array(["nurse", "plumber"] * (count // 2) + ["nurse"] * (count % 2), pa.string()),
            "gender": pa.array(["female"] * count, pa.string()),
            "stereotype": pa.array([1] * count, pa.int8()),
            "generation": pa.array([generation] * count, pa.int16()),
            "item": pa.array(range(count), pa.int32()),
        }
    )
    pq.write_table(table, path)


def make_demo(runs_dir, seeds=(0,), mitigations=((),), **more):
    """Write the demo's grid: three levels, the given seeds and mitigations."""
    return [
        make_cell(runs_dir, level=level, seed=seed, mitigation=mitigation, **more)
        for mitigation in mitigations
        for level in (0.1, 0.3, 0.6)
        for seed in seeds
    ]


STRATEGIES = ("none", "prompt", "augment", "contrastive", "finetune")
REMAINING = {"none": 1.0, "prompt": 0.8, "augment": 0.4, "contrastive": 0.09, "finetune": 0.6}
"""Downstream bias after each strategy, as a share of that without (as written: the square root of it)."""
EMBEDDING_SHIFT = {"none": 0.0, "prompt": -0.05, "augment": 0.1, "contrastive": 0.5, "finetune": -0.1}


def make_grid(
    runs_dir, strategies=STRATEGIES, seeds=(0, 1, 2), generations=3, noise=0.0, skip=(), tasks=False, unlearned=()
):
    """Write the equilibrium experiment's grid, of known truth; `skip`: (strategy, level, seed) of cells to leave out.

    B[g+1] = 0.08 + 0.4 B[g] in every cell; the gendered share falls from 0.8 to 0.4 times a seed's factor. Without
    noise a strategy leaves exactly `REMAINING` of the control's downstream bias. `unlearned`: as `skip`, cells whose
    classifier learned nothing.
    """
    return [
        _grid_cell(
            Path(runs_dir), strategy, level, seed, generations, noise, tasks, (strategy, level, seed) in unlearned
        )
        for strategy in strategies
        for level in (0.1, 0.3, 0.6)
        for seed in seeds
        if (strategy, level, seed) not in skip
    ]


def _grid_cell(runs_dir, strategy, level, seed, generations, noise, tasks, unlearned):
    draw = np.random.default_rng([seed, int(1000 * level), STRATEGIES.index(strategy)])
    rows, bias = [], level
    for generation in range(generations + 1):
        if generation:
            bias = 0.08 + 0.4 * bias + noise * draw.standard_normal()
        share = (0.8, 0.6, 0.5, 0.4)[min(generation, 3)] * (1 + 0.01 * seed)
        downstream = 0.1 * level * (1 + 0.1 * seed) * (1 + 0.2 * generation)
        effect = 0.4 + 0.05 * seed + 0.02 * generation
        changes = strategy in ("augment", "contrastive")
        for prefix in ("", "mitigated/") if changes else ("",):
            remaining = REMAINING[strategy] ** (0.5 if changes and not prefix else 1)
            shift = EMBEDDING_SHIFT[strategy] * (0.5 if changes and not prefix else 1)
            measures = {
                "rule/net_stereotype_rate": bias * (0 if prefix else 1),
                "rule/gendered_share": share,
                "rule/net_rate_among_gendered": bias * (0 if prefix else 1) / share,
                "embedding/effect_size": effect + shift,
                "downstream/bias": downstream * remaining * (1 + 5 * noise * draw.standard_normal()),
                "downstream/accuracy": 0.6,
                "downstream/learned": 0 if unlearned else 1,
            }
            if tasks:
                measures |= {
                    "downstream_pronoun/bias": -downstream * remaining**0.5,
                    "downstream_pronoun/accuracy": 0.7,
                }
                measures |= {"downstream_hiring/bias": 0.0, "downstream_hiring/learned": 0}
            rows += [
                (generation, prefix + metric, value, value - 0.02, value + 0.02, 500)
                for metric, value in measures.items()
            ]
    config = {
        "study": {"name": "recursion", "generations": generations, "sentences": 500},
        "model": {"name": "gemma_3_270m"},
        "initial_bias": {"level": level},
        "mitigation": {} if strategy == "none" else {strategy: {"strength": 1}},
        "seed": seed,
    }
    folder = (
        runs_dir / "recursion" / hashlib.sha256(repr((strategy, level, seed, generations)).encode()).hexdigest()[:16]
    )
    write_cell(folder, config, rows)
    return folder
