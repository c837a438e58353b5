"""Loss curves in the run store and in W&B: every step once, whatever was killed and wherever a stage came from."""

import shutil
import time

import pytest
from test_tracking_wandb import OFFLINE, cell, no_key  # noqa: F401 (fixtures)
from wandb_reader import read_run

from fairloop.catalogue import catalogue
from fairloop.tracking.curves import CURVES_FILE, Curves, read_curves
from fairloop.tracking.store import Cell
from fairloop.tracking.wandb_run import tracked

CURVE = "train/finetune 1"


def points(path):
    return [(curve, step, values["loss"]) for curve, step, values in read_curves(path)]


def test_what_was_reported_first_stays(tmp_path):
    told = []
    first = Curves(tmp_path, lambda *point: told.append(point))
    for step in (1, 2, 3):
        first(CURVE, step, {"loss": float(step)})
    again = Curves(tmp_path, lambda *point: told.append(point))
    assert told[3:] == told[:3]
    for step in (2, 3, 4):  # from the checkpoint after step 1, on a machine that rounds otherwise
        again(CURVE, step, {"loss": 10.0 * step})
    again("validation/finetune 1", 3, {"loss": 0.5})
    assert [step for curve, step, _ in told[6:] if curve == CURVE] == [4]
    (tmp_path / "stage").mkdir()
    again.keep(tmp_path / "stage")
    kept = [(CURVE, 1, 1.0), (CURVE, 2, 2.0), (CURVE, 3, 3.0), (CURVE, 4, 40.0), ("validation/finetune 1", 3, 0.5)]
    assert points(tmp_path / "stage" / CURVES_FILE) == kept


def test_half_a_line_is_no_point_and_is_written_over(tmp_path):
    curves = Curves(tmp_path, lambda *_: None)
    curves(CURVE, 1, {"loss": 1.0})
    path = tmp_path / CURVES_FILE
    path.write_text(path.read_text() + '["train/finetune 1", 2, {"lo')
    again = Curves(tmp_path, lambda *_: None)
    again(CURVE, 2, {"loss": 2.0})
    assert points(path) == [(CURVE, 1, 1.0), (CURVE, 2, 2.0)]


def test_without_a_training_no_file_is_kept(tmp_path):
    (tmp_path / "stage").mkdir()
    Curves(tmp_path, lambda *_: None).keep(tmp_path / "stage")
    assert list((tmp_path / "stage").iterdir()) == []


def study(cell: Cell, steps: int, scale: float = 1.0) -> None:  # noqa: F811
    """Train for a number of steps; a training of fewer than six was killed."""
    with cell.working() as needed, tracked(OFFLINE, cell, {"seed": 1}, catalogue()) as tracker:
        assert needed

        def train(folder) -> None:
            curves = Curves(cell.scratch(), tracker.log_curve)
            for step in range(1, steps + 1):
                curves(CURVE, step, {"loss": scale / step, "learning_rate": 1e-3})
            curves("validation/finetune 1", steps, {"loss": 0.5})
            if steps < 6:
                raise RuntimeError("killed")
            curves.keep(folder)

        cell.stage("training", train)
        cell.write_results({None: []})
        tracker.finish("complete")


def check(cell: Cell, scale_after: int = 6) -> None:  # noqa: F811
    run = read_run(cell.folder)
    rows = [row for row in run.history if "train/finetune-1/step" in row]
    assert [row["train/finetune-1/step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row["train/finetune-1/loss"] for row in rows] == [
        pytest.approx((1 if step <= scale_after else 100) / step) for step in range(1, 7)
    ]
    assert {row["train/finetune-1/learning_rate"] for row in rows} == {1e-3}
    assert run.step_metrics["train/finetune-1/*"] == "train/finetune-1/step"
    assert [row["validation/finetune-1/loss"] for row in run.history if "validation/finetune-1/step" in row][-1] == 0.5


def test_a_curve_is_logged_while_it_is_drawn(cell):  # noqa: F811
    study(cell, 6)
    check(cell)


def test_a_killed_training_has_each_step_once_in_the_run_that_goes_on(cell):  # noqa: F811
    with pytest.raises(RuntimeError):
        study(cell, 4)
    time.sleep(1.1)  # W&B names its folders by the second
    study(cell, 6, scale=100.0)  # what the second attempt says of the first four steps is not believed
    check(cell, scale_after=4)


def test_the_curve_of_a_stage_that_was_finished_before_is_logged_too(cell, tmp_path):  # noqa: F811
    study(cell, 6)
    (kept,) = cell.folder.glob(f"stages/*-training/{CURVES_FILE}")
    other = Cell.open(tmp_path / "other", "recursion", {"seed": 1}, {"seed": 1})
    with other.working() as needed, tracked(OFFLINE, other, {"seed": 1}, catalogue()) as tracker:
        assert needed
        other.stage("training", lambda folder: shutil.copy(kept, folder) and None)
        other.write_results({None: []})
        tracker.finish("complete")
    check(other)
