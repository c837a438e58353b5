"""A default stands in the schema, and the option's file in conf/ shows it (of debias methods: test_debias_settings)."""

import importlib
from collections import Counter

import pytest
import yaml

from fairloop.benchmarks.registry import benchmarks
from fairloop.benchmarks.registry import settings_of as benchmark_settings
from fairloop.composition import conf_dir
from fairloop.config.study import studies
from fairloop.generation.server_settings import ServerSettings, settings_class
from fairloop.generation.settings import ModelSettings
from fairloop.metrics.metric import Sample
from fairloop.metrics.registry import DEFAULT, metrics
from fairloop.mitigation.compose import strategies
from fairloop.statistics import bootstrap


def shown(group, option):
    return yaml.safe_load((conf_dir() / group / f"{option}.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", sorted(benchmarks()))
def test_a_benchmark_chosen_by_its_group_is_the_one_that_fair_gender_lists_by_name(name):
    assert benchmark_settings(shown("benchmark", name)) == benchmark_settings({"name": name})


@pytest.mark.parametrize("name", [name for name, one in metrics().items() if one.settings is not None])
def test_the_settings_of_a_metric_are_the_same_with_and_without_its_option(name):
    content, schema = shown("metric", name), metrics()[name].settings
    assert content.keys() == {name}
    assert content[name].keys() == schema.model_fields.keys()
    assert schema.model_validate(content[name]) == schema()


@pytest.mark.parametrize("name", strategies())
def test_the_file_of_a_strategy_shows_every_key_with_the_default_of_its_schema(name):
    content, schema = shown("mitigation", name), importlib.import_module(f"fairloop.mitigation.{name}").StrategySettings
    assert content.keys() == {name}
    assert content[name].keys() == schema.model_fields.keys()
    assert schema.model_validate(content[name]) == schema()


def test_a_generators_own_file_that_leaves_a_key_out_samples_as_most_packaged_models_do():
    files = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in (conf_dir() / "model").glob("*.yaml")]
    assert len(files) >= 10
    for schema in (ModelSettings, ServerSettings):
        shown = [one for one in files if settings_class(one) is schema]
        for key in ("prompt_form", "temperature", "top_p", "repetition_penalty", "max_new_tokens"):
            ((usual, _),) = Counter(one[key] for one in shown).most_common(1)
            assert schema.model_fields[key].default == usual, (schema, key)


def test_a_study_draws_as_often_as_its_measures_do_by_themselves():
    assert shown("study", "recursion")["resamples"] == Sample.resamples
    assert shown("study", "fair_gender")["study"]["resamples"] == bootstrap.RESAMPLES


def test_studies_of_corpora_measure_the_default_metrics():
    measuring = [name for name, study in studies().items() if "metrics" in study.model_fields]
    assert len(measuring) >= 2
    for name in measuring:
        assert tuple(shown("study", name)["metrics"]) == DEFAULT
