"""GLUE: its data in every layout, damaged data, what a tiny model learns of it, its scores, and a kill in between."""

import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from glue_files import FOLDERS, LABELS, rows, splits, tsv, write_task
from plm_models import tiny

from fairloop.benchmarks import glue_data
from fairloop.benchmarks.glue_data import GLUE_TASKS, read
from fairloop.benchmarks.registry import measure, settings_of
from fairloop.errors import Fault, UserError
from fairloop.plm.memory import FolderMemory
from fairloop.plm.model import LanguageModel
from fairloop.plm.settings import PlmSettings
from fairloop.statistics.crossed import Spread, mean_of_independent
from fairloop.training.settings import TrainerSettings

CPU = TrainerSettings(accelerator="cpu", precision="float32", threads=1, checkpoint_every_steps=3)
QUICK = {"name": "glue", "seeds": 1, "batch_size": 16, "learning_rate": 3e-3, "dropout": 0.0}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Load a tiny random model from a folder, as a user's model is."""

    def load(family):
        folder = tmp_path_factory.getbasetemp() / f"glue-{family}"
        if not folder.exists():
            model, tokenizer, _ = tiny(family)
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        return LanguageModel.load(PlmSettings(name=family, path=str(folder), device="cpu"))

    return load


def evaluate(plm, base, tasks, **chosen):
    keys = {"memory": None, "scratch": None, "on_progress": None, "seed": 0}
    called = {key: chosen.pop(key, default) for key, default in keys.items()}
    settings = settings_of(QUICK | {"data": str(base), "tasks": tasks} | chosen)
    return measure(plm, settings, trainer=CPU, **called)


# --- data -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", FOLDERS)
def test_every_layout_of_every_task_gives_the_same_rows(task, tmp_path):
    made = splits(task, 12, 9)
    found = []
    for layout in ("tsv", "parquet", "jsonl"):
        write_task(tmp_path / layout, task, layout, made)
        found.append(read(GLUE_TASKS[task], str(tmp_path / layout)))
    assert found[0] == found[1] == found[2]
    assert {"train": found[0].train, **found[0].validation}.keys() == made.keys()
    for split, some in ({"train": found[0].train} | found[0].validation).items():
        assert [(one.texts, one.label) for one in some] == made[split]
        assert [one.item for one in some] == [str(number) for number in range(len(some))]
    assert found[0].rows == sum(map(len, made.values()))
    assert GLUE_TASKS[task].labels == LABELS[task]


def test_a_folder_named_glue_and_the_cache_are_found(tmp_path, monkeypatch):
    made = splits("rte", 4, 4)
    write_task(tmp_path / "given" / "glue", "rte", "tsv", made)
    write_task(tmp_path / "cache" / "benchmarks" / "glue", "rte", "parquet", made)
    monkeypatch.setenv("FAIRLOOP_CACHE", str(tmp_path / "cache"))
    assert read(GLUE_TASKS["rte"], str(tmp_path / "given")) == read(GLUE_TASKS["rte"], None)


def test_parts_of_a_parquet_split_are_put_together(tmp_path):
    folder = write_task(tmp_path, "rte", "parquet", splits("rte", 4, 4))
    (folder / "train-00000-of-00001.parquet").rename(folder / "train-00000-of-00002.parquet")
    other = write_task(tmp_path / "other", "rte", "parquet", splits("rte", 6, 4))
    (other / "train-00000-of-00001.parquet").rename(folder / "train-00001-of-00002.parquet")
    assert len(read(GLUE_TASKS["rte"], str(tmp_path)).train) == 10


def test_quotes_and_strange_line_ends_are_part_of_a_sentence(tmp_path):
    strange = [(('he said "no', "it\u2028is\x85so"), 0), (("a\x0bb", 'c"'), 1)]
    write_task(tmp_path, "rte", "tsv", {"train": strange, "validation": strange})
    assert [one.texts for one in read(GLUE_TASKS["rte"], str(tmp_path)).train] == [texts for texts, _ in strange]


@pytest.mark.parametrize("layout", ["tsv", "parquet", "jsonl"])
def test_rows_without_label_or_text_are_skipped_and_listed(layout, tmp_path):
    made = splits("stsb", 6, 6)
    made["validation"][1] = (("one", "two"), -1.0)
    made["validation"][4] = (("", "two"), 1.0)
    write_task(tmp_path, "stsb", layout, made)
    data = read(GLUE_TASKS["stsb"], str(tmp_path))
    assert [(item.item, item.reason) for item in data.skipped] == [
        ("stsb/validation/1", "no label"),
        ("stsb/validation/4", "no sentence1"),
    ]
    assert (len(data.validation["validation"]), data.rows) == (4, 12)


def test_a_broken_line_of_qqp_is_skipped_and_not_taken_for_another(tmp_path):
    folder = write_task(tmp_path, "qqp", "tsv", splits("qqp", 6, 6))
    with (folder / "dev.tsv").open("a") as file:
        file.write("7\t8\t9\tonly one question\n")
    data = read(GLUE_TASKS["qqp"], str(tmp_path))
    assert [(item.item, item.reason) for item in data.skipped] == [("qqp/validation/6", "no question2")]


def _rte(**changed):
    made = {"train.tsv": tsv("rte", rows("rte", 4)), "dev.tsv": tsv("rte", rows("rte", 4))}
    return {name: changed.get(name.removesuffix(".tsv"), content) for name, content in made.items()}


@pytest.mark.parametrize(
    ("task", "files", "line"),
    [
        ("rte", _rte(dev="index\tsentence1\tlabel\n0\ta\tentailment\n"), r"dev\.tsv: column sentence2 is missing; it"),
        ("rte", _rte(train="caf\xe9\n".encode("latin-1")), r"train\.tsv: not UTF-8 text \(byte 3\)"),
        ("rte", _rte(train=""), r"train\.tsv: the file is empty"),
        ("rte", _rte(train="index\tsentence1\tsentence2\tlabel\n"), r"train of rte has no row with a label"),
        (
            "rte",
            _rte(dev="index\tsentence1\tsentence2\tlabel\n0\ta\tb\tmaybe\n"),
            r"dev\.tsv: row 0 has the label 'maybe'; it must be one of entailment, not_entailment or their numbers",
        ),
        (
            "rte",
            _rte(dev="index\tsentence1\tsentence2\tlabel\n0\ta\tb\t2\n"),
            r"row 0 has the label '2'; it must be one of",
        ),
        (
            "rte",
            _rte(dev="index\tsentence1\tsentence2\tlabel\n0\ta\tb\t-1\n"),
            "validation of rte has no row with a label",
        ),
        ("rte", {"train.jsonl": '{"sentence1": 1}', "dev.tsv": _rte()["dev.tsv"]}, r"line 1 has no 'sentence2'"),
        ("rte", {"train.parquet": b"nonsense", "dev.tsv": _rte()["dev.tsv"]}, r"train\.parquet: not a readable Parq"),
        ("stsb", {name: tsv("stsb", [(("a", "b"), 5.5)]) for name in _rte()}, "row 0 has the score 5.5; it must be fr"),
        ("stsb", {name: tsv("stsb", [(("a", "b"), -0.2)]) for name in _rte()}, "row 0 has the score -0.2; it must be"),
        ("cola", {"train.tsv": "a\tb\n", "dev.tsv": "a\tb\n"}, r"line 1 has 2 columns; CoLA's lines have 4"),
    ],
)
def test_damaged_data_is_one_line_that_names_the_file(task, files, line, tmp_path):
    folder = tmp_path / FOLDERS[task]
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(Fault, match=line) as caught:
        read(GLUE_TASKS[task], str(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_folder_without_the_task_says_which_files_it_needs(tmp_path):
    with pytest.raises(UserError, match="there is no such folder"):
        read(GLUE_TASKS["rte"], str(tmp_path / "none"))
    (write_task(tmp_path, "mnli", "tsv", splits("mnli", 3, 3)) / "dev_mismatched.tsv").unlink()
    wanted = r"mnli/validation_mismatched\.parquet \(or \.jsonl\), or MNLI/dev_mismatched\.tsv in this folder"
    with pytest.raises(UserError, match=wanted):
        read(GLUE_TASKS["mnli"], str(tmp_path))


def test_without_a_network_one_line_says_which_file_to_put_where(tmp_path, monkeypatch):
    monkeypatch.setenv("FAIRLOOP_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)

    def unreachable(*_, **__):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    with pytest.raises(Fault, match=r"cannot load rte of nyu-mll/glue from the Hub \(no route to host\)") as caught:
        read(GLUE_TASKS["rte"], None)
    folder = tmp_path / "benchmarks" / "glue" / "rte"
    wanted = f"put its train-00000-of-00001.parquet and validation-00000-of-00001.parquet into {folder}, or"
    assert wanted in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_hub_is_asked_for_the_pinned_revision(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setenv("FAIRLOOP_CACHE", str(tmp_path))
    monkeypatch.setattr(glue_data, "no_answer", lambda _: "")
    asked = []
    made = splits("rte", 5, 4)

    def load_dataset(*arguments, **options):
        asked.append((arguments, options))
        names = ("sentence1", "sentence2", "label", "idx")
        tables = {
            split: [dict(zip(names, (*texts, label, n), strict=True)) for n, (texts, label) in enumerate(some)]
            for split, some in made.items()
        }
        return {split: datasets.Dataset.from_list(table) for split, table in tables.items()}

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    write_task(tmp_path / "given", "rte", "tsv", made)
    assert read(GLUE_TASKS["rte"], None) == read(GLUE_TASKS["rte"], str(tmp_path / "given"))
    assert asked == [(("nyu-mll/glue", "rte"), {"revision": "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"})]


# --- settings and names ---------------------------------------------------------------------------------------------


def test_tasks_are_checked_and_their_order_decides_nothing():
    assert settings_of({"name": "glue", "tasks": ["rte", "cola"]}).tasks == ("cola", "rte")
    assert settings_of({"name": "glue", "tasks": "rte"}).tasks == ("rte",)
    assert settings_of({"name": "glue", "tasks": []}).tasks == tuple(FOLDERS)
    with pytest.raises(UserError, match=r"^benchmark.tasks=rta: choose among cola, sst2"):
        settings_of({"name": "glue", "tasks": ["rta"]})


def test_the_mean_is_the_leaderboards():
    """The human baseline of Nangia and Bowman (2019), whose mean on the leaderboard is 87.1."""
    human = {
        "cola": [66.4],
        "sst2": [97.8],
        "mrpc": [86.3, 80.8],
        "stsb": [92.7, 92.6],
        "qqp": [59.5, 80.4],
        "mnli": [92.0, 92.8],
        "qnli": [91.2],
        "rte": [93.6],
        "wnli": [95.9],
    }
    scores = [Spread(float(np.mean(some)), 1.0, 9.0) for some in human.values()]
    assert mean_of_independent(scores).mean == pytest.approx(87.1, abs=0.05)


def test_a_model_that_was_not_loaded_from_files_is_refused():
    model, tokenizer, kind = tiny("bert")
    with pytest.raises(UserError, match="GLUE fine-tunes a model from its files"):
        measure(LanguageModel(model, tokenizer, kind), settings_of({"name": "glue"}))


# --- learning and scores --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "task", "chosen"),
    [
        ("bert", "rte", {"epochs": 15}),
        ("gpt2", "sst2", {"epochs": 6}),
        ("distilbert", "stsb", {"epochs": 8}),
        ("bert", "cola", {"epochs": 20, "weights": "frozen", "learning_rate": 0.03}),
        pytest.param("roberta", "mnli", {"epochs": 8}, marks=pytest.mark.slow),
        pytest.param("gemma3", "qqp", {"epochs": 6}, marks=pytest.mark.slow),
        pytest.param("albert", "qnli", {"epochs": 8}, marks=pytest.mark.slow),
        pytest.param("gpt2", "mrpc", {"epochs": 10, "weights": "lora", "learning_rate": 1e-2}, marks=pytest.mark.slow),
    ],
)
def test_a_tiny_random_model_learns_the_rule(saved, family, task, chosen, tmp_path):
    write_task(tmp_path, task, "tsv", splits(task, 192, 48))
    result = evaluate(saved(family), tmp_path, [task], patience=4, **chosen)
    for measurement in result.measurements:
        if measurement.metric.startswith(f"glue/{task}/"):
            assert measurement.value > 90, measurement
    assert {len(item.predictions.split(";")) for item in result.items} == {1}


def test_all_nine_tasks_their_names_scores_and_mean(saved, tmp_path):
    for number, task in enumerate(FOLDERS):
        write_task(tmp_path, task, ("tsv", "parquet", "jsonl")[number % 3], splits(task, 16, 12))
    seen = []
    result = evaluate(
        saved("bert"),
        tmp_path,
        [],
        epochs=2,
        max_steps=1,
        on_progress=lambda done, total: seen.append((done, total)),
    )
    values = {measurement.metric: measurement.value for measurement in result.measurements}
    by_task = {}
    for task, measures in {
        "cola": ["matthews"],
        "mrpc": ["accuracy", "f1"],
        "stsb": ["pearson", "spearman"],
        "qqp": ["accuracy", "f1"],
        "mnli": ["accuracy_matched", "accuracy_mismatched"],
    }.items():
        by_task[task] = [values.pop(f"glue/{task}/{name}") for name in measures]
        if len(measures) > 1:
            assert values.pop(f"glue/{task}/score") == pytest.approx(sum(by_task[task]) / 2)
    for task in ("sst2", "qnli", "rte", "wnli"):
        by_task[task] = [values.pop(f"glue/{task}/accuracy")]
    assert values.pop("glue/mean") == pytest.approx(np.mean([np.mean(some) for some in by_task.values()]))
    assert values.pop("glue/skipped") == 0
    assert values == {}
    assert len(result.items) == 10 * 12
    assert seen[-1] == (9, 9)  # nine tasks, one seed and one step each
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_scores_are_those_of_the_listed_predictions_by_hand(saved, tmp_path):
    write_task(tmp_path, "mrpc", "tsv", splits("mrpc", 32, 24))
    result = evaluate(saved("bert"), tmp_path, ["mrpc"], epochs=1, max_steps=2, seeds=3, learning_rate=1e-2)
    labels = LABELS["mrpc"]
    truth = [labels.index(item.label) for item in result.items]
    accuracies, f1s = [], []
    for seed in range(3):
        said = [labels.index(item.predictions.split(";")[seed]) for item in result.items]
        both = list(zip(truth, said, strict=True))
        accuracies.append(100 * sum(a == b for a, b in both) / len(both))
        true, false, missed = (both.count(kind) for kind in ((1, 1), (0, 1), (1, 0)))
        f1s.append(100 * 2 * true / (2 * true + false + missed) if true else 0.0)
    assert result.value("glue/mrpc/accuracy") == pytest.approx(np.mean(accuracies))
    assert result.value("glue/mrpc/f1") == pytest.approx(np.mean(f1s))
    scores = (np.array(accuracies) + np.array(f1s)) / 2
    assert result.value("glue/mrpc/seed_sd") == pytest.approx(np.std(scores, ddof=1))
    assert np.mean([item.right for item in result.items]) == pytest.approx(np.mean(accuracies) / 100)
    for name in ("accuracy", "f1", "score"):
        (one,) = (some for some in result.measurements if some.metric == f"glue/mrpc/{name}")
        if one.value == 0:  # no seed calls anything a paraphrase: nothing varies
            assert (name, one.low) == ("f1", None)
        else:
            assert one.low < one.value < one.high
        assert (one.n, one.units) == (24, 24)


def test_a_limited_training_set_and_cut_texts_are_said(saved, tmp_path):
    made = splits("rte", 40, 12)
    made["validation"][3] = (("the nurse " * 20, "was it the mother ?"), 1)
    write_task(tmp_path, "rte", "tsv", made)
    chosen = {"epochs": 1, "max_steps": 1, "max_length": 24}
    result = evaluate(saved("bert"), tmp_path, ["rte"], train_limit=20, **chosen)
    names = {measurement.metric for measurement in result.measurements}
    assert names == {"glue/rte_train20/accuracy", "glue/mean_of_1_train20", "glue/skipped"}
    assert "at most 20 training items" in result.protocol
    assert result.notes == (
        "rte: trained on 20 of 40 items (train_limit)",
        "rte: 1 of 12 items of validation were cut to 24 tokens",
    )
    whole = evaluate(saved("bert"), tmp_path, ["rte"], train_limit=100, **chosen)
    assert {"glue/rte/accuracy", "glue/mean_of_1"} < {measurement.metric for measurement in whole.measurements}


def test_a_batch_larger_than_the_training_set_is_refused_before_any_training(saved, tmp_path):
    write_task(tmp_path, "sst2", "tsv", splits("sst2", 64, 8))
    write_task(tmp_path, "wnli", "tsv", splits("wnli", 8, 8))
    with pytest.raises(UserError, match=r"^benchmark.batch_size=16: at most 8, the training items of wnli$"):
        evaluate(saved("bert"), tmp_path, ["sst2", "wnli"])


# --- resume ---------------------------------------------------------------------------------------------------------

KILLED = {"epochs": 3, "seeds": 2, "dropout": 0.1}  # 6 steps each


def test_killed_while_training_it_goes_on_and_gives_the_same_bits(saved, tmp_path):
    write_task(tmp_path / "data", "rte", "tsv", splits("rte", 32, 16))
    plm, folder = saved("bert"), tmp_path / "scratch"
    script = f"""
import os, signal, sys
sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[1] / "plm")]!r}
from pathlib import Path
from test_benchmarks_glue import CPU, KILLED, FolderMemory, LanguageModel, PlmSettings, evaluate
plm = LanguageModel.load(PlmSettings(name="bert", path={plm.path!r}, device="cpu"))
folder = Path({str(folder)!r})
def kill(done, total):
    if done == 11:
        os.kill(os.getpid(), signal.SIGKILL)
kept = dict(memory=FolderMemory(folder), scratch=folder)
evaluate(plm, {str(tmp_path / "data")!r}, ["rte"], on_progress=kill, **kept, **KILLED)
"""
    killed = subprocess.run([sys.executable, "-c", script], timeout=240, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    seen = []
    again = evaluate(
        plm,
        tmp_path / "data",
        ["rte"],
        memory=FolderMemory(folder),
        scratch=folder,
        on_progress=lambda done, _: seen.append(done),
        **KILLED,
    )
    assert seen == [11, 12, 12]  # the first seed's model was finished, the second goes on after its tenth step
    kept = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert len(kept) == 2, "checkpoints are removed, the answers of both seeds' models are kept"
    other = tmp_path / "whole"
    whole = evaluate(plm, tmp_path / "data", ["rte"], memory=FolderMemory(other), scratch=other, **KILLED)
    assert kept == {path.name: path.read_bytes() for path in other.iterdir()}
    assert (again.measurements, again.items) == (whole.measurements, whole.items)
