"""Hold the causal filter's estimate against steps that are really taken, with the settings of the training.

    python experiments/fair_gender/effects.py OUT [--pairs N] [--sizes 1 2 4 8 16 32] [--seed 0] [debias.KEY=VALUE ...]

For groups of 1, 2, 4, … template pairs on the packaged `minilm`: the first step of the incorporation (AdamW, clipped,
at the rate of its first step, one batch that is the group) is taken from the untouched PLM, the held-out loss H is
measured before and after, and the weights are put back. H is the mean over neutral sentences, so its change has a
standard error over sentences. Written to OUT:

    effects.csv           a row for each group: the estimates and what the step really did, per unit of learning rate
    effects_summary.csv   a row for each size of group: rank correlations, and how far effects stand out of their errors

`settings` of the training are debias=fair_gender's defaults but for what is given.
"""

import argparse
import csv
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
NAMES = ("influence", "sum_of_singles", "knn", "output_layer")


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
    rows: list[Row] = []
    for row in measure(settings, given.sizes, seed=given.seed, draws=given.draws):
        rows.append(row)
        if len(rows) % 25 == 0:
            print(f"{len(rows)} steps taken", flush=True)
            write(given.out / "effects.csv", [row for row, _ in rows])
    write(given.out / "effects.csv", [row for row, _ in rows])
    write(given.out / "effects_summary.csv", summaries(rows))


def _typed(changed: dict[str, str]) -> dict[str, Any]:
    import yaml

    return {key: yaml.safe_load(value) for key, value in changed.items()}


Row = tuple[dict[str, Any], NDArray[np.float64]]
"""A row of effects.csv, and the change of each held-out sentence's loss, per unit of learning rate."""


def measure(settings: MethodSettings, sizes: Sequence[int], *, seed: int, draws: int) -> Iterator[Row]:
    """Yield the row of each group: all pairs one by one, then as many whole groups of each size as there are."""
    plm = LanguageModel.load(PlmSettings(name="minilm", path="embedded:minilm", kind="masked", device="cpu"))
    tokens = Tokens(plm.tokenizer, "masked", settings.max_length)
    pool = [row.pair for row in gather_pairs(settings, seed=seed).rows]
    near = nearest(represent(plm, pool), settings.neighbours)
    order = random_generator(seed, "neutral-watched").permutation(len(neutral_sentences("heldin")))[:WATCHED]
    watched = [neutral_sentences("heldin")[number] for number in order.tolist()]
    estimator = EffectEstimator(plm.model, tokens, training_pairs(pool, near), watched, settings, seed=seed)
    estimator.draws = range(draws)
    outer = estimator.by_output_layer()
    knn = outer.averaged(near)
    singles = estimator.by_influence()
    drawn = random_generator(seed, "groups").permutation(len(pool)).tolist()
    for size in sizes:
        groups = [drawn[first : first + size] for first in range(0, len(drawn) - size + 1, size)]
        whole = singles if size == 1 else None
        influence = whole or estimator.by_influence(groups=groups)
        if whole is not None:
            groups = [[number] for number in range(len(pool))]
        really = Steps(estimator)
        for number, group in enumerate(groups):
            language = really.taken(group)
            estimates = {
                "influence": influence.language[number],
                "sum_of_singles": singles.language[group].mean(),
                "knn": knn.language[group].mean(),
                "output_layer": outer.language[group].mean(),
            }
            error = language.std(ddof=1) / np.sqrt(len(language))
            yield (
                {
                    "size": size,
                    "group": number,
                    "pairs": " ".join(map(str, group)),
                    **estimates,
                    "really": language.mean(),
                    "standard_error": error,
                },
                language,
            )


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


def summaries(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return a row for each size of group."""
    found = []
    for size in sorted({row["size"] for row, _ in rows}):
        some = [(row, sentences) for row, sentences in rows if row["size"] == size]
        really = np.array([row["really"] for row, _ in some])
        errors = np.array([row["standard_error"] for row, _ in some])
        sentences = np.stack([values for _, values in some])
        row: dict[str, Any] = {"size": size, "groups": len(some)}
        for name in NAMES:
            row |= {f"spearman_{name}": spearmanr([one[name] for one, _ in some], really).statistic}
        row |= {
            "rms_effect": np.sqrt((really**2).mean()),
            "mean_standard_error": errors.mean(),
            "beyond_two_errors": (np.abs(really) > 2 * errors).mean(),
            "harmful": (really > 0).mean(),
            "harmful_beyond_two_errors": (really > 2 * errors).mean(),
            "split_half": split_half(sentences),
        }
        found.append(row)
    return found


def split_half(sentences: NDArray[np.float64], times: int = 200) -> float:
    """Return how well one half of the held-out sentences ranks the groups as the other does, stepped up to all.

    The mean over random halves of Spearman's correlation r, and 2r / (1 + r) of it (Spearman and Brown).
    """
    draw, found = np.random.default_rng(0), []
    for _ in range(times):
        order = draw.permutation(sentences.shape[1])
        half = len(order) // 2
        parts = sentences[:, order[:half]].mean(axis=1), sentences[:, order[half:]].mean(axis=1)
        found.append(spearmanr(*parts).statistic)
    mean = float(np.mean(found))
    return 2 * mean / (1 + mean)


def write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write a table, six digits a number."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()})


if __name__ == "__main__":
    main()
