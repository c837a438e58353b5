"""Numbers that no setting can be: every numeric key of every schema refuses them in one line."""

import functools
import math
import pkgutil
import typing
from importlib import import_module

import pytest
from pydantic import ValidationError

import fairloop
from fairloop.composition import compose_config, composer, resolve
from fairloop.config import check
from fairloop.errors import UserError
from fairloop.settings import LARGEST, Settings, mistake

EXTREMES = (math.inf, -math.inf, math.nan, 1e308, -1e308, 10**5000, -(10**5000), {"a": {"b": {"c": 1}}})


def schemas(base=Settings):
    """Every class of settings in the package."""
    for module in pkgutil.walk_packages(fairloop.__path__, "fairloop."):
        last = module.name.rpartition(".")[2]
        if "settings" in last or module.name.startswith(("fairloop.config", "fairloop.metrics.", "fairloop.debias.")):
            import_module(module.name)
    found = [base]
    for one in found:
        found += [sub for sub in one.__subclasses__() if sub not in found]
    return sorted(set(found[1:]), key=lambda one: (one.__module__, one.__qualname__))


def takes_a_number(annotation):
    inner = typing.get_args(annotation)
    return annotation in (int, float) or any(takes_a_number(one) for one in inner)


KEYS = [
    (schema, name)
    for schema in schemas()
    for name, field in schema.model_fields.items()
    if takes_a_number(field.annotation) and typing.get_origin(field.annotation) not in (list, tuple, dict)
]


def test_the_walk_finds_the_keys_of_every_group():
    found = {name for _, name in KEYS}
    assert {"seed", "level", "lambda_r", "requests_per_minute", "clip_norm", "alpha", "devices", "resamples"} <= found
    assert len(KEYS) > 150


@pytest.mark.parametrize(("schema", "name"), KEYS, ids=lambda one: getattr(one, "__qualname__", one))
def test_every_numeric_key_refuses_extremes_in_one_line(schema, name):
    for value in EXTREMES:
        with pytest.raises(ValidationError) as caught:
            schema.model_validate({name: value})
        own = [error for error in caught.value.errors() if error["loc"] and error["loc"][0] == name]
        assert own, f"{name}={str(value)[:20] if not isinstance(value, int) else 'huge'} was accepted"
        try:
            schema.model_validate({**_plain(schema), name: value})
        except ValidationError as error:
            line = mistake(error, schema)
            assert "\n" not in line
            assert len(line) < 600


IN_OTHERS = {
    "a list": lambda value: [value],
    "a list in a list": lambda value: [[value]],
    "a group": lambda value: {"a": value},
    "a group in a list": lambda value: [{"name": value}],
    "a group in a group": lambda value: {"augment": {"b": value}},
    "a name": lambda value: {value: 1},
    "beside what is allowed": lambda value: [0.1, "a", value],
}
DEEP = functools.reduce(lambda inner, _: {"a": inner}, range(100), 1)
OF_PARTS = [
    (schema, name)
    for schema in schemas()
    for name, field in schema.model_fields.items()
    if any(kind in str(field.annotation) for kind in ("tuple[", "list[", "dict[", "typing.Any"))
]


def test_the_walk_finds_lists_and_free_form_groups():
    found = {name for _, name in OF_PARTS}
    assert {"levels", "sizes", "metrics", "launcher", "extra", "mitigation", "metric", "benchmarks", "kinds"} <= found


@pytest.mark.parametrize(("schema", "name"), OF_PARTS, ids=lambda one: getattr(one, "__qualname__", one))
def test_every_list_and_free_form_group_refuses_extremes_in_one_line(schema, name):
    for value in (*EXTREMES[:-1], DEEP):
        for kind, put in IN_OTHERS.items():
            if kind == "a name" and value is DEEP:
                continue
            with pytest.raises((ValidationError, UserError)) as caught:
                schema.model_validate({**_plain(schema), name: put(value)})
            if isinstance(caught.value, ValidationError):
                own = [error for error in caught.value.errors() if error["loc"] and error["loc"][0] == name]
                assert own, f"{name} with {kind} of an extreme was accepted"
                line = mistake(caught.value, schema)
            else:
                line = str(caught.value)
            assert "\n" not in line
            assert len(line) < 700


def _plain(schema):
    """Whatever of the schema has a default."""
    return {name: field.default for name, field in schema.model_fields.items() if not field.is_required()}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            "initial_bias.level=inf",
            "initial_bias.level=inf: allowed is a number (finite, at most 1e+12 in size)",
        ),
        ("trainer.timeout_seconds=1" + "0" * 40, "trainer.timeout_seconds=1000"),
        ("trainer.timeout_seconds=1" + "0" * 4000, "trainer.timeout_seconds=a whole number of about "),
    ],
)
def test_the_line_of_a_composed_mistake_says_what_is_allowed(given, says):
    with composer(), pytest.raises(UserError) as caught:
        check(resolve(compose_config([given])))
    assert str(caught.value).startswith(says)
    assert "at most" in str(caught.value)


def test_the_largest_number_is_allowed():
    with composer():
        assert check(resolve(compose_config([f"trainer.timeout_seconds={LARGEST}"]))).trainer.timeout_seconds == LARGEST
