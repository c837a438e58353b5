"""What decides a cell's result: what its name is a hash of, also of cells that were finished by older code."""

import pytest
import yaml

from fairloop import composition
from fairloop.config import deciding_of
from fairloop.config.study import studies
from fairloop.tracking.store import cell_key


def configured(*overrides):
    with composition.composer():
        return composition.validate(composition.compose_config(overrides))


def kept(*overrides):
    """A configuration as a cell's config.yaml gives it back."""
    return yaml.safe_load(yaml.safe_dump(configured(*overrides).model_dump(mode="json")))


def name(*overrides):
    """The name under the version that the study had then: since, labels and intervals changed what a cell holds."""
    cell = configured(*overrides)
    return cell_key(cell.study.name, cell.deciding(), VERSIONS_THEN[cell.study.name])


VERSIONS_THEN = {"recursion": 2, "evaluate": 1, "metric_calibration": 1, "fair_gender": 3}

# Computed by the code before studies declared themselves: what decides a cell is what it was.
NAMES = {
    "study.resamples=2000": "c1928b014122f5a1",  # the default then
    "mitigation=augment study.resamples=2000": "2dd7af14038a5f61",
    "mitigation=[augment,finetune] study.resamples=2000": "291f01d32475b704",
    "study=evaluate plm=minilm benchmark=lpbs": "a02c7e32377040b5",
    "study=evaluate benchmark=seat": "fa0c72384f51db86",
    "study=evaluate plm=minilm benchmark=perplexity": "729e5be33b8fa392",
    "study=evaluate benchmark=glue benchmark.tasks=[rte]": "95f1f1e9468d8800",  # since its intervals draw nothing
    "study=metric_calibration": "80d18358f497ed4b",
    "study=fair_gender": "2b948e5f0a395c7a",
    "study=fair_gender debias=none": "8128d278559190ff",
    "study=fair_gender debias.source=template seed=3": "07a443c5911691a6",
    "experiment=fair_gender_baselines hydra.mode=RUN": "bd56df438de478fe",
    "study=fair_gender study.resamples=300": "c5a1a26cd624be47",
}


@pytest.mark.parametrize("line", NAMES)
def test_cells_keep_the_names_that_they_had(line):
    assert name(*line.split()) == NAMES[line]


def test_every_study_is_found_by_its_file():
    assert set(studies()) == {"recursion", "evaluate", "metric_calibration", "fair_gender"}


@pytest.mark.parametrize("study", ["recursion", "evaluate", "metric_calibration", "fair_gender"])
def test_what_decided_an_old_cell_is_rebuilt_from_its_configuration(study):
    cell = configured(f"study={study}", "seed=3")
    assert deciding_of(kept(f"study={study}", "seed=3")) == {**cell.deciding(), "version": cell.study.version}


def test_what_a_study_does_not_read_and_what_decides_nothing_makes_no_difference():
    usual = kept("study=recursion")
    others = kept("study=recursion", "gpu_share=0.5", "on_failure=stop", "plm=bert_base", "debias.lambda_r=0.5")
    gone = {**usual, "debias": {"name": "fair_gender", "key_of_an_older_version": 1}, "plm": {"path": 3}}
    assert deciding_of(usual) == deciding_of(others) == deciding_of(gone)


def test_a_configuration_of_an_older_schema_gives_the_groups_that_its_study_reads():
    old = kept("study=fair_gender")
    old["debias"]["key_of_an_older_version"] = 1
    found = deciding_of(old)
    assert found["debias"]["key_of_an_older_version"] == 1
    assert found["plm"].keys() == {"kind", "dtype"}
    assert {"mitigation", "trainer", "runs_dir"}.isdisjoint(found)
    moved = deciding_of({**old, "runs_dir": "elsewhere", "initial_bias": {"level": 0.6}})
    assert moved == found
