"""The study metric_calibration with a tiny random encoder: known rates, resume, damage, tables, figure, W&B."""

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image
from wandb_reader import ended_run

from fairloop import composition
from fairloop.app import Job
from fairloop.corpus.annotation import annotate
from fairloop.corpus.seed import seed_corpus
from fairloop.report.cli import show_report
from fairloop.studies import metric_calibration
from fairloop.studies.runner import run_cell
from tiny_models import tiny_encoder

SMALL = (
    "study=metric_calibration",
    "study.levels=[-0.5,0,0.5]",
    "study.reference=0.5",
    "study.sizes=[20,40]",
    "study.replicates=[2,2]",
    "study.augment_size=40",
    "tracking=offline",
    "trainer.threads=1",
)
BATCHES = 12


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return tiny_encoder(tmp_path_factory.mktemp("encoder"))


def job(runs_dir, encoder, *more):
    with composition.composer():
        chosen = composition.compose_config([*SMALL, f"runs_dir={runs_dir}", f"study.encoder={encoder}", *more])
        return Job.of(composition.validate(chosen))


def run(runs_dir, encoder, *more):
    one = job(runs_dir, encoder, *more)
    run_cell(one.configuration, one.cell)
    return one.cell.folder


@pytest.fixture(scope="module")
def finished(encoder, tmp_path_factory):
    return run(tmp_path_factory.mktemp("runs"), encoder)


def measures(folder):
    with (folder / "metrics.csv").open() as opened:
        return {row["metric"]: row for row in csv.DictReader(opened)}


def results(folder):
    files = [folder / "metrics.csv", folder / "result.json", *sorted(folder.glob("stages/*/*"))]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.name != "stage.json"}


def test_the_known_net_rate_is_what_the_rule_based_metric_reads(finished):
    found = measures(finished)
    for size in (20, 40):
        for level in ("-0.5", "0", "0.5"):
            row = found[f"calibration/rule/net_stereotype_rate/n{size}/mean_at_{level}"]
            assert float(row["value"]) == float(row["low"]) == float(level)
            assert (row["n"], row["generation"]) == ("2", "")
        assert float(found[f"calibration/rule/net_stereotype_rate/n{size}/slope"]["value"]) == pytest.approx(1)
        assert float(found[f"calibration/rule/net_stereotype_rate/n{size}/mde"]["value"]) == 0
    # 20 of 40 carry the level, 5 pairs, 10 neutral: all 30 gendered ones swapped is a rate of zero; half of the 25 and
    # of the 5 (round to even: 12 and 2) leaves a surplus of 10 among 54.
    shift = "calibration/rule/net_stereotype_rate/n40/augmented_%s/shift_at_0.5"
    assert float(found[shift % "1"]["value"]) == pytest.approx(-0.5)
    assert float(found[shift % "0.5"]["value"]) == pytest.approx((25 - 5 - 12 + 2) / 54 - 0.5)
    assert not [name for name in found if "/n20/augmented" in name]


def test_every_metric_of_the_corpus_is_calibrated(finished):
    metrics = {name.split("/n40/")[0] for name in measures(finished) if "/n40/" in name}
    assert {name.split("/")[1] for name in metrics} >= {"rule", "embedding", "downstream", "diversity"}
    assert "calibration/downstream/bias" in metrics
    result = json.loads((finished / "result.json").read_text())
    assert all(isinstance(value, int | float) for value in result.values())


def test_stopped_in_the_middle_it_goes_on_and_gives_the_same_bytes(encoder, tmp_path, monkeypatch):
    cheap = "study.metrics=[rule_based,embedding]"  # one without an encoder, one whose vectors could cross batches
    whole = results(run(tmp_path / "whole", encoder, cheap))
    measure, done = metric_calibration.MetricCalibration.measure, []

    def fails_at_the_fifth(self, batch, folder):
        if len(done) == 4:
            raise KeyboardInterrupt
        done.append(batch.name)
        measure(self, batch, folder)

    monkeypatch.setattr(metric_calibration.MetricCalibration, "measure", fails_at_the_fifth)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", encoder, cheap)
    monkeypatch.setattr(
        metric_calibration.MetricCalibration,
        "measure",
        lambda self, batch, folder: (done.append(batch.name), measure(self, batch, folder))[1],
    )
    folder = run(tmp_path / "parts", encoder, cheap)
    assert len(done) == len(set(done)) == BATCHES
    assert results(folder) == whole

    batch = next(folder.glob("stages/*-n40-level0.5-1/measures.json"))
    batch.write_text(batch.read_text()[:-20])
    done.clear()
    assert results(run(tmp_path / "parts", encoder, cheap)) == whole
    assert done == ["n40-level0.5-1"]


def test_report_and_weights_and_biases_have_the_tables_and_the_figure(finished, tmp_path):
    stage = finished / "stages" / f"{BATCHES + 1:02d}-report"
    show_report(finished.parents[1], tmp_path)
    for name in ("curve", "summary"):
        assert (tmp_path / f"metric_calibration_{name}.csv").read_bytes() == (stage / f"{name}.csv").read_bytes()
    drawn = (tmp_path / f"metric_calibration_{finished.name}.png").read_bytes()
    assert drawn == (stage / "calibration.png").read_bytes()
    assert np.asarray(Image.open(io.BytesIO(drawn)).convert("L")).std() > 10
    assert "Metric calibration, seed 0" in (tmp_path / "report.html").read_text()

    logged = ended_run(finished)
    assert (logged.job_type, logged.tags) == ("metric_calibration", ["metric_calibration", logged.tags[1], "seed:0"])
    (row,) = [row for row in logged.history if "calibration/summary" in row]
    table = logged.table(row, "calibration/summary")
    header, *lines = csv.reader((stage / "summary.csv").read_text().splitlines())
    assert table["columns"] == header
    assert len(table["data"]) == len(lines)
    slope = table["data"][0][header.index("slope")]
    assert slope == pytest.approx(float(lines[0][header.index("slope")]))
    assert (logged.folder / "files" / row["calibration/figure"]["path"]).read_bytes() == drawn
    assert logged.summary["calibration/rule/net_stereotype_rate/n40/slope"] == pytest.approx(1)
    assert not [name for name in logged.summary if "_at_" in name]


@pytest.mark.parametrize("rate", [0.3, 0.5, 1.0])
def test_augmentation_varies_its_share_of_each_side_and_smaller_rates_are_nested(rate):
    corpus = seed_corpus(0.4, 60, 0.3, 1)
    changed = metric_calibration.augmented(corpus, rate, 7).to_list()
    variants = [row for row in changed if row["source"] == "counterfactual"]
    labels = {row["item"]: row["stereotype"] for row in corpus}
    for sign in (1, -1):
        wanted = round(rate * sum(label == sign for label in labels.values()))
        assert sum(labels[row["item"]] == sign for row in variants) == wanted
    for row in variants:
        assert annotate(row["text"], row["occupation"]).stereotype == row["stereotype"] == -labels[row["item"]]
    larger = {row["item"] for row in metric_calibration.augmented(corpus, 1.0, 7) if row["source"] == "counterfactual"}
    assert {row["item"] for row in variants} <= larger


def test_weights_decide_the_cell_and_what_the_study_does_not_read_does_not(encoder, tmp_path):
    key = job(tmp_path, encoder).cell.key
    assert job(tmp_path, encoder, "model=gemma_2_2b_it", "initial_bias=high", "plm=bert_base").cell.key == key
    assert job(tmp_path, encoder, "study.levels=[-1,0,0.5]").cell.key != key
    assert job(tmp_path, encoder, "seed=1").cell.key != key
