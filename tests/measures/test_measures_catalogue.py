"""The catalogue of measures: what it says of those that the package makes, and that nothing is declared twice."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fairloop
from fairloop.benchmarks.registry import benchmarks
from fairloop.catalogue import catalogue
from fairloop.measures.catalogue import UNKNOWN, Catalogue, Declared, gathered
from fairloop.metrics.registry import metrics
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
        ("seat/gender_mean_abs_effect_size", "minimize", 0),
        ("winobias/type1/gap", "ideal", 0),
        ("winobias/type2/pro_accuracy", "maximize", None),
        ("glue/sst2/accuracy", "maximize", None),
        ("glue/sst2/seed_sd", "", None),
        ("perplexity/pseudo_perplexity", "minimize", None),
        ("perplexity/tokens", "", None),
        ("heldout_templates/skipped", "", None),
        ("calibration/downstream/bias/n100/slope", "", None),
        ("something/else", "", None),
    ],
)
def test_directions(metric, goal, ideal):
    assert (catalogue().of(metric).goal, catalogue().of(metric).ideal) == (goal, ideal)


def test_the_distance_is_what_is_minimised():
    of = catalogue().of
    assert of("crows_pairs/overall/score").distance(38.5) == 11.5
    assert of("downstream/accuracy").distance(0.5) is None
    assert of("seat/mean_abs_effect_size").distance(0.5) is None  # it is an amount, and minimised itself
    assert goal_of("crows_pairs/overall/score", catalogue()) == ""
    assert goal_of("crows_pairs/overall/score/distance", catalogue()) == "minimize"
    assert goal_of("downstream/accuracy/low", catalogue()) == ""


def test_an_amount_of_bias_is_the_distance_from_the_unbiased_value_and_a_skill_is_left_alone():
    of = catalogue().of
    assert of("crows_pairs/gender/score").amount(38.5) == 11.5
    assert of("rule/net_stereotype_rate").amount(-0.2) == 0.2
    assert of("stereoset/gender/lms").amount(80.0) == 80.0
    assert of("stereoset/gender/ss").is_bias
    assert not of("stereoset/gender/icat").is_bias


def test_headlines_are_names_of_metrics_with_titles():
    for row in catalogue().headlines():
        assert row.is_name
        assert row.title
        assert catalogue().of(row.pattern) is row, row.pattern  # no row before it takes its metric


def test_no_row_is_hidden_by_one_before_it():
    for row in catalogue().rows:
        assert catalogue().of(row.pattern.replace("*", "x")) is row, row.pattern


def test_counts_are_never_results():
    of = catalogue()
    for benchmark in benchmarks():
        assert not of.is_result(f"{benchmark}/skipped")
        assert not of.is_headline(f"before/{benchmark}/skipped")
    for name in ("perplexity/tokens", "downstream/pairs", "pairs/kept", "generation/tokens"):
        assert not of.is_result(name)
    assert of.is_result("downstream/bias")


def test_every_benchmark_and_every_metric_has_a_headline_of_its_own_family():
    for name, benchmark in benchmarks().items():
        assert {row.family for row in benchmark.declared} == {name}
        assert any(row.headline and row.is_name for row in benchmark.measures), name
    families = [{row.family for row in metric.measures} for metric in metrics().values()]
    assert len(set().union(*families)) == sum(map(len, families))
    for metric in metrics().values():
        assert any(row.headline and row.is_name for row in metric.measures), metric.name


def test_what_sums_a_cell_up():
    summary = catalogue().summary
    assert summary(["winobias/skipped", "winobias/overall/pro_accuracy", "winobias/overall/gap"]) == [
        "winobias/overall/gap"
    ]
    assert summary(["perplexity/tokens", "perplexity/perplexity"]) == ["perplexity/perplexity"]
    assert summary(["before/lpbs/gap", "stereoset/overall/lms", "lpbs/gap", "stereoset/overall/ss"]) == [
        "stereoset/overall/ss",
        "lpbs/gap",
        "stereoset/overall/lms",
    ]
    assert summary(["mitigated/downstream/bias@2", "downstream/bias@2", "downstream/chance@2"]) == ["downstream/bias@2"]
    assert summary(["seat/sent-weat6/effect_size", "seat/skipped"]) == ["seat/sent-weat6/effect_size"]
    assert summary(["glue/mean_of_1_train64", "glue/rte/accuracy"]) == ["glue/mean_of_1_train64"]
    assert summary(["stereoset/intersentence_overall/ss", "stereoset/skipped"]) == [
        "stereoset/intersentence_overall/ss"
    ]
    assert summary(["pairs/written", "pairs/kept"]) == ["pairs/written", "pairs/kept"]


def test_titles_fall_back_on_the_name():
    assert catalogue().title("before/winobias/overall/gap") == "WinoBias gap"
    assert catalogue().label("winobias/overall/gap") == "WinoBias"
    assert catalogue().title("winobias/type1/gap") == "winobias/type1/gap"
    assert catalogue().label("something/else@2") == "something/else"
    assert catalogue().of("something/else") is UNKNOWN


@pytest.mark.parametrize(
    "wrong",
    [
        {"goal": "ideal"},
        {"goal": "maximize", "ideal": 0},
        {"headline": True},
        {"count": True, "headline": True, "title": "items"},
        {"count": True, "goal": "minimize"},
    ],
)
def test_a_row_that_contradicts_itself_is_refused(wrong):
    with pytest.raises(ValueError, match="a/b: "):
        Declared("a/b", **wrong)
    with pytest.raises(ValueError, match="a/b is declared twice"):
        gathered(("plm", [Declared("a/b")]), ("corpus", [Declared("a/b")]))


def test_the_first_row_of_a_family_that_matches_counts():
    rows = Catalogue((Declared("a/x", goal="minimize"), Declared("a/*", goal="maximize"), Declared("b/*")))
    assert [rows.of(name).goal for name in ("a/x", "a/y", "mitigated/a/y@3", "b/y")] == [
        "minimize",
        "maximize",
        "maximize",
        "",
    ]


def test_every_family_that_the_package_measures_is_in_the_catalogue():
    """Families are read from the code that makes measures: literal names `family/what`."""
    package = Path(fairloop.__file__).parent
    sources = [path.read_text() for path in package.rglob("*.py")]
    made = set(re.findall(r'Measurement(?:\.of)?\(\s*f?"([a-z_]+)/', "\n".join(sources)))
    made |= {name.partition("/")[0] for name in re.findall(r'^    "([a-z_]+/[a-z_]+)",$', "\n".join(sources), re.M)}
    assert {"seat", "downstream", "crows_pairs", "generation"} <= made
    assert made <= {row.family for row in catalogue().rows}


def test_the_catalogue_is_light():
    """The report and the command line ask it: nothing heavy is imported for that."""
    script = (
        "import sys; from fairloop.catalogue import catalogue; catalogue();"
        "print({'torch', 'transformers', 'datasets', 'evaluate', 'sklearn', 'scipy.stats'} & set(sys.modules))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(fairloop.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
