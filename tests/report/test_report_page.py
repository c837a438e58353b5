import json
import re
from html.parser import HTMLParser

import pytest
from report_store import make_cell, make_corpus, make_demo

from fairloop.report import samples
from fairloop.report.page import render_page
from fairloop.report.payload import plotly, script
from fairloop.report.read import read_runs
from fairloop.report.recursion.conditions import conditions
from fairloop.report.recursion.strategies import comparisons
from fairloop.report.recursion.trajectories import trajectories_figure
from fairloop.report.samples import sample_corpora, visible

HOSTILE = [
    "<script>alert('owned')</script> The nurse said \"she\" & left.",
    "</li></ol></details><img src=x onerror=alert(1)>",
    "{{ 7 * 7 }} {% raw %} ${HOME} `id`",
    "The nurse \u202egnihtemos saw \u2066her\u2069.",
    "A\x00B\x07C\x1b[31mD\x85E",
    "supercalifragilistic" * 200,
    "The 👩🏽‍⚕️ nurse smiled 😀.",
    "الممرضة قالت إنها متعبة",
    "",
]


VOID = {"meta", "img", "br", "link", "input"}


class Reader(HTMLParser):
    """What a browser would see: the tags, their attributes, the text, and whether the tags match."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], set(), [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "script" not in self.open:  # what a script holds is not shown
            self.text.append(data)


def only_packaged_scripts(page):
    """Whether the page's scripts are its data and the packaged one, which alone the page's policy allows."""
    policy = re.findall(r"'(sha256-[^']+)'", re.search(r"script-src ([^;\"]+)", page)[1])
    kinds = re.findall(r"<script([^>]*)>(.*?)</script>", page, re.DOTALL | re.IGNORECASE)
    drawn = "charts.js" if 'class="chart"' in page else None
    packaged = [plotly()] if drawn else []
    packaged.append(script(*filter(None, ("tables.js", "elements.js", "cells.js", drawn))))
    if [kind for kind, _ in kinds] != [' type="application/json" id="data"', *("" for _ in packaged)]:
        return False
    json.loads(kinds[0][1])
    return [(text, digest) for (_, text), digest in zip(kinds[1:], policy, strict=True)] == packaged


def page_of(runs_dir, compared=False):
    runs = read_runs(runs_dir)
    found = conditions(runs.cells)
    return render_page(
        runs, found, trajectories_figure(found) if found else None, comparisons(found) if compared else ()
    )


def test_hostile_sentences_show_as_text(tmp_path):
    make_cell(tmp_path, texts=HOSTILE[:8])
    page = page_of(tmp_path)
    seen = Reader(page)
    assert seen.open == []
    assert only_packaged_scripts(page)
    assert not [name for name, _ in seen.attributes if name.startswith("on")]
    text = "".join(seen.text)
    assert HOSTILE[0] in text
    assert HOSTILE[1] in text
    assert HOSTILE[2] in text
    assert HOSTILE[6].replace("\u200d", "\u200d") in text
    assert HOSTILE[7] in text
    ours = page.replace(plotly()[0], "")  # the library's own text holds such a character
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", ours)
    assert "49" not in re.findall(r"\{\{ 7 \* 7 \}\}|49 \{%", text)
    assert len(max(text.split(), key=len)) <= 600


def test_hostile_settings_names_and_reasons_show_as_text(tmp_path):
    make_cell(tmp_path, model="<b>model</b>", encoder='"><script>x</script>\u202e')
    make_cell(tmp_path, level=0.1, model="<b>model</b>", state="failed", reason="<i>disk</i>\x1b[0m")
    page = page_of(tmp_path)
    seen = Reader(page)
    assert only_packaged_scripts(page)
    assert not seen.tags & {"b", "i"}
    text = "".join(seen.text)
    assert "<b>model</b>" in text
    assert "<i>disk</i>" in text
    assert "<script>x</script>" in text


def test_the_page_needs_no_network(tmp_path):
    make_demo(tmp_path, texts=["The nurse said she was tired."])
    page = page_of(tmp_path)
    seen = Reader(page)
    for name, value in seen.attributes:
        if name in ("src", "href", "srcset", "data", "action"):
            assert value.startswith(("data:image/svg+xml;base64,", "#"))
    assert not seen.tags & {"link", "iframe", "object", "embed", "base"}
    assert only_packaged_scripts(page)
    assert not re.search(
        r"fetch|XMLHttpRequest|import\s*\(|innerHTML|eval",
        str(script("tables.js", "elements.js", "unfiltered.js", "cells.js", "charts.js")[0]),
    )


def test_every_section_is_there_and_the_links_lead_to_it(tmp_path):
    make_demo(tmp_path, mitigations=((), ("augment",)), texts=["The plumber fixed his van."])
    make_cell(tmp_path, level=0.9, state="running")
    page = page_of(tmp_path, compared=True)
    seen = Reader(page)
    links = {value[1:] for name, value in seen.attributes if name == "href"}
    assert links == {"trajectories", "mitigations", "embedding", "metrics", "configuration", "cells", "left-out"}
    assert links <= {value for name, value in seen.attributes if name == "id"}
    text = "".join(seen.text)
    for wanted in (
        "Equilibrium",
        "Relative change",
        "gendered share",
        "generation 1: 93%",
        "The plumber fixed his van.",
        "interrupted",  # no process holds it
    ):
        assert wanted in text
    assert "prefers-color-scheme: dark" in page
    assert "width=device-width" in page


def test_the_page_is_the_same_each_time(tmp_path):
    make_demo(tmp_path, texts=["The nurse said she was tired."])
    assert page_of(tmp_path) == page_of(tmp_path)


def test_a_store_without_recursion_still_has_a_page(tmp_path):
    make_cell(tmp_path, study="fair_gender")
    text = "".join(Reader(page_of(tmp_path)).text)
    assert "Cells of other studies" in text


def test_sentences_are_spread_over_each_corpus_in_the_order_of_the_stages(tmp_path):
    folder = make_cell(tmp_path, texts=[f"Sentence {i} about a nurse." for i in range(100)])
    corpora = sample_corpora(folder, 5)
    assert [corpus.generation for corpus in corpora] == [0, 1, 2, 3]
    assert corpora[0].sentences == 100
    shown = ["".join(piece.text for piece in sample.pieces) for sample in corpora[0].samples]
    assert shown == [f"Sentence {i} about a nurse." for i in (0, 25, 50, 74, 99)]


def test_rejected_texts_are_shown_with_their_reasons_as_text(tmp_path):
    folder = make_cell(tmp_path, texts=["One."])
    kept = {"a fragment": [HOSTILE[0], "A nurse.", "Two.", "The fourth is left out."], "<b>copied</b>": HOSTILE[4:5]}
    (folder / "stages" / "01-corpus_1" / "rejected.json").write_text(json.dumps(kept))
    (folder / "stages" / "02-corpus_2" / "rejected.json").write_text('{"a fragment": 7')
    page = page_of(tmp_path)
    text = "".join(Reader(page).text)
    for shown in ("Texts that could not be used", "a fragment", "A nurse.", "<script>alert('owned')</script>"):
        assert shown in text
    assert "The fourth is left out." not in text
    assert "\x1b" not in page
    assert "b" not in Reader(page).tags


def test_a_corpus_that_cannot_be_read_is_named(tmp_path):
    folder = make_cell(tmp_path, texts=["One."])
    (folder / "stages" / "01-corpus_1" / "corpus.parquet").write_bytes(b"PAR1 half a file")
    make_corpus(folder / "stages" / "09-empty" / "corpus.parquet", [], 9)
    found = {corpus.stage: corpus for corpus in sample_corpora(folder)}
    assert found["01-corpus_1"].problem
    assert found["09-empty"].samples == ()
    assert "this corpus cannot be read" in page_of(tmp_path)


def test_gendered_words_are_marked_and_bad_spans_lose_no_text(tmp_path, monkeypatch):
    def spans(text):
        return [(m.start(), m.end(), "female") for m in re.finditer("she", text)] + [
            (2, 1, "male"),
            (0, 10_000, "male"),
        ]

    monkeypatch.setattr(samples, "_gendered_spans", lambda: spans)
    folder = make_cell(tmp_path, texts=["When she <b> ran, she fell."])
    pieces = sample_corpora(folder)[0].samples[0].pieces
    assert [piece.text for piece in pieces if piece.gender == "female"] == ["she", "she"]
    assert "".join(piece.text for piece in pieces) == "When she <b> ran, she fell."
    assert page_of(tmp_path).count('<mark class="female">she</mark>') == 8


@pytest.mark.parametrize("text", HOSTILE)
def test_visible_text_keeps_what_can_be_seen(text):
    shown = visible(text)
    assert len(shown) <= 600
    assert visible(shown) == shown
    if text.isascii() and text.isprintable() and len(text) <= 600:
        assert shown == text


def test_cells_that_were_computed_with_different_hardware_are_told_apart(tmp_path):
    make_cell(tmp_path, seed=0, numerics=["AMX bfloat16, 1a2b3c4d"])
    make_cell(tmp_path, seed=1, numerics=["AVX2 float32, 5e6f7a8b"])
    make_cell(tmp_path, seed=2)
    runs = read_runs(tmp_path)
    text = " ".join(Reader(render_page(runs, conditions(runs.cells), None)).text)
    assert "AMX bfloat16, 1a2b3c4d" in text
    assert "equal in distribution, not to the byte" in text
    alike = read_runs(tmp_path, [cell.folder for cell in runs.cells if cell.seed != "0"])
    assert "Computed with" not in render_page(alike, conditions(alike.cells), None)
