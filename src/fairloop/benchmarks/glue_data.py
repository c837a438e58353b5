"""The nine tasks of GLUE and their data: in a folder, in the cache, or from the Hub through `datasets`.

A folder given with `benchmark.data` (or one named `glue` in it), and the cache likewise, holds a folder for each task,
named as the configuration of `nyu-mll/glue` (`rte`) or as in GLUE's own distribution (`RTE`). In it lie for training
and validation, looked for in this order:

1. *`datasets` layout*: `train-*.parquet` (all shards) or `train.parquet` or `train.jsonl`; `validation` likewise, for
   MNLI `validation_matched` and `validation_mismatched`. Columns as in `nyu-mll/glue`: the texts (`GlueTask.columns`),
   `label` (a class's number or name; for STS-B a score; -1 for none) and, where there is one, `idx`.
2. *GLUE's distribution*: `train.tsv` and `dev.tsv`, for MNLI `dev_matched.tsv` and `dev_mismatched.tsv`. Tabs
   separate, quotes mean nothing, and the first line names the columns, except for CoLA, which has four without names.

A row without a label (GLUE's test rows, MNLI's `-`) or without one of its texts (QQP has a few broken lines) is skipped
and listed. Test sets are not read: their labels are not public.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairloop.benchmarks.data import DataSet, read_json_lines, read_text
from fairloop.benchmarks.result import Skipped
from fairloop.errors import Fault, UserError, first_line
from fairloop.files import lines_of, read_parquet
from fairloop.plm.locate import no_answer

HUB_ID = "nyu-mll/glue"
REVISION = "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"
HIGHEST_SCORE = 5.0

_TSV_NAMES = {"train": "train", "validation": "dev"}
_COLA_COLUMNS = ("source", "label", "mark", "sentence")
#: What stands in place of a label where there is none.
_NO_LABEL = ("", "-", "-1", "-1.0", "nan")

Table = Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class GlueTask:
    """One task.

    Attributes:
        name: Its name in `nyu-mll/glue` and in metrics.
        folder: Its folder in GLUE's own distribution.
        columns: Its texts' columns in `nyu-mll/glue`.
        tsv_columns: The same columns, and then the label's, in its TSV files.
        labels: Names of its classes by number; none for a score from 0 to 5.
        measures: The measures of agreement that GLUE reports (`fairloop.statistics.agreement`).
        validation: Its validation splits in `nyu-mll/glue`.
    """

    name: str
    folder: str
    columns: tuple[str, ...]
    tsv_columns: tuple[str, ...]
    labels: tuple[str, ...]
    measures: tuple[str, ...] = ("accuracy",)
    validation: tuple[str, ...] = ("validation",)


_PAIR = ("sentence1", "sentence2")
_ENTAILMENT = ("entailment", "not_entailment")

GLUE_TASKS = {
    task.name: task
    for task in (
        GlueTask("cola", "CoLA", ("sentence",), ("sentence", "label"), ("unacceptable", "acceptable"), ("matthews",)),
        GlueTask("sst2", "SST-2", ("sentence",), ("sentence", "label"), ("negative", "positive")),
        GlueTask(
            "mrpc",
            "MRPC",
            _PAIR,
            ("#1 String", "#2 String", "Quality"),
            ("not_equivalent", "equivalent"),
            ("accuracy", "f1"),
        ),
        GlueTask("stsb", "STS-B", _PAIR, (*_PAIR, "score"), (), ("pearson", "spearman")),
        GlueTask(
            "qqp",
            "QQP",
            ("question1", "question2"),
            ("question1", "question2", "is_duplicate"),
            ("not_duplicate", "duplicate"),
            ("accuracy", "f1"),
        ),
        GlueTask(
            "mnli",
            "MNLI",
            ("premise", "hypothesis"),
            (*_PAIR, "gold_label"),
            ("entailment", "neutral", "contradiction"),
            validation=("validation_matched", "validation_mismatched"),
        ),
        GlueTask("qnli", "QNLI", ("question", "sentence"), ("question", "sentence", "label"), _ENTAILMENT),
        GlueTask("rte", "RTE", _PAIR, (*_PAIR, "label"), _ENTAILMENT),
        GlueTask("wnli", "WNLI", _PAIR, (*_PAIR, "label"), ("not_entailment", "entailment")),
    )
}


@dataclass(frozen=True)
class GlueExample:
    """One labelled sentence or pair; `label` is a class's number, or a score."""

    item: str
    texts: tuple[str, ...]
    label: float


@dataclass(frozen=True)
class GlueData:
    """A task's labelled rows; `rows` counts those that were skipped too."""

    task: GlueTask
    train: list[GlueExample]
    validation: dict[str, list[GlueExample]]
    skipped: list[Skipped]
    rows: int


def read(task: GlueTask, given: str | None) -> GlueData:
    """Return a task's data from the given folder; without one from the cache, else from the Hub.

    Raises:
        UserError: if the given folder does not exist or lacks the task's files.
        Fault: if a file is damaged, or the data is nowhere and the Hub cannot be reached: the line says which files
            to put where.
    """
    splits = ("train", *task.validation)
    if given is not None:
        found = _in_given(task, Path(given).expanduser(), splits)
    else:
        found = _files(task, DataSet("glue").cached, splits)
        if not all(found.values()):
            return _collect(task, _from_hub(task, splits), f"{HUB_ID}/{task.name}")
    tables = {split: _read_files(task, split, paths) for split, paths in found.items()}
    return _collect(task, tables, str(found["train"][0].parent))


def provide(task: GlueTask, given: str | None) -> None:
    """Have a task's data on this machine; raises as `read`, of which it reads nothing that is here."""
    splits = ("train", *task.validation)
    if given is not None:
        _in_given(task, Path(given).expanduser(), splits)
    elif not all(_files(task, DataSet("glue").cached, splits).values()):
        _from_hub(task, splits)


def given_files(task: GlueTask, given: str) -> list[Path]:
    """Return the files of a task in the given folder, as `read` reads them; raises as it does."""
    found = _in_given(task, Path(given).expanduser(), ("train", *task.validation))
    return [path for paths in found.values() for path in paths]


def _in_given(task: GlueTask, given: Path, splits: Sequence[str]) -> dict[str, list[Path]]:
    if not given.is_dir():
        raise UserError.of("benchmark.data", given, "there is no such folder")
    found = _files(task, given / "glue" if (given / "glue").is_dir() else given, splits)
    missing = [split for split in splits if not found[split]]
    if missing:
        raise UserError.of("benchmark.data", given, f"GLUE's {task.name} needs {_wanted(task, missing)} in this folder")
    return found


def _wanted(task: GlueTask, splits: Sequence[str]) -> str:
    published = " and ".join(f"{task.name}/{split}.parquet (or .jsonl)" for split in splits)
    return f"{published}, or {' and '.join(f'{task.folder}/{_tsv_name(split)}' for split in splits)}"


def _tsv_name(split: str) -> str:
    kind, _, part = split.partition("_")
    return f"{_TSV_NAMES[kind]}{'_' + part if part else ''}.tsv"


def _files(task: GlueTask, base: Path, splits: Sequence[str]) -> dict[str, list[Path]]:
    """Return each split's files, all of one layout; an empty list where there are none."""
    found: dict[str, list[Path]] = {}
    for folder in (base / task.name, base / task.folder):
        for split in splits:
            shards = sorted(folder.glob(f"{split}-*.parquet"))
            single = [folder / name for name in (f"{split}.parquet", f"{split}.jsonl", _tsv_name(split))]
            present = shards or [path for path in single if path.is_file()][:1]
            found[split] = found.get(split) or present
    return found


def _read_files(task: GlueTask, split: str, paths: Sequence[Path]) -> list[tuple[Path | str, Table]]:
    readers = {".parquet": _read_parquet, ".jsonl": _read_jsonl, ".tsv": _read_tsv}
    return [(path, readers[path.suffix](task, path)) for path in paths]


def _read_parquet(task: GlueTask, path: Path) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        names = [name for name in pq.read_schema(path).names if name in (*task.columns, "label", "idx")]
        table: Table = read_parquet(path, names).to_pydict()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise Fault(f"{path}: not a readable Parquet file: {first_line(error)}") from error
    _require(path, (*task.columns, "label"), list(table))
    return table


def _read_jsonl(task: GlueTask, path: Path) -> Table:
    rows = read_json_lines(path, (*task.columns, "label"))
    names = (*task.columns, "label", *(["idx"] if all("idx" in row for row in rows) else []))
    return {name: [row[name] for row in rows] for name in names}


def _read_tsv(task: GlueTask, path: Path) -> Table:
    lines = [line.split("\t") for line in lines_of(read_text(path))]
    header = list(_COLA_COLUMNS) if task.name == "cola" else lines.pop(0)
    _require(path, task.tsv_columns, header)
    if task.name == "cola" and lines and len(lines[0]) != len(header):
        raise Fault(f"{path}: line 1 has {len(lines[0])} columns; CoLA's lines have {len(header)}: {', '.join(header)}")
    places = [header.index(column) for column in task.tsv_columns]
    cells = [[line[place] if place < len(line) else None for line in lines] for place in places]
    return dict(zip((*task.columns, "label"), cells, strict=True))


def _require(path: Path, columns: Sequence[str], present: Sequence[str]) -> None:
    missing = [column for column in columns if column not in present]
    if missing:
        raise Fault(f"{path}: column {missing[0]} is missing; it has {', '.join(present) or 'none'}")


def _from_hub(task: GlueTask, splits: Sequence[str]) -> dict[str, list[tuple[Path | str, Table]]]:
    """Load the pinned revision with `datasets`, which also has a cache of its own (used with HF_HUB_OFFLINE=1)."""
    import datasets
    from huggingface_hub import constants

    bars = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        # datasets itself tries for half a minute
        if not constants.HF_HUB_OFFLINE and (silence := no_answer(constants.ENDPOINT)):
            raise ConnectionError(silence)
        loaded = datasets.load_dataset(HUB_ID, task.name, revision=REVISION)
        return {split: [(f"{HUB_ID}/{task.name}/{split}", loaded[split].to_dict())] for split in splits}
    except Exception as error:
        reason = first_line(getattr(error, "reason", error))
        files = " and ".join(f"{split}-00000-of-00001.parquet" for split in splits)
        raise Fault(
            f"cannot load {task.name} of {HUB_ID} from the Hub ({reason}): put its {files} into "
            f"{DataSet('glue').cached / task.name}, or GLUE's {task.folder}/{_tsv_name('train')} and the like into a "
            "folder given with benchmark.data=<folder>"
        ) from error
    finally:
        if bars:
            datasets.enable_progress_bars()


def _collect(task: GlueTask, tables: Mapping[str, Sequence[tuple[Path | str, Table]]], where: str) -> GlueData:
    examples: dict[str, list[GlueExample]] = {}
    skipped: list[Skipped] = []
    rows = 0
    for split, parts in tables.items():
        examples[split] = []
        for path, table in parts:
            some, left_out = _examples(task, split, path, table)
            examples[split] += some
            skipped += left_out
            rows += len(some) + len(left_out)
        if not examples[split]:
            raise Fault(f"{where}: {split} of {task.name} has no row with a label")
    train = examples.pop("train")
    return GlueData(task, train, examples, skipped, rows)


def _examples(task: GlueTask, split: str, path: Path | str, table: Table) -> tuple[list[GlueExample], list[Skipped]]:
    columns = [table[column] for column in task.columns]
    items = table.get("idx") or range(len(table["label"]))
    examples, skipped = [], []
    for number, (item, raw, *texts) in enumerate(zip(items, table["label"], *columns, strict=True)):
        empty = [name for name, text in zip(task.columns, texts, strict=True) if not str(text or "").strip()]
        label = None if empty else _label(task, raw, f"{path}: row {number}")
        if label is None:
            reason = f"no {empty[0]}" if empty else "no label"
            skipped.append(Skipped(f"{task.name}/{split}/{item}", reason))
        else:
            examples.append(GlueExample(str(item), tuple(map(str, texts)), label))
    return examples, skipped


def _label(task: GlueTask, raw: Any, row: str) -> float | None:
    """Return a label as a number; None where there is none."""
    text = "" if raw is None else str(raw).strip()
    if text in _NO_LABEL:
        return None
    if text in task.labels:
        return task.labels.index(text)
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not task.labels:
        if not 0 <= number <= HIGHEST_SCORE:
            raise Fault(f"{row} has the score {text}; it must be from 0 to {HIGHEST_SCORE:g}")
        return number
    if number not in range(len(task.labels)):
        raise Fault(f"{row} has the label {text!r}; it must be one of {', '.join(task.labels)} or their numbers from 0")
    return int(number)


def digest_rows(data: GlueData) -> str:
    """Return one line that equal data share, for the name of what was computed from it."""
    parts = {"train": data.train, **data.validation}
    return json.dumps([[name, [[one.texts, one.label] for one in some]] for name, some in parts.items()])
