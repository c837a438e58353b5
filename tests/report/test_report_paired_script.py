"""The script behind the paired changes of experiments/fair_gender, against sums taken one by one."""

import csv
import importlib.util
import sys

import numpy as np
import pytest

from fairloop.composition import conf_dir

SCRIPT = conf_dir().parent / "experiments" / "fair_gender" / "paired.py"


@pytest.fixture(scope="module")
def paired():
    spec = importlib.util.spec_from_file_location("paired", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cell(folder, rows):
    table = folder / "stages" / "01-scores" / "items.csv"
    table.parent.mkdir(parents=True)
    with table.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


def printed(paired, monkeypatch, capsys, *folders):
    monkeypatch.setattr(sys, "argv", ["paired.py", *map(str, folders)])
    paired.main()
    return dict(line.split(": ") for line in capsys.readouterr().out.splitlines())


def test_stereoset_is_averaged_over_terms(paired, tmp_path, monkeypatch, capsys):
    draw = np.random.default_rng(0)

    def rows():
        return [
            {"item": item, "task": "intrasentence", "bias_type": ("gender", "race")[item % 3 == 0],
             "target": f"term {item % 7}", "context": "", "stereotype": a, "anti_stereotype": b, "unrelated": c}
            for item, (a, b, c) in enumerate(draw.normal(size=(60, 3)))
        ]  # fmt: skip

    def expected(table, group):
        chosen = [row for row in table if group in ("overall", row["bias_type"])]
        terms = sorted({row["target"] for row in chosen})
        lms, ss = [], []
        for term in terms:
            ours = [row for row in chosen if row["target"] == term]
            above = [(row[one] > row["unrelated"]) for row in ours for one in ("stereotype", "anti_stereotype")]
            lms.append(100 * sum(above) / len(above))
            ss.append(100 * sum(row["stereotype"] > row["anti_stereotype"] for row in ours) / len(ours))
        lms, ss = sum(lms) / len(terms), sum(ss) / len(terms)
        return {"lms": lms, "ss": ss, "icat": lms * min(ss, 100 - ss) / 50}

    before, after = rows(), rows()
    found = printed(paired, monkeypatch, capsys, cell(tmp_path / "a", before), cell(tmp_path / "b", after))
    assert len(found) == 6
    for group in ("gender", "overall"):
        one, other = expected(before, group), expected(after, group)
        for name in one:
            assert float(found[f"intrasentence {group} {name}"].split()[0]) == pytest.approx(
                other[name] - one[name], abs=0.006
            )


def test_crows_pairs_has_the_interval_of_paired_differences(paired, tmp_path, monkeypatch, capsys):
    draw = np.random.default_rng(1)
    before = draw.random(400) < 0.6
    after = np.where(draw.random(400) < 0.2, ~before, before)  # most answers stay as they were
    folders = [
        cell(tmp_path / name, [{"item": n, "bias_type": "gender", "preferred": int(v)} for n, v in enumerate(values)])
        for name, values in (("a", before), ("b", after))
    ]
    value, low, high = (float(part.strip("[],")) for part in printed(
        paired, monkeypatch, capsys, *folders)["overall score"].split())  # fmt: skip
    change = 100 * (after.astype(float) - before)
    half = 1.96 * change.std() / 20
    assert value == pytest.approx(change.mean(), abs=0.006)
    assert (low, high) == pytest.approx((change.mean() - half, change.mean() + half), abs=0.35)


def test_other_items_or_no_cell_are_refused(paired, tmp_path, monkeypatch, capsys):
    one = cell(tmp_path / "a", [{"item": 0, "bias_type": "gender", "preferred": 1}])
    other = cell(tmp_path / "b", [{"item": 1, "bias_type": "gender", "preferred": 1}])
    for folders in ((one, other), (one, tmp_path / "nowhere"), (tmp_path / "nowhere", tmp_path / "nowhere")):
        with pytest.raises(SystemExit) as stop:
            printed(paired, monkeypatch, capsys, *folders)
        assert stop.value.code == 2
