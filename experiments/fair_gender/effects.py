"""Hold the causal filter's estimate against steps that are really taken, with the settings of the training.

    python experiments/fair_gender/effects.py OUT [--pairs N] [--sizes 1 2 4 8 16 32] [--seed 0] [debias.KEY=VALUE ...]

For groups of 1, 2, 4, … template pairs on the packaged `minilm`: the first step of the incorporation (AdamW, clipped,
at the rate of its first step, one batch that is the group) is taken from the untouched PLM, the held-out loss H is
measured before and after, and the weights are put back. H is the mean over neutral sentences, so its change has a
standard error over sentences. Written to OUT:

    effects.csv           a row for each group: the estimates and what the step really did, per unit of learning rate
    effects_summary.csv   a row for each size of group: rank correlations, and how far effects stand out of their errors

Sizes that an earlier run left in OUT and that are not asked for stay.

`settings` of the training are debias=fair_gender's defaults but for what is given.
"""

import argparse
import csv
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr

from fairloop.debias.fair_gender.effect import STAGE, EffectEstimator
from fairloop.debias.fair_gender.loss import FairGenderModule
from fairloop.debias.fair_gender.method import training_pairs
from fairloop.debias.fair_gender.neighbours import nearest, represent
from fairloop.debias.fair_gender.settings import MethodSettings
from fairloop.debias.fair_gender.tokens import Tokens
from fairloop.debias.registry import settings_of
from fairloop.lexicon import neutral_sentences
from fairloop.pairs.sources import gather_pairs
from fairloop.plm.model import LanguageModel
from fairloop.plm.settings import PlmSettings
from fairloop.seeding import random_generator

WATCHED = 60  # of the neutral sentences: as many as the study watches by default
NAMES = ("influence", "mean_of_pairs", "knn", "output_layer")


def main() -> None:
    """Take the command's arguments, compute, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 4, 8, 16, 32, 64, 200])
    parser.add_argument("--draws", type=int, default=2, help="masked variants of each held-out sentence")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("settings", nargs="*", help="debias.KEY=VALUE")
    given = parser.parse_args()
    changed = dict(one.removeprefix("debias.").split("=", 1) for one in given.settings)
    settings = settings_of({"name": "fair_gender", "source": "template", "pairs": given.pairs, **_typed(changed)})
    if not isinstance(settings, MethodSettings):
        raise TypeError("not the settings of fair_gender")
    given.out.mkdir(parents=True, exist_ok=True)
    kept = read(given.out / "effects.csv")
    rows = [row for row in kept if row["size"] not in given.sizes]
    for row in measure(settings, given.sizes, seed=given.seed, draws=given.draws):
        rows.append(row)
        write(given.out / "effects.csv", completed(rows))
    rows = completed(sorted(rows, key=lambda row: (row["size"], row["group"])))
    write(given.out / "effects.csv", rows)
    write(given.out / "effects_summary.csv", summaries(rows))


def _typed(changed: dict[str, str]) -> dict[str, Any]:
    import yaml

    return {key: yaml.safe_load(value) for key, value in changed.items()}


Row = dict[str, Any]
"""A row of effects.csv."""


def measure(settings: MethodSettings, sizes: Sequence[int], *, seed: int, draws: int) -> Iterator[Row]:
    """Yield the row of each group: for size 1 all pairs, else as many whole groups as there are."""
    plm = LanguageModel.load(PlmSettings(name="minilm", path="embedded:minilm", kind="masked", device="cpu"))
    tokens = Tokens(plm.tokenizer, "masked", settings.max_length)
    pool = [row.pair for row in gather_pairs(settings, seed=seed).rows]
    near = nearest(represent(plm, pool), settings.neighbours)
    order = random_generator(seed, "neutral-watched").permutation(len(neutral_sentences("heldin")))[:WATCHED]
    watched = [neutral_sentences("heldin")[number] for number in order.tolist()]
    estimator = EffectEstimator(plm.model, tokens, training_pairs(pool, near), watched, settings, seed=seed)
    estimator.draws = range(draws)
    outer = estimator.by_output_layer() if 1 in sizes else None
    drawn = random_generator(seed, "groups").permutation(len(pool)).tolist()
    for size in sizes:
        groups = [drawn[first : first + size] for first in range(0, len(drawn) - size + 1, size)]
        groups = [[number] for number in range(len(pool))] if size == 1 else groups
        influence = estimator.by_influence(groups=groups)
        steps = Steps(estimator)
        for number, group in enumerate(groups):
            language = steps.taken(group)
            row = {"size": size, "group": number, "pairs": " ".join(map(str, group)), **dict.fromkeys(NAMES, math.nan)}
            row["influence"] = influence.language[number]
            if size == 1 and outer is not None:
                row |= {"knn": outer.averaged(near).language[number], "output_layer": outer.language[number]}
            error = float(language.std(ddof=1)) / math.sqrt(len(language))
            yield row | {"really": float(language.mean()), "standard_error": error}


def completed(rows: Sequence[Row]) -> list[Row]:
    """Return the rows; groups get the means of their pairs' own estimates, where those were made."""
    alone = {row["pairs"]: row for row in rows if row["size"] == 1}
    found = []
    for row in rows:
        members = [alone.get(number) for number in row["pairs"].split()]
        own = {} if None in members else {"mean_of_pairs": _mean(members, "influence")}
        if own and row["size"] > 1:
            own |= {name: _mean(members, name) for name in ("knn", "output_layer")}
        found.append(row | own)
    return found


def _mean(rows: Sequence[Row | None], name: str) -> float:
    return float(np.mean([row[name] for row in rows if row is not None]))


class Steps:
    """Takes the first step of a training on chosen pairs, and undoes it."""

    def __init__(self, estimator: EffectEstimator) -> None:
        self.estimator, self.draws = estimator, estimator.draws
        settings = estimator.settings
        self.module = FairGenderModule(
            estimator.module.model,
            None,
            estimator.tokens,
            settings,
            seed=estimator.seed,
            stage=STAGE,
            total_steps=settings.steps,
        )
        self.weights = [weight.requires_grad_(True) for weight in self.module.model.parameters()]
        self.kept = [weight.detach().clone() for weight in self.weights]
        self.before = self.measured()

    def measured(self) -> NDArray[np.float64]:
        """Return H of each held-out sentence."""
        with torch.no_grad():
            drawn = [
                torch.stack([self.module.language_losses(batch, "neutral", draw).double() for draw in self.draws])
                for batch in self.estimator.held_out
            ]
        return torch.cat([one.mean(dim=0) for one in drawn]).numpy()

    def taken(self, group: Sequence[int]) -> NDArray[np.float64]:
        """Return what a step on these pairs changes of `measured`, per unit of the learning rate of that step."""
        (batch,) = self.estimator.steps([group])
        made = self.module.configure_optimizers()
        optimizer, rate = made["optimizer"], made["lr_scheduler"]["scheduler"].get_last_lr()[0]
        loss = self.module.loss(batch, [0])[0] / len(group)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.weights, self.module.optimization.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        after = self.measured()
        with torch.no_grad():
            for weight, value in zip(self.weights, self.kept, strict=True):
                weight.copy_(value)
        change: NDArray[np.float64] = (after - self.before) / rate
        return change


def summaries(rows: Sequence[Row]) -> list[Row]:
    """Return a row for each size of group.

    `reliability` is the share of the variance of the effects that is not that of their errors: 1 − mean(SE²) / var.
    """
    found = []
    for size in sorted({row["size"] for row in rows}):
        some = [row for row in rows if row["size"] == size]
        really, errors = (np.array([row[name] for row in some]) for name in ("really", "standard_error"))
        row: Row = {"size": size, "groups": len(some)}
        for name in NAMES:
            row[f"spearman_{name}"] = _spearman([one[name] for one in some], really)
        varies = len(some) > 2
        found.append(
            row
            | {
                "mean_effect": float(really.mean()),
                "rms_effect": float(np.sqrt((really**2).mean())),
                "mean_standard_error": float(errors.mean()),
                "beyond_two_errors": float((np.abs(really) > 2 * errors).mean()),
                "harmful_beyond_two_errors": float((really > 2 * errors).mean()),
                "reliability": 1 - float((errors**2).mean() / really.var(ddof=1)) if varies else math.nan,
            }
        )
    return found


def _spearman(estimates: Sequence[float], really: NDArray[np.float64]) -> float:
    if len(really) < 4 or np.isnan(estimates).any():
        return math.nan
    return float(spearmanr(estimates, really).statistic)


def read(path: Path) -> list[Row]:
    """Return the rows of an earlier run, of other sizes say; none if there was none."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        rows: list[Row] = list(csv.DictReader(file))
    words = {"pairs": str, "size": int, "group": int}
    return [{key: words[key](value) if key in words else float(value) for key, value in row.items()} for row in rows]


def write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write a table, six digits a number."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()})


if __name__ == "__main__":
    main()
