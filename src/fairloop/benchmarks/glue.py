"""GLUE: what a pre-trained model learns of nine language-understanding tasks by fine-tuning.

Wang, Singh, Michael, Hill, Levy and Bowman 2019, "GLUE: A Multi-Task Benchmark and Analysis Platform for Natural
Language Understanding" (ICLR). Test labels are not public; scores are those of the validation sets, as is usual.

The model without its head and one linear layer are trained on each task (Devlin et al. 2019, section 4.1), as often as
`seeds` says, each time with another initial layer, order and dropout. After each epoch the validation set is predicted;
the epoch with the best task score counts, and training stops when `patience` epochs bring no better one. So a score is
the best of some epochs on the data that it is reported on: usual for GLUE, and slightly optimistic.

- *Masked models*: the vector of the first token. *Causal models*: that of the last. *Encoders*: the mean of all.
- `glue/<task>/<measure>`, in per cent: Matthews correlation (CoLA), accuracy (SST-2, QNLI, RTE, WNLI, MNLI matched and
  mismatched), accuracy and F1 (MRPC, QQP), Pearson and Spearman correlation (STS-B); the mean over seeds. The interval
  is over seeds and items, crossed random effects (`statistics/crossed.py`); a measure that is no mean is linearised by
  what each item adds to it. Of one seed it is over items alone, and says nothing of another training; of two there is
  none.
- `glue/<task>/score`: the mean of a task's measures; `glue/<task>/seed_sd`: its standard deviation over the seeds.
- `glue/mean`: the mean of the nine task scores, as the leaderboard takes it. With fewer tasks it is called
  `glue/mean_of_<n>`: WNLI is often left out, and the numbers do not compare.
- Where `train_limit` cuts a training set, names say so: `glue/rte_train100/accuracy`, `glue/mean_train100`.
"""

import hashlib
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, Field

from fairloop.benchmarks.glue_data import GLUE_TASKS, GlueData, digest_rows, given_files, provide, read
from fairloop.benchmarks.result import Benchmark, BenchmarkResult, Task, skipped_measurement
from fairloop.benchmarks.settings import BenchmarkSettings
from fairloop.errors import Fault, UserError
from fairloop.files import remove
from fairloop.measures.catalogue import Declared
from fairloop.measures.measurement import Measurement
from fairloop.plm.model import LanguageModel
from fairloop.seeding import random_generator
from fairloop.statistics.agreement import agreement, influences
from fairloop.statistics.bootstrap import FEWEST_FOR_BOOTSTRAP
from fairloop.statistics.crossed import Spread, crossed_spread, mean_of_independent
from fairloop.statistics.means import FEWEST_FOR_SPREAD
from fairloop.training.settings import ClassifierSettings, LoraSettings

POOLING = {"masked": "cls", "causal": "last", "encoder": "mean"}
LEARNING_RATES = {"full": 2e-5, "lora": 5e-4, "frozen": 1e-2}


def _known_tasks(value: Any) -> Any:
    """Take a list of names, or one name, and return them in GLUE's order; none is all."""
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list | tuple):
        return value
    for name in names:
        if not isinstance(name, str) or name not in GLUE_TASKS:
            raise UserError.of("benchmark.tasks", name, f"choose among {', '.join(GLUE_TASKS)}")
    return tuple(name for name in GLUE_TASKS if name in names or not names)


class GlueSettings(BenchmarkSettings):
    """Settings of GLUE."""

    name: Literal["glue"] = Field("glue", description="The benchmark")
    tasks: Annotated[tuple[str, ...], BeforeValidator(_known_tasks)] = Field(
        tuple(GLUE_TASKS), description=f"Which of {', '.join(GLUE_TASKS)}; empty: all"
    )
    seeds: int = Field(3, ge=1, le=100, description="How often each task is learned, each time with other chances")
    train_limit: int | None = Field(None, ge=8, description="Use at most so many training items; names then say so")
    weights: Literal["full", "lora", "frozen"] = Field(
        "full", description="What is trained with the linear layer: all weights, a low-rank update, or nothing"
    )
    lora: LoraSettings = Field(LoraSettings(), description="The low-rank update; unused unless weights=lora")
    pooling: Literal["auto", "cls", "mean", "last"] = Field(
        "auto", description="A text's vector; auto: cls (masked), last (causal), mean (encoder)"
    )
    epochs: int = Field(5, ge=1, le=1000, description="Passes over the training set, at most")
    patience: int | None = Field(2, ge=1, description="Stop after so many epochs without a better score; null: never")
    max_steps: int | None = Field(None, ge=1, description="Stop after so many steps, even inside an epoch")
    batch_size: int = Field(32, ge=1, le=65536, description="Items in one step")
    learning_rate: float | None = Field(
        None, gt=0, le=10, description="Highest learning rate; null: 2e-5 (full), 5e-4 (lora), 1e-2 (frozen)"
    )
    warmup_share: float = Field(0.1, ge=0, lt=1, description="Share of the steps over which the rate rises")
    weight_decay: float = Field(0.01, ge=0, le=1, description="AdamW's decay of matrices")
    dropout: float = Field(0.1, ge=0, lt=1, description="Dropout before the linear layer")
    max_length: int = Field(128, ge=8, le=32768, description="Tokens of a sentence or pair; longer ones are cut")


@dataclass(frozen=True)
class GlueItem:
    """One validation item: its label, what each seed's model predicted, and the share of the seeds that are right."""

    task: str
    split: str
    item: str
    first: str
    second: str
    label: str
    predictions: str
    right: float | None


@dataclass(frozen=True)
class Scored:
    """One task's scores, in per cent, and the mean of its measures with its error."""

    measurements: list[Measurement]
    score: Spread
    items: list[GlueItem]


def run(task: Task, settings: GlueSettings) -> BenchmarkResult:
    """Fine-tune on each task as often as asked, and score the validation sets.

    All data is read before the first training: a file that is missing or damaged is told at once.
    """
    if task.plm.path is None:
        raise UserError("plm.path: GLUE fine-tunes a model from its files, and this one has none")
    whole = [read(GLUE_TASKS[name], settings.data) for name in settings.tasks]
    data = [_limited(one, settings.train_limit, task.seed) for one in whole]
    for one in data:
        if settings.batch_size > len(one.train):
            items = f"at most {len(one.train)}, the training items of {one.task.name}"
            raise UserError.of("benchmark.batch_size", settings.batch_size, items)
    steps = [_steps(settings, len(one.train)) for one in data for _ in range(settings.seeds)]
    scored, notes = [], []
    with _scratch(task) as folder:
        for number, (one, full) in enumerate(zip(data, whole, strict=True)):
            answers = []
            for seed in range(settings.seeds):
                done = sum(steps[: number * settings.seeds + seed])
                answers.append(_answers(task, settings, one, seed, folder, _progress(task, done, sum(steps))))
            scored.append(_score(one, answers, len(full.train)))
            notes += _notes(task.plm, settings, one, len(full.train))
    if task.on_progress is not None:
        task.on_progress(sum(steps), sum(steps))
    cut = any(len(one.train) < len(full.train) for one, full in zip(data, whole, strict=True))
    skipped = [item for one in whole for item in one.skipped]
    measurements = [measurement for one in scored for measurement in one.measurements]
    measurements.append(_mean(scored, settings, cut))
    measurements.append(skipped_measurement("glue", skipped, sum(one.rows for one in whole)))
    rows = [row for one in scored for row in one.items]
    return BenchmarkResult("glue", _protocol(task.plm, settings), measurements, rows, skipped, tuple(notes))


def _limited(data: GlueData, limit: int | None, seed: int) -> GlueData:
    if limit is None or limit >= len(data.train):
        return data
    chosen = random_generator(seed, "glue", data.task.name, "train_limit").permutation(len(data.train))[:limit]
    return replace(data, train=[data.train[number] for number in sorted(chosen)])


def _steps(settings: GlueSettings, items: int) -> int:
    return min(settings.epochs * math.ceil(items / settings.batch_size), settings.max_steps or 2**62)


def _progress(task: Task, before: int, total: int) -> Callable[[int, int], None]:
    def on_progress(done: int, _: int) -> None:
        if task.on_progress is not None:
            task.on_progress(before + done, total)

    return on_progress


@contextmanager
def _scratch(task: Task) -> Iterator[Path]:
    """Yield the folder for checkpoints; without one that survives a kill, a temporary one."""
    if task.scratch is not None:
        yield task.scratch
    else:
        with tempfile.TemporaryDirectory(prefix="fairloop-glue-") as folder:
            yield Path(folder)


def _training(plm: LanguageModel, settings: GlueSettings, measures: tuple[str, ...], target: str) -> ClassifierSettings:
    window = plm.window or settings.max_length
    return ClassifierSettings.model_validate(
        {
            **{name: getattr(settings, name) for name in ("epochs", "patience", "max_steps", "batch_size")},
            **{
                name: getattr(settings, name) for name in ("warmup_share", "weight_decay", "dropout", "weights", "lora")
            },
            "learning_rate": settings.learning_rate or LEARNING_RATES[settings.weights],
            "max_length": min(settings.max_length, window),
            "pooling": POOLING[plm.kind] if settings.pooling == "auto" else settings.pooling,
            "target": target,
            "select": measures,
            "keep": "best",
        }
    )


def _answers(
    task: Task,
    settings: GlueSettings,
    data: GlueData,
    seed: int,
    folder: Path,
    on_progress: Callable[[int, int], None],
) -> np.ndarray:
    """Return one model's answers to all validation items [n, outputs]; a finished training is not repeated."""
    from fairloop.training.classify import train_classifier
    from fairloop.training.hook import Training

    name = data.task.name
    training = _training(task.plm, settings, data.task.measures, "class" if data.task.labels else "number")
    identity = repr((training, task.seed, seed, digest_rows(data)))
    key = f"glue-{name}-{seed}-{hashlib.blake2b(identity.encode(), digest_size=8).hexdigest()}"
    kept = task.memory.recall(key) if task.memory is not None else None
    if kept is not None:
        return kept
    splits = list(data.validation.values())
    trained = train_classifier(
        _texts(data.train),
        [one.label for one in data.train],
        training,
        Training(task.trainer, task.seed, folder / key, on_progress, task.on_logged),
        stage=f"glue/{name}/{seed}",
        validation=(_texts(splits[0]), [one.label for one in splits[0]]),
        encoder=task.plm.path or "",
        revision=task.plm.revision,
    )
    answers = trained.answers(_texts([one for split in splits for one in split]))
    if not np.isfinite(answers).all():
        raise Fault(f"plm={task.plm.name}: after fine-tuning on {name}, an answer is not a finite number")
    if task.memory is not None:
        task.memory.keep(key, answers)
    remove(folder / key)
    return answers


def _texts(examples: Sequence[Any]) -> list[Any]:
    return [one.texts if len(one.texts) > 1 else one.texts[0] for one in examples]


def _score(data: GlueData, answers: Sequence[np.ndarray], all_training_items: int) -> Scored:
    """Score the predictions of all seeds; a task's score is the unweighted mean of its measures over its splits."""
    glue = data.task
    name = f"glue/{glue.name}" + (f"_train{len(data.train)}" if len(data.train) < all_training_items else "")
    predictions = np.array([some.argmax(axis=1) if glue.labels else some[:, 0] for some in answers])
    ends = np.cumsum([len(split) for split in data.validation.values()])
    measurements: list[Measurement] = []
    items: list[GlueItem] = []
    tables: list[np.ndarray] = []
    for (split, examples), some in zip(data.validation.items(), np.split(predictions, ends[:-1], axis=1), strict=True):
        labels = np.array([one.label for one in examples])
        of_split = [_by_item(measure, labels, some) for measure in glue.measures]
        for measure, table in zip(glue.measures, of_split, strict=True):
            metric = f"{name}/{measure}{split.removeprefix('validation')}"
            measurements.append(_measurement(metric, spread_of(table), len(examples), len(some)))
        tables.append(np.mean(of_split, axis=0))
        items += _items(glue.name, split, examples, some, glue.labels)
    seeds = np.mean([table.mean(axis=1) for table in tables], axis=0)
    # Each split counts alike, however many items it has.
    shares = [ends[-1] / (len(tables) * table.shape[1]) for table in tables]
    apart = [share * (table - table.mean(axis=1, keepdims=True)) for share, table in zip(shares, tables, strict=True)]
    score = spread_of(seeds[:, None] + np.concatenate(apart, axis=1))
    if len(measurements) > 1:
        measurements.append(_measurement(f"{name}/score", score, int(ends[-1]), len(seeds)))
    if len(seeds) > 1:
        measurements.append(Measurement(f"{name}/seed_sd", float(seeds.std(ddof=1)), None, None, len(seeds)))
    return Scored(measurements, score, items)


def _by_item(measure: str, labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Return [seeds, items], in per cent: a seed's mean is its score, and its items vary by what each adds to it."""
    return 100 * np.array([agreement(measure, labels, one) + influences(measure, labels, one) for one in predictions])


def spread_of(table: np.ndarray) -> Spread:
    """Return the mean of [seeds, items] with its error over both; of one seed over items alone.

    Nothing is known of the error of two seeds, which say too little of their spread (in simulated studies intervals
    hold the truth in down to 90%), nor of fewer items than other benchmarks have intervals for.
    """
    seeds, items = table.shape
    if seeds >= FEWEST_FOR_SPREAD and items >= FEWEST_FOR_BOOTSTRAP:
        return crossed_spread(table)
    known = seeds == 1 and items >= FEWEST_FOR_BOOTSTRAP
    error = float(table.std(ddof=1)) / math.sqrt(items) if known else math.nan
    return Spread(float(table.mean()), error if error > 0 else math.nan, items - 1)


def _measurement(name: str, score: Spread, n: int, seeds: int) -> Measurement:
    """Return a score with its interval; what it is over too few of (seeds or items) is its number of units."""
    least = -100.0 if name.rpartition("/")[2] in ("matthews", "pearson", "spearman", "score") else 0.0
    return Measurement.of(name, score.estimate(n, n if seeds != FEWEST_FOR_SPREAD - 1 else seeds, (least, 100.0)))


def _items(
    task: str, split: str, examples: Sequence[Any], predictions: np.ndarray, labels: tuple[str, ...]
) -> list[GlueItem]:
    items = []
    for one, some in zip(examples, predictions.T, strict=True):
        said = ";".join(labels[int(value)] if labels else f"{value:.4f}" for value in some)
        label = labels[int(one.label)] if labels else f"{one.label:g}"
        right = float(np.mean(some == one.label)) if labels else None
        first, second = (*one.texts, "")[:2]
        items.append(GlueItem(task, split, one.item, first, second, label, said, right))
    return items


def _mean(scored: Sequence[Scored], settings: GlueSettings, cut: bool) -> Measurement:
    name = "glue/mean" if len(scored) == len(GLUE_TASKS) else f"glue/mean_of_{len(scored)}"
    name += f"_train{settings.train_limit}" if cut else ""
    # Tasks are learned apart, on items of their own.
    together = mean_of_independent([one.score for one in scored])
    return _measurement(name, together, sum(len(one.items) for one in scored), settings.seeds)


def _notes(plm: LanguageModel, settings: GlueSettings, data: GlueData, all_training_items: int) -> list[str]:
    """Say what was left out of a task: training items by `train_limit`, tokens by `max_length`."""
    from fairloop.training.classifier import encode

    notes = []
    if len(data.train) < all_training_items:
        notes.append(f"{data.task.name}: trained on {len(data.train)} of {all_training_items} items (train_limit)")
    limit = _training(plm, settings, data.task.measures, "class").max_length
    for split, examples in data.validation.items():
        long = sum(len(tokens.ids) > limit for tokens in encode(_texts(examples), plm.tokenizer, None))
        if long:
            notes.append(f"{data.task.name}: {long} of {len(examples)} items of {split} were cut to {limit} tokens")
    return notes


def _protocol(plm: LanguageModel, settings: GlueSettings) -> str:
    trained = {"full": "all weights", "lora": "LoRA", "frozen": "frozen encoder"}[settings.weights]
    pooling = POOLING[plm.kind] if settings.pooling == "auto" else settings.pooling
    limits = f", at most {settings.max_steps} steps" if settings.max_steps else ""
    limits += f", at most {settings.train_limit} training items" if settings.train_limit else ""
    return (
        f"fine-tuning ({trained}), linear layer on the {pooling} vector, best of at most {settings.epochs} epochs "
        f"on the validation set, {settings.seeds} seeds{limits}"
    )


def _given(settings: GlueSettings) -> list[Path]:
    """Return the files of the chosen tasks in the user's folder; none without one."""
    if settings.data is None:
        return []
    return [path for name in settings.tasks for path in given_files(GLUE_TASKS[name], settings.data)]


MEASURES = (
    Declared("glue/mean", "GLUE mean", "GLUE", goal="maximize", headline=True, place=63),
    Declared("glue/mean_*", goal="maximize", headline=True, place=63),  # of some tasks, or of less training
    Declared("glue/*/seed_sd"),
    Declared("glue/*", goal="maximize"),
)


def _provide(settings: GlueSettings) -> None:
    for name in settings.tasks:
        provide(GLUE_TASKS[name], settings.data)


BENCHMARK = Benchmark(
    GlueSettings, ("masked", "causal", "encoder"), None, run, MEASURES, "weights", given=_given, provide=_provide
)
