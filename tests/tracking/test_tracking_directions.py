"""The table of directions: what it says of the metrics that the package makes."""

import re
from pathlib import Path

import pytest

import fairloop
from fairloop.tracking.directions import direction, directions, headlines
from fairloop.tracking.wandb_values import goal_of


@pytest.mark.parametrize(
    ("metric", "goal", "ideal"),
    [
        ("rule/net_stereotype_rate@3", "ideal", 0),
        ("mitigated/downstream/bias@2", "ideal", 0),
        ("downstream_hiring/bias", "ideal", 0),
        ("downstream/accuracy", "maximize", None),
        ("downstream/chance", "", None),
        ("downstream/flip_rate", "minimize", None),
        ("rule/gendered_share", "", None),
        ("before/stereoset/gender/ss", "ideal", 50),
        ("stereoset/intersentence_gender/icat", "maximize", None),
        ("crows_pairs/race-color/score", "ideal", 50),
        ("crows_pairs/overall/antistereo_score", "ideal", 50),
        ("crows_pairs/overall/ties", "", None),
        ("seat/sent-weat6b/effect_size", "ideal", 0),
        ("seat/sent-weat6b/p_value", "", None),
        ("seat/gender_mean_abs_effect_size", "minimize", None),
        ("winobias/type1/gap", "ideal", 0),
        ("winobias/type2/pro_accuracy", "maximize", None),
        ("glue/sst2/accuracy", "maximize", None),
        ("glue/sst2/seed_sd", "", None),
        ("perplexity/pseudo_perplexity", "minimize", None),
        ("perplexity/tokens", "", None),
        ("calibration/downstream/bias/n100/slope", "", None),
        ("something/else", "", None),
    ],
)
def test_directions(metric, goal, ideal):
    assert (direction(metric).goal, direction(metric).ideal) == (goal, ideal)


def test_the_distance_is_what_is_minimised():
    assert direction("crows_pairs/overall/score").distance(38.5) == 11.5
    assert direction("downstream/accuracy").distance(0.5) is None
    assert goal_of("crows_pairs/overall/score") == ""
    assert goal_of("crows_pairs/overall/score/distance") == "minimize"
    assert goal_of("downstream/accuracy/low") == ""


def test_headlines_are_names_of_metrics_with_titles():
    for row in headlines():
        assert not set("*?[") & set(row.pattern)
        assert row.title
        assert direction(row.pattern) is row, row.pattern  # no row before it takes its metric


def test_no_row_is_hidden_by_one_before_it():
    for place, row in enumerate(directions()):
        example = row.pattern.replace("*", "x")
        assert direction(example) in directions()[: place + 1]
        assert direction(example) is row or "*" in row.pattern


def test_every_family_that_the_package_measures_is_in_the_table():
    """Families are read from the code that makes measures: literal names `family/what`."""
    package = Path(fairloop.__file__).parent
    sources = [path.read_text() for room in ("metrics", "benchmarks") for path in (package / room).glob("*.py")]
    made = set(re.findall(r'Measurement(?:\.of)?\(\s*f?"([a-z_]+)/', "\n".join(sources)))
    made |= {name.partition("/")[0] for name in re.findall(r'^    "([a-z_]+/[a-z_]+)",$', "\n".join(sources), re.M)}
    assert {"seat", "downstream", "crows_pairs"} <= made
    assert made <= {row.pattern.partition("/")[0].rstrip("*") for row in directions()} | {
        "downstream_pronoun",  # "downstream*"
        "downstream_hiring",
    }
