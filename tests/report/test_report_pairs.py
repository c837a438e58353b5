"""Pairs for inspection: the page, its filters, the console, and the command."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from rich.console import Console

from fairloop.pairs.pair import Pair, PairRow, save_pairs
from fairloop.report.pairs.command import command, find_table
from fairloop.report.pairs.page import render_pairs_page, spaced

HOSTILE = [
    "<script>alert('he')</script> He left.",
    '"><img src=x onerror=alert(1)> He left.',
    "{{ 7 * 7 }} {% raw %} He left.",
    "He \u202egnihtemos saw\x00 \x1b[31m.",
]
VOID = {"meta", "input", "img", "br"}


class Reader(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.attributes, self.rows, self.script, self.text = [], set(), [], [], "", []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs
        if tag == "tr" and "data-item" in dict(attrs):
            self.rows.append(dict(attrs))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.script += data
        else:
            self.text.append(data)


def row(item, male="He is a nurse.", target="nurse", attribute="he/she", **more):
    pair = Pair(item, male, male.replace("He", "She"), target, "occupation", attribute, "template")
    return PairRow(pair, **more)


def many(count=250):
    return [
        row(item, target=("nurse", "chef")[item % 2], fluency=-item / 100, dropped="toxic" if item % 5 == 0 else "")
        for item in range(count)
    ]


def test_the_page_shows_a_hundred_evenly_spaced_pairs_with_the_balance_of_all():
    page = Reader(render_pairs_page(many(), "cell <x>"))
    assert page.open == []
    assert len(page.rows) == 100
    items = [int(one["data-item"]) for one in page.rows]
    assert (items[0], items[-1]) == (0, 249)
    assert max(b - a for a, b in pairwise(items)) <= 3
    text = " ".join(" ".join(page.text).split())
    assert "cell <x>: 250 pairs, 200 kept, 50 dropped, 0 replaced; 100 of them below" in text
    first = page.rows[0]
    assert (first["data-status"], first["data-reason"], first["data-fluency"]) == ("dropped", "toxic", "0.0")
    assert "data-toxicity" not in first
    assert re.search(r"targets 2 100 100 1\.000", text)


def test_hostile_text_shows_as_text():
    rows = [row(item, male=text, attribute="<b>he</b>", dropped="<i>no</i>") for item, text in enumerate(HOSTILE)]
    source = render_pairs_page(rows, HOSTILE[0])
    page = Reader(source)
    assert page.open == []
    assert not page.tags & {"img", "b", "i"}
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    text = "".join(page.text)
    for hostile in HOSTILE[:3]:
        assert hostile in text
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\u202a-\u202e]", source)


def test_only_the_pages_own_script_may_run():
    source = render_pairs_page(many(3), "x")
    page = Reader(source)
    digest = base64.b64encode(hashlib.sha256(page.script.encode()).digest()).decode()
    policy = re.search(r'content="(default-src[^"]*)"', source).group(1)
    assert f"script-src 'sha256-{digest}'" in policy.replace("&#39;", "'").replace("&#43;", "+")
    assert "default-src 'none'" in policy.replace("&#39;", "'")
    assert source.count("<script") == 1


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node to run the page's script")
def test_the_filters_hide_and_order_rows():
    page = Reader(render_pairs_page([row(0, fluency=-1.0), row(1, fluency=-3.0, dropped="toxic"), row(2)], "x"))
    data = [{name.removeprefix("data-"): value for name, value in one.items()} for one in page.rows]
    harness = """
    const data = DATA;
    let elements = data.map((dataset) => ({dataset, hidden: false, textContent: "He is a nurse " + dataset.item}));
    const names = ["text", "status", "reason", "attribute", "kind", "source", "order"];
    const fields = names.map((name) => ({name, value: name === "order" ? "item" : "", addEventListener() {}}));
    let order = [];
    const tbody = {append: (...some) => { order = some; }};
    const form = {addEventListener() {}, hidden: true};
    const said = {};
    globalThis.document = {
      querySelectorAll: (what) => (what.startsWith("#pairs") ? elements : fields),
      querySelector: (what) => ({"#pairs tbody": tbody, "#shown": said, "#filters": form}[what]),
    };
    SCRIPT
    const report = [];
    function state(changes) {
      for (const field of fields) field.value = changes[field.name] ?? (field.name === "order" ? "item" : "");
      update();
      report.push([order.filter((row) => !row.hidden).map((row) => row.dataset.item).join(""), said.textContent]);
    }
    state({}); state({status: "kept"}); state({reason: "toxic"}); state({order: "fluency"}); state({order: "-fluency"});
    state({text: "NURSE 2"}); state({attribute: "names"});
    console.log(JSON.stringify([form.hidden, report]));
    """
    harness = harness.replace("DATA", json.dumps(data)).replace("SCRIPT", page.script.replace('"use strict";', ""))
    done = subprocess.run(["node", "-e", harness], capture_output=True, text=True, check=True, timeout=120)
    hidden, report = json.loads(done.stdout)
    assert hidden is False
    assert [one for one, _ in report] == ["012", "02", "1", "102", "012", "2", ""]
    assert [said for _, said in report][1] == "2 of 3 pairs"


def test_spacing():
    assert [one.pair.item for one in spaced(many(10), 3)] == [0, 4, 9]
    assert len(spaced(many(10), 100)) == 10
    assert spaced([], 5) == []
    assert render_pairs_page([], "nothing")


def test_the_command_prints_and_writes(tmp_path):
    stage = tmp_path / "cell" / "stages" / "02-screening"
    stage.mkdir(parents=True)
    (tmp_path / "cell" / "stages" / "01-pairs").mkdir()
    save_pairs(many(3), tmp_path / "cell" / "stages" / "01-pairs" / "pairs.parquet")
    save_pairs(many(7), stage / "pairs.parquet")
    console = Console(record=True, width=160, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    assert command([str(tmp_path / "cell"), "--count", "5"], console) == 0
    printed = console.export_text()
    assert "He is a nurse." in printed
    assert "7 pairs, 5 kept; dropped: toxic 2" in printed
    assert "2 targets: 2 to 3 kept pairs each" in printed
    assert len(Reader((tmp_path / "cell" / "pairs.html").read_text()).rows) == 5
    assert find_table(tmp_path / "cell").parent.name == "02-screening"
    assert sorted(path.name for path in stage.iterdir()) == ["pairs.parquet"]
    out = tmp_path / "else.html"
    assert command([str(stage / "pairs.parquet"), "--out", str(out)], console) == 0
    assert out.is_file()


def test_a_narrow_terminal_cuts_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    long = "He is a nurse [b]who has worked[/b] in the same hospital since 1998, when it was opened."
    rows = [
        row(0, long, fluency=-2.125, toxicity=0.0, target_rank=2504, aligned=True, replaced=True),
        row(1, "He\x1b[31m is a nurse.", fluency=-3.0, dropped="not fluent", replaced=True),
    ]
    save_pairs(rows, tmp_path / "pairs.parquet")
    assert command([str(tmp_path / "pairs.parquet")]) == 0
    assert capsys.readouterr().out.splitlines()[:-1] == [
        "0: kept",
        f"    male:   {long}",
        f"    female: {long.replace('He', 'She')}",
        "    nurse (occupation), he/she; fluency -2.12; toxicity 0; rank 2504; aligned yes",
        "1: dropped: not fluent",
        "    male:   He\ufffd[31m is a nurse.",
        "    female: She\ufffd[31m is a nurse.",
        "    nurse (occupation), he/she; fluency -3",
        "",
        "1 attributes: 1 to 1 kept pairs each, evenness 1.000",
        "1 targets: 1 to 1 kept pairs each, evenness 1.000",
        "2 pairs, 1 kept; dropped: not fluent 1",
        "2 proposed counterparts differed in more than gendered words: swapped sentences took their place",
    ]


def test_mistakes_end_with_one_line(tmp_path, capsys):
    assert command([str(tmp_path)]) == 2
    assert "neither a pairs.parquet nor" in capsys.readouterr().err
    broken = tmp_path / "pairs.parquet"
    broken.write_bytes(b"PAR1")
    assert command([str(broken)]) == 1
    assert "cannot be read as a table of pairs" in capsys.readouterr().err
    assert command([str(broken), "--count", "0"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
