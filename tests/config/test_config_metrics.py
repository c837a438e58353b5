"""Which metrics of a corpus a study measures, with which settings."""

import pytest
from pydantic import Field

from fairloop import composition
from fairloop.errors import UserError
from fairloop.measures.measurement import Measurement
from fairloop.metrics import registry
from fairloop.metrics.metric import Metric
from fairloop.metrics.registry import DEFAULT
from fairloop.settings import Settings, by_contents
from fairloop.studies.script import Script


class OwnSettings(Settings):
    limit: int = Field(3, ge=1, description="a number")
    model: str | None = by_contents(None, description="a folder")


@pytest.fixture
def own(monkeypatch):
    """A metric with settings, as a user would add one; it counts the sentences."""
    count = Metric("own", (), lambda sample, settings: [Measurement("own/n", len(sample.texts) + settings.limit, None,
                   None, 1)], "", "", (), settings=OwnSettings)  # fmt: skip
    known = {**registry.metrics(), "own": count}
    monkeypatch.setattr(registry, "metrics", lambda: known)


def configured(*overrides):
    with composition.composer():
        return composition.validate(composition.compose_config(overrides))


@pytest.mark.parametrize("study", ["recursion", "metric_calibration"])
def test_metrics_are_chosen_by_name_and_the_default_ones_are_not_named(study, own):
    usual = configured(f"study={study}")
    assert usual.study.metrics == DEFAULT
    assert "metrics" not in usual.deciding()["study"]
    named = configured(f"study={study}", f"study.metrics=[{','.join(reversed(DEFAULT))}]")
    assert named.deciding() == usual.deciding()
    fewer = configured(f"study={study}", "study.metrics=[diversity,rule_based]")
    assert fewer.deciding()["study"]["metrics"] == ["rule_based", "diversity"]
    assert "study.encoder" not in fewer.models, "no chosen metric reads vectors"


def test_settings_and_weights_of_a_chosen_metric_name_the_cell(own, tmp_path):
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    chosen = ("study.metrics=[rule_based,own]", "++metric.own.limit=5")
    cell = configured(*chosen, f"++metric.own.model={folder}")
    assert cell.deciding()["metric"] == {"own": {"limit": 5, "model": None}}
    assert cell.deciding()["weights"]["metric.own.model"].startswith("folder@")
    names = [Script(one, None, None).choices["metric"] for one in (cell, configured(*chosen))]
    assert names[0] != names[1], "a shared stage is named by them too"


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["++metric.own.limit=5"], "metric=own: it is not measured: study.metrics=[rule_based,"),
        (["study.metrics=[own]", "++metric.own.limit=0"], "metric.own.limit=0: allowed is a whole number at least 1"),
        (["++metric.diversity.limit=5"], "metric=diversity: it has no settings"),
        (["study.metrics=[regards]"], "study.metrics=regards: choose one of"),
        (["study.metrics=[diversity,diversity]"], "study.metrics=diversity: each metric once"),
        (["study.metrics=[]"], "study.metrics=[]: allowed is"),
    ],
)
def test_a_mistake_is_one_line(own, overrides, line):
    with pytest.raises(UserError) as info:
        configured("study=recursion", *overrides)
    assert str(info.value).startswith(line)


def test_a_corpus_is_measured_with_the_chosen_metrics_and_their_settings(own):
    from fairloop.corpus.seed import seed_corpus

    cell = configured("study.metrics=[own,rule_based]", "++metric.own.limit=5")
    script = Script(cell, None, None)
    assert script.embed is None
    measured = script.measure_corpus(seed_corpus(0.3, 20, 0.5, 0), script.embed, 0, 100)
    assert {one.metric.partition("/")[0] for one in measured} == {"rule", "own"}
    assert [one.value for one in measured if one.metric == "own/n"] == [25]
