"""What is in a file or folder names the cell that reads it, wherever it lies."""

import json
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))  # for the module `tiny_models`

from fairloop import composition
from fairloop.benchmarks import data
from fairloop.errors import UserError
from fairloop.studies.runner import run_cell
from fairloop.sweep.jobs import Job
from tiny_models import tiny_masked_lm

EVALUATE = ("study=evaluate", "plm=minilm", "tracking=none", "trainer.threads=1", "benchmark.resamples=100")
HEADER = ",sent_more,sent_less,stereo_antistereo,bias_type,annotations,anon_writer,anon_annotators\n"


def job(*overrides):
    with composition.composer():
        return Job.of(composition.validate(composition.compose_config(overrides)))


def name(*overrides):
    return job(*overrides).cell.key


def written(folder, file, text):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text(text)
    return folder


def crows_pairs(folder, text):
    row = f"0,{text} cooks.,She cooks.,stereo,gender,[],a0,[]\n"
    return written(folder, "crows_pairs_anonymized.csv", HEADER + row)


@pytest.mark.parametrize("key", ["benchmark.data", "study.data"])
def test_other_data_is_another_cell_and_moved_data_the_same(tmp_path, key):
    study = {"benchmark.data": (*EVALUATE, "benchmark=crows_pairs"),
             "study.data": ("study=fair_gender", "study.benchmarks=[crows_pairs]", "benchmark.verify=false",
                            "benchmark=crows_pairs")}[key]  # fmt: skip
    first, moved, other = (crows_pairs(tmp_path / one, text) for one, text in
                           (("a", "He"), ("b/crows_pairs", "He"), ("c", "John")))  # fmt: skip
    names = [name(*study, f"{key}={folder}") for folder in (first, moved.parent, other)]
    assert names[0] == names[1] != names[2]
    crows_pairs(first, "Peter")
    assert name(*study, f"{key}={first}") not in names
    with pytest.raises(UserError, match=r"benchmark\.data=.*: there is no such folder"):
        name(*study, f"{key}={tmp_path}/nowhere")


def test_the_publishers_files_are_the_same_in_a_folder_and_in_the_cache(tmp_path, monkeypatch):
    given = crows_pairs(tmp_path / "given", "He")
    digest = data.digest(given / "crows_pairs_anonymized.csv")
    row = {"dataset": "crows_pairs", "file": "crows_pairs_anonymized.csv", "url": "", "sha256": digest, "fetch": "yes"}
    monkeypatch.setattr(data, "_sources", lambda: (row,))
    monkeypatch.setenv("FAIRLOOP_CACHE", str(tmp_path / "cache"))
    chosen = (*EVALUATE, "benchmark=crows_pairs")
    to_be_fetched = name(*chosen)
    assert name(*chosen, f"benchmark.data={given}") == to_be_fetched
    crows_pairs(tmp_path / "cache" / "benchmarks" / "crows_pairs", "He")
    assert name(*chosen) == to_be_fetched
    crows_pairs(tmp_path / "cache" / "benchmarks" / "crows_pairs", "Peter")
    assert name(*chosen, "benchmark.verify=false") != name(*chosen, "benchmark.verify=false", f"benchmark.data={given}")


def test_some_of_the_publishers_tests_are_not_all_of_them(tmp_path, monkeypatch):
    both = written(written(tmp_path / "both", "one.jsonl", "1"), "two.jsonl", "2")
    rows = [{"dataset": "seat", "file": file.name, "url": "", "sha256": data.digest(file), "fetch": "yes"}
            for file in both.iterdir()]  # fmt: skip
    monkeypatch.setattr(data, "_sources", lambda: tuple(rows))
    monkeypatch.setenv("FAIRLOOP_CACHE", str(tmp_path / "cache"))
    chosen = (*EVALUATE, "benchmark=seat")
    assert name(*chosen, f"benchmark.data={both}") == name(*chosen)
    assert name(*chosen, f"benchmark.data={written(tmp_path / 'one', 'one.jsonl', '1')}") != name(*chosen)
    written(both, "mine.jsonl", "3")
    assert name(*chosen, f"benchmark.data={both}") != name(*chosen)


def test_the_files_of_the_chosen_glue_tasks_count(tmp_path):
    for task in ("rte", "wnli"):
        for split in ("train", "validation"):
            written(tmp_path / "glue" / task, f"{split}.jsonl", task + split)
    chosen = (*EVALUATE[:-1], "benchmark=glue", f"benchmark.data={tmp_path}", "benchmark.tasks=[rte]")
    before = name(*chosen)
    written(tmp_path / "glue" / "wnli", "train.jsonl", "other")
    assert name(*chosen) == before
    written(tmp_path / "glue" / "rte", "train.jsonl", "other")
    assert name(*chosen) != before


def test_an_edited_text_never_gets_the_old_number(tmp_path):
    words = ("the", "nurse", "cooks", "dinner", "today", ".")
    plm, text = tiny_masked_lm(tmp_path / "plm", words=words), tmp_path / "text.txt"

    def run(lines):
        text.write_text(lines)
        found = job(*EVALUATE, f"plm.path={plm}", "benchmark=perplexity", f"benchmark.text={text}",
                    f"runs_dir={tmp_path / 'runs'}")  # fmt: skip
        run_cell(found.configuration, found.cell)
        return found.cell.folder, json.loads((found.cell.folder / "result.json").read_text())

    first, second = run("the nurse cooks .\n"), run("the nurse cooks dinner today .\n")
    assert first[0] != second[0]
    assert first[1]["perplexity/tokens"] != second[1]["perplexity/tokens"]
    assert run("the nurse cooks .\n") == first
