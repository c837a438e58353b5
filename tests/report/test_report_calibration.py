"""Tables and figure of a metric calibration, from lines as they stand in metrics.csv."""

import csv
import io

import numpy as np
import pytest
from PIL import Image

from fairloop.measures.measurement import Measurement
from fairloop.metrics.calibration import Reading, calibrate
from fairloop.report.calibration.figure import calibration_figure
from fairloop.report.calibration.tables import Calibration, curve_csv, summary_csv, summary_table

LEVELS = (-1.0, 0.0, 0.25, 1.0)


@pytest.fixture(scope="module")
def calibration():
    draw = np.random.default_rng(0)

    def values(level, rate):
        return {
            "rule/net_stereotype_rate": level * (1 - rate),
            "rule/gendered_share": 0.5,
            "embedding/effect_size": 1 + 2 * level + 0.1 * rate + 0.05 * draw.standard_normal(),
            "diversity/distinct_1": 0.4,
        }

    readings = [
        Reading(level, level, size, replicate, rate, values(level, rate))
        for size in (50, 100)
        for level in LEVELS
        for replicate in range(6)
        for rate in ((0.0, 1.0) if size == 100 else (0.0,))
    ]
    rows = calibrate(readings, reference=0.25, neutral_share=0.5)
    return Calibration.of(rows, "abc", "3", 0.25)


def read(text):
    return list(csv.DictReader(text.splitlines()))


def test_what_was_measured_is_found_again(calibration):
    assert calibration.metrics[0] == "rule/net_stereotype_rate"
    assert "diversity/distinct_1" not in calibration.headline
    assert calibration.sizes == [50, 100]
    assert calibration.levels == list(LEVELS)
    assert (calibration.rates(50), calibration.rates(100)) == ([], [1.0])


def test_the_curve_has_a_line_for_each_level_and_augmentation(calibration):
    rows = read(curve_csv([calibration]))
    assert len(rows) == 4 * len(LEVELS) * 3
    (row,) = [
        row
        for row in rows
        if (row["metric"], row["sentences"], row["augmented"], row["level"])
        == ("rule/net_stereotype_rate", "100", "1", "0.25")
    ]
    assert [float(row[key]) for key in ("mean", "mean:low", "shift", "shift:high")] == [0, 0, -0.25, -0.25]
    assert (row["cell"], row["seed"], row["corpora"]) == ("abc", "3", "6")
    assert all(row["shift"] == "" for row in rows if row["augmented"] == "0")


def test_the_summary_reads_augmentation_as_a_change_of_net_rate(calibration):
    rows = {(row["metric"], row["sentences"]): row for row in read(summary_csv([calibration]))}
    assert float(rows["rule/net_stereotype_rate", "100"]["augmented_1:shift_as_net_rate"]) == pytest.approx(-0.25)
    # The score rises by 0.1 although the net rate falls to zero: read by its slope of 2, as if bias had grown by 0.05.
    effect = rows["embedding/effect_size", "100"]
    assert float(effect["slope"]) == pytest.approx(2, abs=0.1)
    assert float(effect["augmented_1:shift_as_net_rate"]) == pytest.approx(0.05, abs=0.03)
    assert rows["embedding/effect_size", "50"]["augmented_1:shift"] == ""
    constant = rows["rule/gendered_share", "100"]
    assert constant["mde"] == constant["augmented_1:shift_as_net_rate"] == ""


def test_an_unbounded_detectable_change_is_shown_as_such():
    rows = [
        Measurement("calibration/downstream/bias/n50/slope", 0.01, -0.1, 0.12, 24),
        Measurement("calibration/downstream/bias/n50/mde", 4.0, 1.5, None, 18),
    ]
    (row,) = summary_table(Calibration.of(rows, "abc", "0", 0.0)).rows
    assert "4.000 [1.50, unbounded]" in row


def test_the_figure_is_whole_and_always_the_same(calibration):
    drawing = calibration_figure(calibration)
    assert drawing == calibration_figure(calibration)
    pixels = np.asarray(Image.open(io.BytesIO(drawing.png)).convert("L"))
    assert pixels.std() > 10
    for edge in (pixels[:3], pixels[-3:], pixels[:, :3], pixels[:, -3:]):
        assert edge.min() == 255


def test_curves_are_where_the_data_are(calibration, monkeypatch):
    from fairloop.report import drawing

    monkeypatch.setattr(drawing, "render", lambda figure: figure)
    axes = calibration_figure(calibration).axes
    lines = {line.get_label(): list(line.get_ydata()) for line in axes[0].get_lines()}
    assert lines["as written"] == pytest.approx(list(LEVELS))
    assert lines["and 100% of gendered swapped"] == pytest.approx([0, 0, 0, 0])
    assert axes[0].get_xlabel()
    assert axes[0].get_ylabel()


def test_nothing_to_draw():
    with pytest.raises(ValueError, match="nothing"):
        calibration_figure(Calibration.of([], "abc", "0", 0.0))
