import csv
import hashlib
import io
import json
import urllib.error
from collections import Counter

import pytest

from fairloop.benchmarks import data, data_command
from fairloop.benchmarks.published import published_for, published_scores

FILES = {"one.csv": b"first\n", "two.csv": b"second\n"}


@pytest.fixture
def publisher(monkeypatch, tmp_path):
    """Two files at a publisher that can be switched off."""
    rows = tuple(
        {
            "dataset": "toy",
            "file": name,
            "url": f"https://example.org/{name}",
            "sha256": hashlib.sha256(content).hexdigest(),
            "fetch": "yes",
            "licence": "CC BY 4.0",
            "citation": "Toy 2020",
        }
        for name, content in FILES.items()
    )
    monkeypatch.setattr(data, "_sources", lambda: rows)
    monkeypatch.setenv("FAIRLOOP_CACHE", str(tmp_path))
    state = {"online": True, "asked": 0}

    def urlopen(url, timeout):
        state["asked"] += 1
        if not state["online"]:
            raise urllib.error.URLError("offline")
        return io.BytesIO(FILES[url.rsplit("/", 1)[1]])

    monkeypatch.setattr(data.urllib.request, "urlopen", urlopen)
    return state


def test_fetches_once_and_says_where_and_under_which_licence(publisher, capsys, tmp_path):
    assert data_command.main([]) == 0
    out = capsys.readouterr().out
    assert "toy: complete, checksums verified" in out
    assert str(tmp_path / "benchmarks" / "toy") in out
    assert "CC BY 4.0" in out
    assert data_command.main(["toy"]) == 0
    assert publisher["asked"] == 2


def test_offline_says_which_file_to_put_where(publisher, capsys, tmp_path):
    publisher["online"] = False
    assert data_command.main([]) == 1
    out = capsys.readouterr().out
    assert "toy: 2 files missing or damaged" in out
    for name in FILES:
        assert f"put the file at {tmp_path / 'benchmarks' / 'toy' / name}" in out


def test_check_fetches_nothing_and_finds_damage(publisher, capsys, tmp_path):
    assert data_command.main(["--check"]) == 1
    assert publisher["asked"] == 0
    assert data_command.main([]) == 0
    (tmp_path / "benchmarks" / "toy" / "one.csv").write_bytes(b"other\n")
    assert data_command.main(["--check"]) == 1
    assert "one.csv: its checksum is not the publisher's" in capsys.readouterr().out


def test_an_unknown_name_is_the_users_mistake(publisher, capsys):
    assert data_command.main(["nonsense"]) == 2
    assert "benchmark=nonsense: data is fetched for toy" in capsys.readouterr().err


def test_published_scores_have_sources_and_known_metric_names():
    scores = published_scores()
    assert all(score.source for score in scores)
    assert published_for("google-bert/bert-base-uncased")["crows_pairs/overall/score"].value == 60.81
    assert published_for("gpt2")["stereoset/gender/ss"].value == 62.65
    assert published_for("roberta-base") == {}


def test_published_scores_are_those_of_the_leaderboard(benchmark_data):
    with (benchmark_data / "reference" / "bias_bench_leaderboard_2022.csv").open() as file:
        rows = list(csv.DictReader(file))
    figures = sorted(float(value) for row in rows for name, value in row.items() if name != "model" and value)
    assert sorted(score.value for score in published_scores()) == figures


def test_a_published_figure_that_does_not_fit_its_overall_says_so(benchmark_data):
    # The overall SS is a mean without profession; the weights are the counts of the other split's items.
    lines = (benchmark_data / "stereoset" / "stereoset_dev.jsonl").read_text(encoding="utf-8").split("\n")
    items = [json.loads(line) for line in lines if line]
    weights = Counter(row["bias_type"] for row in items if row["type"] == "intrasentence")
    del weights["profession"]
    scores: dict[str, dict[str, float]] = {}
    noted = set()
    for score in published_scores():
        _, group, kind = [*score.metric.split("/"), ""][:3]
        if score.metric.startswith("stereoset/") and kind == "ss":
            scores.setdefault(score.model, {})[group] = score.value
            noted |= {score.model} if "does not fit the overall" in score.source else set()
    off = {
        model: sum(weights[group] * one[group] for group in weights) / weights.total() - one["overall"]
        for model, one in scores.items()
    }
    assert {model for model, by in off.items() if abs(by) > 0.05} == noted == {"BERT + CDA (Ensemble)"}
    assert off["BERT + CDA (Ensemble)"] - weights["race"] / weights.total() == pytest.approx(0, abs=0.05)
