"""Corpus metrics as a seam: found by their files, chosen by name, measured in one order, with settings of their own."""

import numpy as np
import pytest
from pydantic import Field, ValidationError

from fairloop.corpus.seed import seed_corpus
from fairloop.errors import UserError
from fairloop.measures.catalogue import Declared
from fairloop.measures.measurement import Measurement
from fairloop.metrics import registry
from fairloop.metrics.measures import measure_corpus
from fairloop.metrics.metric import Metric, Sample
from fairloop.settings import Settings


class LongSettings(Settings):
    words: int = Field(10, ge=1, description="words of a long sentence")


def measure(sample: Sample, settings: LongSettings) -> list[Measurement]:
    long = np.mean([len(text.split()) >= settings.words for text in sample.texts])
    return [Measurement("long/share", float(long), None, None, len(sample.texts))]


LONG = Metric("long", (Declared("long/share", "share of long sentences"),), measure, "", "", (), settings=LongSettings)


@pytest.fixture
def with_long(monkeypatch):
    every = {**registry.metrics(), "long": LONG}
    monkeypatch.setattr(registry, "metrics", lambda: every)


def test_the_default_metrics_come_first_and_in_their_order():
    assert tuple(registry.metrics())[: len(registry.DEFAULT)] == registry.DEFAULT
    for name, metric in registry.metrics().items():
        assert metric.name == name


def test_chosen_metrics_are_measured_in_one_order_and_nothing_else_is():
    corpus = seed_corpus(0.5, 60, 0.3, 1)
    found = measure_corpus(corpus, None, seed=0, resamples=20, chosen=["diversity", "rule_based"])
    assert [one.metric.partition("/")[0] for one in found] == ["rule"] * 4 + ["diversity"] * 8
    assert found == measure_corpus(corpus, None, seed=0, resamples=20, chosen=["rule_based", "diversity"])
    assert not registry.needs_encoder(["diversity", "rule_based"])
    assert registry.needs_encoder(registry.DEFAULT)


def test_a_metric_that_needs_an_encoder_says_so_where_there_is_none():
    with pytest.raises(ValueError, match="embed: this metric needs"):
        measure_corpus(seed_corpus(0.5, 30, 0.3, 1), None, seed=0, chosen=["embedding"])


def test_a_new_metric_is_measured_with_its_settings(with_long):
    corpus = seed_corpus(0.5, 30, 0.3, 1)
    chosen = ["long", "diversity"]
    by_default = measure_corpus(corpus, None, seed=0, resamples=20, chosen=chosen)
    assert [one.metric for one in by_default][-1] == "long/share"
    settings = {"long": registry.settings_of("long", {"words": 1})}
    assert measure_corpus(corpus, None, seed=0, resamples=20, chosen=chosen, settings=settings)[-1].value == 1


def test_mistakes_are_one_line(with_long):
    with pytest.raises(UserError, match=r"study.metrics=blue: choose one of rule_based, embedding"):
        registry.in_order(["rule_based", "blue"])
    with pytest.raises(UserError, match=r"study.metrics=diversity: each metric once"):
        registry.in_order(["diversity", "rule_based", "diversity"])
    with pytest.raises(UserError, match=r"metric=diversity: .*no settings; those with settings are .*long"):
        registry.settings_of("diversity", {})
    with pytest.raises(ValidationError):
        registry.settings_of("long", {"words": 0})
