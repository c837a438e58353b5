"""Composing by assignment gives what Hydra's own composition gives, and declines what it cannot be sure of."""

import random

import pytest

from fairloop import composition
from fairloop.errors import UserError
from fairloop.sweep.compose import Composer

# Choices and values of every kind that a sweep takes; a job is a few of them in any order.
PARTS = [
    ["initial_bias=high"],
    ["mitigation=augment"],
    ["study=fair_gender", "debias=cda"],
    ["study=evaluate", "benchmark=stereoset"],
    ["seed=3"],
    ["initial_bias.level=0.45"],
    ["study.sentences=12"],
    ["tracking.group='a b, c'"],
    ["tracking.entity=null"],
    ["model.temperature=1"],
    ["trainer=gpu", "trainer.threads=2"],
    ["trainer.launcher=[srun,-n2]"],
    ["+mitigation.prompt.instruction=Write."],
    ["runs_dir=${tracking.project}"],
    ["tracking.project=elsewhere"],
    ["~plm.revision"],
    ["initial_bias={level: 0.2, neutral_share: 0.5}"],
    ["experiment=equilibrium"],
]


def hydras(line):
    try:
        return composition.resolve(composition.compose_config(line))
    except UserError as error:
        return str(error)


def ours(composer, line):
    try:
        return composer.compose(line)
    except UserError as error:
        return str(error)


def test_the_same_as_hydra_for_random_jobs():
    chance = random.Random(0)
    with composition.composer():
        composer = Composer()
        for _ in range(15):
            line = [text for part in chance.sample(PARTS, chance.randint(1, 5)) for text in part]
            chance.shuffle(line)
            for _ in range(2):  # the second time from what the first one kept
                assert ours(composer, line) == hydras(line), line


def test_a_job_does_not_change_the_next_one():
    with composition.composer():
        composer = Composer()
        first = composer.compose(["seed=1", "study.sentences=9", "initial_bias=low"])
        second = composer.compose(["seed=2", "initial_bias=low"])
    assert (first["seed"], first["study"]["sentences"]) == (1, 9)
    assert (second["seed"], second["study"]["sentences"]) == (2, 256)


@pytest.mark.parametrize(
    "line", [["study.sentenses=5"], ["seed.deep=1"], ["model.name.more=1"], ["mitigation=magic"], ["nothing=1"]]
)
def test_a_mistake_is_worded_as_in_a_single_cell(line):
    with composition.composer():
        single = hydras(line)
        assert ours(Composer(), line) == single
        assert not isinstance(single, str) or line[0].split("=")[0] in single


def test_cells_that_differ_in_values_alone_are_composed_once(monkeypatch):
    calls = []
    compose = composition.compose_config
    monkeypatch.setattr(composition, "compose_config", lambda line, **more: calls.append(line) or compose(line, **more))
    with composition.composer():
        composer = Composer()
        seen = [
            composer.compose([f"seed={seed}", f"initial_bias={level}"])
            for seed in range(50)
            for level in ("low", "high")
        ]
    assert len(calls) == 2
    assert {(one["seed"], one["initial_bias"]["level"]) for one in seen} == {
        (seed, level) for seed in range(50) for level in (0.1, 0.6)
    }
