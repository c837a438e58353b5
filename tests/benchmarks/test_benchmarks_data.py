"""Where data is looked for, what is checked, and what is said when it is not there."""

import hashlib
import io
import re
import urllib.error

import pytest

from fairloop.benchmarks import data
from fairloop.benchmarks.data import DataSet, find
from fairloop.benchmarks.glue_data import GLUE_TASKS, REVISION
from fairloop.benchmarks.registry import benchmarks
from fairloop.errors import Fault, UserError

CONTENT = b"the publisher's file\n"


@pytest.fixture
def dataset(monkeypatch, tmp_path):
    """A data set of two files, one of them a variant that is not fetched."""
    sha = hashlib.sha256(CONTENT).hexdigest()
    common = {"dataset": "toy", "licence": "MIT", "citation": "Toy 2020"}
    rows = (
        common | {"file": "toy.csv", "url": "https://example.org/toy.csv", "sha256": sha, "fetch": "yes"},
        common | {"file": "variant.csv", "url": "https://example.org/", "sha256": "", "fetch": "no"},
    )
    monkeypatch.setattr(data, "_sources", lambda: rows)
    monkeypatch.setenv("FAIRLOOP_CACHE", str(tmp_path / "cache"))
    return DataSet("toy")


@pytest.fixture
def network(monkeypatch):
    """What the publisher answers, and what it was asked."""
    asked = []

    def answer(content):
        def urlopen(url, timeout):
            asked.append(url)
            if isinstance(content, Exception):
                raise content
            return io.BytesIO(content)

        monkeypatch.setattr(data.urllib.request, "urlopen", urlopen)
        return asked

    return answer


def test_a_given_folder_comes_first(dataset, network, tmp_path):
    asked = network(CONTENT)
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "toy.csv").write_bytes(CONTENT)
    assert find(dataset, str(tmp_path / "given")) == tmp_path / "given"
    assert asked == []


def test_a_given_folder_may_hold_a_folder_for_each_benchmark(dataset, network, tmp_path):
    (tmp_path / "all" / "toy").mkdir(parents=True)
    (tmp_path / "all" / "toy" / "toy.csv").write_bytes(CONTENT)
    assert find(dataset, str(tmp_path / "all")) == tmp_path / "all" / "toy"


def test_then_the_cache_then_the_publisher_once(dataset, network):
    asked = network(CONTENT)
    folder = find(dataset, None)
    assert (folder / "toy.csv").read_bytes() == CONTENT
    assert asked == ["https://example.org/toy.csv"]
    assert find(dataset, None) == folder
    assert len(asked) == 1
    assert sorted(path.name for path in folder.iterdir()) == ["toy.csv"]


def test_no_network_says_which_file_to_put_where(dataset, network):
    network(urllib.error.URLError("no route to host"))
    with pytest.raises(Fault) as caught:
        find(dataset, None)
    line = str(caught.value)
    assert "https://example.org/toy.csv (no route to host)" in line
    assert f"put the file at {dataset.cached / 'toy.csv'}" in line
    assert "benchmark.data=" in line
    assert "\n" not in line


def test_another_checksum_is_refused_everywhere(dataset, network, tmp_path):
    network(b"an error page")
    with pytest.raises(Fault, match="another checksum than the one pinned"):
        find(dataset, None)
    assert not dataset.cached.exists()
    (tmp_path / "toy.csv").write_bytes(CONTENT + b"x")
    with pytest.raises(Fault, match=r"toy\.csv: its checksum is not the publisher's"):
        find(dataset, str(tmp_path))
    assert find(dataset, str(tmp_path), verify=False) == tmp_path


def test_a_given_folder_that_is_not_there_or_lacks_the_file(dataset, tmp_path):
    with pytest.raises(UserError, match="there is no such folder"):
        find(dataset, str(tmp_path / "missing"))
    with pytest.raises(UserError, match=r"toy needs toy\.csv in this folder"):
        find(dataset, str(tmp_path))


def test_one_variant_is_enough_where_any_will_do(dataset, tmp_path):
    (tmp_path / "variant.csv").write_text("x")
    assert find(DataSet("toy", any_of=True), str(tmp_path)) == tmp_path
    with pytest.raises(UserError, match=r"toy needs toy\.csv"):
        find(dataset, str(tmp_path))


def test_wrong_encoding_and_missing_files_are_named(tmp_path):
    path = tmp_path / "latin.csv"
    path.write_bytes("a,b\ncafé,1\n".encode("latin-1"))
    with pytest.raises(Fault, match=r"latin\.csv: not UTF-8 text \(byte 7\)"):
        data.read_text(path)
    with pytest.raises(Fault, match="cannot be read"):
        data.read_text(tmp_path / "none")
    path.write_text("  \n")
    with pytest.raises(Fault, match="the file is empty"):
        data.read_text(path)


def test_every_listed_source_is_complete():
    rows = data._sources()
    with_data = {one.dataset.name for one in benchmarks().values() if one.dataset is not None}
    assert {row["dataset"] for row in rows} == with_data | {"glue"} >= {"crows_pairs", "stereoset", "seat", "winobias"}
    for row in rows:
        assert row["url"].startswith("https://")
        assert row["licence"]
        assert row["citation"]
        assert len(row["sha256"]) == 64 or re.search("/[0-9a-f]{40}/", row["url"])
        assert row["dataset"] != "glue" or f"/nyu-mll/glue/resolve/{REVISION}/" in row["url"]


def test_the_data_of_glue_is_fetched_to_where_it_is_read():
    splits = {f"{task.name}/{split}" for task in GLUE_TASKS.values() for split in ("train", *task.validation)}
    assert {file.name for file in DataSet("glue").files} == {f"{split}-00000-of-00001.parquet" for split in splits}


def test_checksums_are_those_of_the_publishers_files(benchmark_data):
    checked = 0
    for name in data.names():
        for file in DataSet(name).files:
            path = benchmark_data / name / file.name
            if path.is_file():
                assert data.digest(path) == file.sha256
                checked += 1
    assert checked >= 60
