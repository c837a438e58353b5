import dataclasses

import pydantic
import pytest
import yaml
from plm_models import tiny

from fairloop.benchmarks.data import DataSet
from fairloop.benchmarks.registry import benchmark, benchmarks, measure, settings_of
from fairloop.benchmarks.settings import BenchmarkSettings
from fairloop.errors import UserError
from fairloop.plm.model import LanguageModel
from fairloop.plm.settings import plm_class


def test_every_benchmark_has_its_name_its_settings_and_described_fields():
    assert {"seat", "stereoset", "crows_pairs", "winobias", "perplexity", "lpbs", "glue"} <= set(benchmarks())
    for name, one in benchmarks().items():
        assert one.settings(name=name).name == name
        assert issubclass(one.settings, BenchmarkSettings)
        assert all(field.description for field in one.settings.model_fields.values())
        assert one.dataset is None or isinstance(one.dataset, DataSet)


def test_every_benchmark_and_plm_has_a_yaml_that_is_valid(request):
    conf = request.config.rootpath / "conf"
    names = {path.stem for path in (conf / "benchmark").glob("*.yaml")}
    assert names == set(benchmarks())
    for path in (conf / "benchmark").glob("*.yaml"):
        values = yaml.safe_load(path.read_text())
        assert values["name"] == path.stem
        assert set(values) == set(settings_of(values).model_fields)
    for path in (conf / "plm").glob("*.yaml"):
        values = yaml.safe_load(path.read_text())
        assert set(values) == set(plm_class(values).model_fields)


def test_settings_are_strict():
    with pytest.raises(UserError, match=r"benchmark=nonsense: choose one of .*crows_pairs"):
        benchmark("nonsense")
    with pytest.raises(pydantic.ValidationError):
        settings_of({"name": "crows_pairs", "protocol": "nangia"})
    with pytest.raises(pydantic.ValidationError):
        settings_of({"name": "crows_pairs", "unknown": 1})


def test_paths_do_not_decide_a_result():
    one, two = settings_of({"name": "seat", "data": "/a"}), settings_of({"name": "seat", "data": "/b"})
    assert one.deciding() == two.deciding()
    assert "data" not in one.deciding()


def test_a_model_of_the_wrong_kind_is_the_users_mistake():
    model, tokenizer, _ = tiny("bert")
    encoder = LanguageModel(model.base_model, tokenizer, "encoder", name="minilm_encoder")
    with pytest.raises(UserError, match="measures a model that is masked or causal; plm=minilm_encoder is encoder"):
        measure(encoder, settings_of({"name": "crows_pairs"}))


def test_items_are_rows_of_one_dataclass(tiny_plm):
    result = measure(tiny_plm("bert"), settings_of({"name": "lpbs", "resamples": 10}))
    assert {type(item) for item in result.items} == {type(result.items[0])}
    assert dataclasses.asdict(result.items[0])["occupation"]
