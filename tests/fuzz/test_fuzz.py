# ruff: noqa: F811
"""Hostile input: every answer is a result or one line, never another exception, in bounded time."""

import json
import math
import re
import shutil
import string
import tempfile
from html.parser import HTMLParser
from pathlib import Path

from counts import tried
from fuzzing import fuzz, share  # noqa: F401 - fixtures
from hypothesis import strategies as st
from report_store import make_cell
from stand_in_server import serving
from test_generation_server import attempts, settings, texts
from toy_study import run as run_toy

from fairloop import composition
from fairloop.benchmarks import data, glue_data, seat
from fairloop.config import check
from fairloop.corpus.quality import read_rows
from fairloop.errors import FairloopError
from fairloop.files import csv_rows
from fairloop.generation.server import ServerGenerator
from fairloop.pairs.sentence_files import texts_of
from fairloop.plm import locate
from fairloop.report.latex import escape
from fairloop.report.page import render_page
from fairloop.report.read import read_runs
from fairloop.report.recursion.conditions import conditions
from fairloop.settings import known_keys
from fairloop.tracking.results import measurements_of
from fairloop.tracking.store import is_complete

KEYS = known_keys(composition.Configuration)
GROUPS = [
    "study",
    "model",
    "plm",
    "debias",
    "benchmark",
    "mitigation",
    "initial_bias",
    "trainer",
    "tracking",
    "ablation",
]
VALUES = st.one_of(
    st.text(max_size=30),
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(
        ["null", "true", "[]", "{}", "[1,a]", "{a:1}", "range(3)", "glob(*)", "${seed}", "${oc.env:HOME}", "???"]
    ),
)
WORDS = st.one_of(
    st.builds("{}={}".format, st.sampled_from(KEYS), VALUES),
    st.builds(
        "{}={}".format, st.sampled_from(GROUPS), st.one_of(VALUES, st.sampled_from(["fair_gender", "none", "glue"]))
    ),
    st.builds("{}{}={}".format, st.sampled_from(["+", "++", "~", ""]), st.text(max_size=20), VALUES),
    st.sampled_from(
        ["-m", "--cfg", "job", "--resolve", "-p", "study", "--config-dir", "/nope", "--info", "-h", "--version"]
    ),
    st.text(max_size=40),
)


def one_line(error: FairloopError) -> None:
    assert "\n" not in str(error)
    assert str(error).isprintable()
    assert len(str(error)) < 2600


def test_the_command_line(fuzz):
    def target(words):
        tried["command lines"] += 1
        try:
            flags = composition.parse_arguments(words)
            composition.parse_overrides(flags.overrides)
            with composition.composer():
                for line in composition.expand_sweep(flags.overrides, None)[:2]:
                    check(composition.resolve(composition.compose_config(line))).deciding()
        except FairloopError as error:
            one_line(error)

    fuzz(target, st.lists(WORDS, max_size=4))


VALID = {
    "a.csv": b'text,target,occupation,gender\n"He, a nurse, left.",nurse,nurse,male\nShe ran.,pilot,pilot,female\n',
    "a.txt": b"He is a nurse.\nShe is a pilot.\n",
    "metrics.csv": b"generation,metric,value,low,high,n,units\n0,rule/x,0.1,0,1,3,3\n,equilibrium/level,0.1,,,9,\n",
    "a.jsonl": b'{"sentence": "It rains.", "label": 1}\n{"sentence": "It does not.", "label": 0}\n',
    "seat.jsonl": json.dumps(
        {name: {"category": name, "examples": ["a b", "c d"]} for name in ("targ1", "targ2", "attr1", "attr2")}
    ).encode(),
    "sst2.tsv": b"sentence\tlabel\nIt rains .\t1\nNo .\t0\n",
    "config.json": b'{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}',
}
READERS = {
    "a.csv": [lambda path: texts_of(str(path), "k"), read_rows, lambda path: data.read_csv(path, ("text", "target"))],
    "a.txt": [lambda path: texts_of(str(path), "k"), data.read_text],
    "metrics.csv": [lambda path: measurements_of(path.read_text()), lambda path: csv_rows(path.read_text())],
    "a.jsonl": [lambda path: data.read_json_lines(path, ("sentence",))],
    "seat.jsonl": [lambda path: seat.read(path.parent)],
    "sst2.tsv": [lambda path: glue_data.read(glue_data.GLUE_TASKS["sst2"], str(path.parent))],
    "config.json": [lambda path: locate.require(str(path.parent), None, "model.path")],
}


@st.composite
def damaged(draw, content):
    """A valid content with a few bytes changed, put in or cut away, or any bytes at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=300))
    content = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(content) - 1)))
        kind = draw(st.sampled_from(["flip", "insert", "cut", "drop"]))
        if kind == "flip" and content:
            content[place] ^= draw(st.integers(1, 255))
        elif kind == "insert":
            content[place:place] = draw(
                st.sampled_from([b'"', b"\n", b"\r", b",", b"\x00", b"\xff", "\u2028".encode(), b"{", b"9" * 50])
            )
        elif kind == "cut":
            del content[place:]
        else:
            del content[place : place + draw(st.integers(1, 8))]
    return bytes(content)


def test_readers_of_files(fuzz):
    def target(case):
        name, content = case
        tried[f"files: {name}"] += 1
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder, "SST-2") if name == "sst2.tsv" else Path(folder)
            place.mkdir(exist_ok=True)
            if name == "sst2.tsv":
                (place / "train.tsv").write_bytes(content)
                (place / "dev.tsv").write_bytes(VALID[name])
            if name == "config.json":
                (place / "model.safetensors").write_bytes(content)
            path = place / name
            path.write_bytes(content)
            for read in READERS[name]:
                try:
                    read(place if name == "sst2.tsv" and read is None else path)
                except FairloopError as error:
                    one_line(error)
                except (ValueError, UnicodeDecodeError):  # what these two promise, for whoever names the file
                    assert name == "metrics.csv"

    fuzz(target, st.sampled_from(sorted(VALID)).flatmap(lambda name: st.tuples(st.just(name), damaged(VALID[name]))))


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                ["choices", "text", "message", "content", "usage", "completion_tokens", "error", "finish_reason", "x"]
            ),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=12,
)
BODIES = st.one_of(
    st.binary(max_size=200),
    JSON.map(lambda value: json.dumps(value).encode()),
    JSON.map(
        lambda value: json.dumps({"choices": [{"text": value, "finish_reason": "stop"}], "usage": value}).encode()
    ),
    damaged(b'{"choices": [{"text": "The nurse left.", "finish_reason": "stop"}], "usage": {"completion_tokens": 4}}'),
)
HEADERS = st.dictionaries(
    st.sampled_from(["Content-Encoding", "Content-Type", "Retry-After", "Location", "X-Y"]),
    st.one_of(st.sampled_from(["gzip", "deflate", "br", "gzip, gzip", "text/event-stream", "0", "inf", "-1"]),
              st.text(string.ascii_letters + string.digits + " ;,", max_size=12)),
    max_size=2,
)  # fmt: skip


def test_the_answers_of_a_server(fuzz):
    current = {}
    with serving(lambda _: current["answer"]) as server:

        def target(body, status, headers):
            tried["answers of a server"] += 1
            current["answer"] = (status, headers, b"" if status == 204 else body)
            chosen = settings(server.url, concurrency=1, tries=1, read_timeout=2, total_timeout=4)
            try:
                for _, text in texts(ServerGenerator(chosen), attempts(1)):
                    assert isinstance(text, str)
            except FairloopError as error:
                one_line(error)

        fuzz(target, BODIES, st.sampled_from([200, 200, 200, 201, 204, 301, 400, 401, 404, 429, 500, 503]), HEADERS)


def _final(cell):
    return {
        name: (cell.folder / name).read_bytes()
        for name in ("metrics.csv", "result.json", "config.yaml", "deciding.json")
    }


def test_a_damaged_store_is_repaired(fuzz):
    with tempfile.TemporaryDirectory() as top:
        whole = run_toy(Path(top, "runs"), 1)
        expected, kept = _final(whole), Path(top, "kept")
        shutil.copytree(Path(top, "runs"), kept)
        files = sorted(path.relative_to(kept) for path in kept.rglob("*") if path.is_file())

        def target(name, choice):
            tried["damaged files of a store"] += 1
            shutil.rmtree(Path(top, "runs"))
            shutil.copytree(kept, Path(top, "runs"))
            path = Path(top, "runs") / name
            content = choice.draw(damaged(path.read_bytes()[-4000:]))
            path.write_bytes(content)
            try:
                read_runs(Path(top, "runs"))
            except FairloopError as error:
                one_line(error)
            cell = run_toy(Path(top, "runs"), 1)
            assert is_complete(cell.folder)
            if name.name not in (".lock", "environment.json"):
                assert _final(cell) == expected

        fuzz(target, st.sampled_from(files), st.data())


class Tags(HTMLParser):
    """The tags and attributes of a page, and whether the tags match."""

    def __init__(self, page):
        super().__init__()
        self.open, self.found = [], set()
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.found |= {tag, *(f"{tag} {name}" for name, _ in attributes)}
        if tag not in ("meta", "img", "br", "link", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


HOSTILE = st.one_of(
    st.text(max_size=60),
    st.sampled_from(
        [
            "</script><script>x()</script>",
            "<img src=x onerror=y()>",
            '" onload="z()',
            "{{ 7*7 }}",
            "]]>",
            "<!--",
            "&lt;",
        ]
    ),
    st.builds("{}{}".format, st.text(max_size=10), st.sampled_from(["<b>", "</li>", "'><svg>", "\u202e", "\x1b[31m"])),
)


def test_pages_show_hostile_texts_as_text(fuzz):
    def page_of(runs_dir):
        runs = read_runs(runs_dir)
        return render_page(runs, conditions(runs.cells), None)

    with tempfile.TemporaryDirectory() as top:
        make_cell(Path(top, "plain"), texts=["A sentence."] * 3)
        allowed = Tags(page_of(Path(top, "plain"))).found

        def target(sentences, name):
            tried["texts in a page"] += 1
            runs = Path(tempfile.mkdtemp(dir=top))
            make_cell(runs, texts=sentences, model=name or "m", name="cell")
            seen = Tags(page_of(runs))
            assert seen.open == []
            assert seen.found <= allowed | {"mark", "mark class"}
            shutil.rmtree(runs)

        fuzz(target, st.lists(HOSTILE, min_size=3, max_size=3), HOSTILE)


def test_latex_has_no_character_that_it_would_read(fuzz):
    def target(text):
        tried["texts in LaTeX"] += 1
        escaped = escape(text)
        left = re.sub(r"\\[a-zA-Z]+(?:\{\}|\{[^\\{}]*\})?|\\[^a-zA-Z]|\$\\?[a-zA-Z]*[<>|]?\$", "", escaped)
        assert not set("#%&_^~\\") & set(left), (text, escaped)
        assert escaped.count("{") - escaped.count(r"\{") == escaped.count("}") - escaped.count(r"\}")

    fuzz(target, st.text(max_size=80))


def test_numbers_of_a_table_survive_the_way_there_and_back(fuzz):
    from fairloop.measures.measurement import Measurement
    from fairloop.tracking.results import metrics_csv

    numbers = st.one_of(st.floats(), st.none())

    def target(value, low, high, n):
        tried["numbers of a table"] += 1
        text = metrics_csv({0: [Measurement("rule/x", value, low, high, n)]})
        (found,) = measurements_of(text)[0]
        assert found.value == value or (math.isnan(found.value) and not math.isfinite(value))  # it stands for undefined
        assert found.n == n

    fuzz(target, st.floats(), numbers, numbers, st.integers(0, 10**9))
