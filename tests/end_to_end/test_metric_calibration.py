"""The metric_calibration study as a user runs it: the experiment by name, and wrong choices."""

import json

import pytest
from command import cells, fairloop

from fairloop.app import command

TINY = (
    "experiment=metric_calibration",
    "study.levels=[-1,0,1]",
    "study.reference=0",
    "study.sizes=[80]",
    "study.replicates=[2]",
    "study.augment_rates=[1]",
    "study.augment_size=80",
    "tracking=none",
    "trainer.threads=1",
)


@pytest.mark.embedded
@pytest.mark.timeout(900)
def test_the_packaged_encoder_is_calibrated(tmp_path):
    done = fairloop(*TINY, cwd=tmp_path, timeout=900)
    assert done.returncode == 0, done.stderr
    (cell,) = cells(tmp_path / "runs", "metric_calibration")
    result = json.loads((cell / "result.json").read_text())
    assert result["calibration/rule/net_stereotype_rate/n80/slope"] == pytest.approx(1)
    # A stereotypical corpus makes a stereotypical encoding and classifier, an anti-stereotypical one the reverse.
    for metric in ("embedding/effect_size", "downstream/bias"):
        assert result[f"calibration/{metric}/n80/mean_at_1"] > result[f"calibration/{metric}/n80/mean_at_-1"]
        augmented, written = (result[f"calibration/{metric}/n80{part}/slope"] for part in ("/augmented_1", ""))
        assert abs(augmented) < 0.5 * written
    assert "Metric calibration, seed 0" in done.stdout
    assert "metric_calibration_summary.csv" in done.stdout
    again = fairloop(*TINY, cwd=tmp_path)
    assert again.stdout.startswith("1 cell in runs: 1 complete, 0 to do")


MISTAKES = {
    "no levels": (["study.levels=[]"], ["study.levels=[]", "at least 3"]),
    "two levels": (["study.levels=[0,1]"], ["study.levels", "at least 3"]),
    "level below -1": (["study.levels=[-1.5,0,1]"], ["study.levels=-1.5", "at least -1 and at most 1"]),
    "level above 1": (["study.levels=[-1,0,1.01]"], ["study.levels=1.01", "at most 1"]),
    "level no number": (["study.levels=[low,0,1]"], ["study.levels=low", "a number"]),
    "level twice": (["study.levels=[0,0,1]"], ["study.levels=[0", "once"]),
    "one level alone": (["study.levels=0.5"], ["study.levels=0.5", "a list"]),
    "reference elsewhere": (["study.reference=0.3"], ["study.reference=0.3", "study.levels"]),
    "size 0": (["study.sizes=[0]"], ["study.sizes=0", "at least 1"]),
    "no sizes": (["study.sizes=[]"], ["study.sizes=[]", "at least 1"]),
    "half a sentence": (["study.sizes=[10.5]"], ["study.sizes=10.5", "whole number"]),
    "size twice": (["study.sizes=[80,80]", "study.replicates=[2,2]"], ["study.sizes=[80, 80]", "once"]),
    "too small for the levels": (
        ["study.levels=[0,0.1,0.2]", "study.sizes=[4]", "study.augment_size=4"],
        ["study.sizes=4", "apart"],
    ),
    "one replicate": (["study.replicates=[1]"], ["study.replicates=1", "at least 2"]),
    "replicates of no size": (["study.replicates=[2,3]"], ["study.replicates=[2, 3]", "study.sizes [80]"]),
    "neutral share": (["study.neutral_share=1.1"], ["study.neutral_share=1.1", "at most 1"]),
    "rate 0": (["study.augment_rates=[0]"], ["study.augment_rates=0", "above 0"]),
    "rate above 1": (["study.augment_rates=[1.5]"], ["study.augment_rates=1.5", "at most 1"]),
    "augmented size elsewhere": (["study.augment_size=500"], ["study.augment_size=500", "study.sizes [80]"]),
    "no such encoder": (["study.encoder=embedded:nope"], ["study.encoder=embedded:nope", "all-minilm-l6-v2"]),
    "key of another study": (["study.generations=3"], ["study.generations=3", "unknown key"]),
}


@pytest.mark.parametrize(("arguments", "named"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_gets_one_line_and_status_2_and_writes_nothing(arguments, named, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert command([*TINY, *arguments]) == 2
    printed = capsys.readouterr()
    (line,) = printed.err.strip().splitlines()
    for part in named:
        assert part in line
    assert printed.out == ""
    assert list(tmp_path.iterdir()) == []
