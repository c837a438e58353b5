"""A choice that no cell of a command reads is answered in one line."""

import pytest

from fairloop import app, composition
from fairloop.sweep.jobs import jobs_of

UNREAD = [
    ("-m study=fair_gender mitigation=none,augment", "mitigation=none: study=fair_gender does not read the group"),
    ("-m debias=none,cda,inlp", "debias=none: study=recursion does not read the group debias; it reads model, init"),
    ("study=evaluate initial_bias=high", "initial_bias=high: study=evaluate does not read the group initial_bias"),
    ("debias.lambda_r=1", "debias.lambda_r=1: study=recursion does not read the group debias"),
    ("++plm.dtype=bfloat16", "++plm.dtype=bfloat16: study=recursion does not read the group plm"),
    ("study=metric_calibration model=gemma_2_2b_it", "model=gemma_2_2b_it: study=metric_calibration does not read the"),
    ("ablation=alone", "ablation=alone: study=recursion does not read the group ablation"),
    ("experiment=equilibrium benchmark=seat", "benchmark=seat: study=recursion does not read the group benchmark"),
    ("study=fair_gender benchmark=seat", "benchmark=seat: seat is not in study.benchmarks=[heldout_templates,lpbs,per"),
    ("study=fair_gender benchmark.resamples=9", "benchmark.resamples=9: seat is not in study.benchmarks=["),
    ("-m study=fair_gender debias.source=template model=gemma_3_270m,gemma_2_2b_it",
     "model=gemma_3_270m: no generator is asked for the pairs of debias=fair_gender"),
]  # fmt: skip


@pytest.mark.parametrize(("command", "line"), UNREAD)
def test_what_no_cell_reads_is_one_line_and_nothing_is_written(command, line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert app.command(command.split()) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert said[0].startswith(f"fairloop: {line}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("overrides", "cells"),
    [
        ("study=recursion,metric_calibration mitigation=none,augment", 3),
        ("study=fair_gender debias=none,cda model=gemma_3_270m,smollm2_360m_instruct", 3),
        ("experiment=fair_gender_baselines seed=0", 10),
        ("study=fair_gender debias=none model=gemma_3_270m", 1),
        ("study=fair_gender study.benchmarks=[lpbs] benchmark=lpbs benchmark.resamples=9", 1),
        ("study=evaluate plm=minilm benchmark=lpbs trainer.threads=1 runs_dir=elsewhere", 1),
    ],
)
def test_what_one_cell_of_a_sweep_reads_may_be_given_for_all(overrides, cells):
    with composition.composer():
        own = composition.compose_config(
            [one for one in overrides.split() if one.startswith("experiment=")], with_hydra=True
        ).hydra
        assert len(jobs_of(composition.expand_sweep(overrides.split(), own.sweeper.params))) == cells
