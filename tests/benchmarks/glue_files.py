"""Small synthetic GLUE tasks with a rule that can be learned, written in the publishers' formats."""

import json

import numpy as np

NOUNS = ("nurse", "mother", "father")
LABELS = {
    "cola": ("unacceptable", "acceptable"),
    "sst2": ("negative", "positive"),
    "mrpc": ("not_equivalent", "equivalent"),
    "stsb": (),
    "qqp": ("not_duplicate", "duplicate"),
    "mnli": ("entailment", "neutral", "contradiction"),
    "qnli": ("entailment", "not_entailment"),
    "rte": ("entailment", "not_entailment"),
    "wnli": ("not_entailment", "entailment"),
}
COLUMNS = {
    "cola": ("sentence",),
    "sst2": ("sentence",),
    "qqp": ("question1", "question2"),
    "mnli": ("premise", "hypothesis"),
    "qnli": ("question", "sentence"),
}
PAIR = ("sentence1", "sentence2")
FOLDERS = {
    "cola": "CoLA",
    "sst2": "SST-2",
    "mrpc": "MRPC",
    "stsb": "STS-B",
    "qqp": "QQP",
    "mnli": "MNLI",
    "qnli": "QNLI",
    "rte": "RTE",
    "wnli": "WNLI",
}
#: The distribution's header of each TSV file, and the places of its texts and of its label.
HEADERS = {
    "sst2": ("sentence label", (0,), 1),
    "stsb": ("index genre filename year old_index source1 source2 sentence1 sentence2 score", (7, 8), 9),
    "qqp": ("id qid1 qid2 question1 question2 is_duplicate", (3, 4), 5),
    "mnli": (
        "index promptID pairID genre sentence1_binary_parse sentence2_binary_parse sentence1_parse sentence2_parse "
        "sentence1 sentence2 label1 gold_label",
        (8, 9),
        11,
    ),
    "qnli": ("index question sentence label", (1, 2), 3),
    "rte": ("index sentence1 sentence2 label", (1, 2), 3),
    "wnli": ("index sentence1 sentence2 label", (1, 2), 3),
}
NAMED_IN_TSV = ("mnli", "qnli", "rte")


def rows(task, count, seed=0):
    """Return (texts, label) by the rule: a keyword decides; in RTE whether both sentences name the same person."""
    random = np.random.default_rng(seed)
    made = []
    for number in range(count):
        said = ("works", "is kind", "was with men", "is like a worker")[random.integers(4)]
        if task == "rte":
            first, label = NOUNS[random.integers(2)], number % 2
            second = first if label == 0 else NOUNS[1 - NOUNS.index(first)]
            made.append(((f"the {first} {said}", f"was it the {second} ?"), label))
            continue
        classes = len(LABELS[task]) or 3
        label = number % classes
        texts = (f"the {NOUNS[label]} {said}",) if task in ("cola", "sst2") else (said, f"it is the {NOUNS[label]}")
        made.append((texts, label if LABELS[task] else 2.5 * label))
    return made


def splits(task, train, validation, seed=0):
    """Return the splits of a task with their rows; MNLI has two validation sets."""
    names = ("validation_matched", "validation_mismatched") if task == "mnli" else ("validation",)
    made = {"train": rows(task, train, seed)}
    return made | {name: rows(task, validation, seed + 1 + place) for place, name in enumerate(names)}


def write_task(base, task, layout, made):
    """Write a task's splits below `base` in one of the layouts tsv, parquet and jsonl; return its folder."""
    folder = base / (FOLDERS[task] if layout == "tsv" else task)
    folder.mkdir(parents=True, exist_ok=True)
    for split, some in made.items():
        if layout == "tsv":
            name = split.replace("validation", "dev")
            (folder / f"{name}.tsv").write_text(tsv(task, some, split), encoding="utf-8")
            continue
        table = [
            dict(zip(COLUMNS.get(task, PAIR), texts, strict=True)) | {"label": label, "idx": number}
            for number, (texts, label) in enumerate(some)
        ]
        if layout == "jsonl":
            (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table))
        else:
            import datasets

            datasets.Dataset.from_list(table).to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return folder


def tsv(task, some, split="train"):
    if task == "cola":
        return "".join(f"gj04\t{label}\t\t{texts[0]}\n" for texts, label in some)
    if task == "mrpc":
        lines = [f"{label}\t1\t2\t{first}\t{second}" for (first, second), label in some]
        return "\ufeff" + "\n".join(["Quality\t#1 ID\t#2 ID\t#1 String\t#2 String", *lines]) + "\n"
    header, places, label_place = HEADERS[task]
    names = header.split(" ")
    if task == "mnli" and split != "train":
        names[11:11], label_place = ["label2", "label3", "label4", "label5"], 15
    lines = ["\t".join(names)]
    for number, (texts, label) in enumerate(some):
        cells = [str(number)] * len(names)
        for place, text in zip(places, texts, strict=True):
            cells[place] = text
        cells[label_place] = LABELS[task][label] if task in NAMED_IN_TSV else str(label)
        lines.append("\t".join(cells))
    return "\n".join(lines) + "\n"
