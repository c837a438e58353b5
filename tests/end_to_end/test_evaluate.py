"""The evaluate study as a user runs it: a published reference figure, per-item table, wrong choices."""

import csv
import json
import os
from pathlib import Path

import pytest
from command import cells, fairloop

DATA = Path(os.environ.get("FAIRLOOP_BENCHMARK_DATA", Path(__file__).parents[3] / "shared" / "benchmarks"))
SEAT = ("study=evaluate", "plm=minilm_encoder", "benchmark=seat", "tracking=none", "benchmark.resamples=100")


@pytest.mark.embedded
@pytest.mark.skipif(not DATA.is_dir(), reason=f"benchmark data is not in {DATA}: set FAIRLOOP_BENCHMARK_DATA")
def test_seat_of_the_packaged_encoder_equals_the_published_code(tmp_path):
    chosen = (*SEAT, f"benchmark.data={DATA}", "benchmark.tests=[sent-weat6,sent-weat6b]")
    done = fairloop(*chosen, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (cell,) = cells(tmp_path / "runs", "evaluate")
    result = json.loads((cell / "result.json").read_text())
    with (DATA / "reference" / "seat_minilm.csv").open() as opened:
        reference = {row["test"]: row for row in csv.DictReader(opened)}
    for test in ("sent-weat6", "sent-weat6b"):
        assert result[f"seat/{test}/effect_size"] == pytest.approx(float(reference[test]["effect_size"]), abs=1e-4)
    assert (cell / "stages" / "01-scores" / "items.csv").stat().st_size > 100
    again = fairloop(*chosen, cwd=tmp_path)
    assert again.stdout.startswith("1 cell in runs: 1 complete, 0 to do")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["benchmark=stereosett"], ["benchmark=stereosett", "stereoset"]),
        (["benchmark=stereoset"], ["benchmark=stereoset", "masked or causal", "minilm_encoder is encoder"]),
        (["benchmark.resamples=0"], ["benchmark.resamples=0", "at least 1"]),
        (["plm.path=./nowhere"], ["plm.path=./nowhere", "no such folder"]),
        (["plm=bert_basis"], ["plm=bert_basis", "bert_base"]),
        (["study.sentences=5"], ["study.sentences=5", "unknown key"]),
    ],
)
def test_a_mistake_gets_one_line_and_status_2(arguments, named, tmp_path):
    done = fairloop(*SEAT, *arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.strip().splitlines()
    for part in named:
        assert part in line
    assert list(tmp_path.iterdir()) == []
