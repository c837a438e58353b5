"""What documents repeat for their readers (lists of choices, counts, numbers) is what code, conf/ and data say."""

import re
import tomllib
from math import prod
from pathlib import Path

import pytest
import yaml

from fairloop.benchmarks import seat
from fairloop.benchmarks.registry import benchmarks
from fairloop.catalogue import catalogue
from fairloop.composition import conf_dir, options_of
from fairloop.debias import dropout
from fairloop.debias.registry import methods, settings_class
from fairloop.errors import Fault, UserError
from fairloop.generation.screening import LONGEST, SHORTEST
from fairloop.generation.writer import ENOUGH_ASKS
from fairloop.lexicon import occupations
from fairloop.lexicon.occupations import FEMALE_ABOVE, MALE_BELOW
from fairloop.metrics import downstream, downstream_hiring, downstream_pronoun, training_set
from fairloop.metrics.metric import Sample
from fairloop.mitigation.compose import strategies
from fairloop.naming import _PLACES
from fairloop.statistics import (
    bootstrap,
    correlation,
    equilibrium,
    exact_permutation,
    intervals,
    line,
    means,
    paired,
)
from fairloop.sweep.launch import PLUGINS
from fairloop.version import __version__

ROOT = Path(__file__).parents[2]
NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
FOLDERS = {path.parent.relative_to(conf_dir()).as_posix() for path in conf_dir().rglob("*.yaml")} - {"."}
GROUPS = sorted(one for one in FOLDERS if not any(one.startswith(f"{other}/") for other in FOLDERS))
"""The config groups but for those within another one, from which its options are made."""


def text_of(document):
    return (ROOT / document).read_text(encoding="utf-8")


README, METHODS = text_of("README.md"), text_of("docs/methods.md")
PROSE = " ".join(README.split())


def section(page, title):
    """What stands between a heading and the next one of its rank."""
    mark = title.partition(" ")[0]
    return page.partition(f"\n{title}")[2].partition(f"\n{mark} ")[0]


def first_column(part):
    """The names in code marks with which the rows of tables begin."""
    return re.findall(r"^\| `([\w/]+)`", part, re.MULTILINE)


def contents(group, option):
    return yaml.safe_load((conf_dir() / group / f"{option}.yaml").read_text(encoding="utf-8"))


def former_names():
    """Options of `ablation` that only name another one."""
    return {option for option in options_of("ablation") if set(contents("ablation", option)) == {"defaults"}}


@pytest.mark.parametrize("group", GROUPS)
def test_the_readme_lists_every_choice_of_a_group_and_no_other(group):
    (row,) = re.findall(rf"^\| `{group}` \| (.+) \|$", README, re.MULTILINE)
    named = set(re.findall(r"`(\w+)`", row))
    options = set(options_of(group)) - (former_names() if group == "ablation" else set())
    assert options <= named
    assert named <= options | set(GROUPS) | {extra for extra, _ in PLUGINS.values()}


def test_the_readme_counts_the_former_names_of_ablations():
    (counted,) = re.findall(r"former names of (\w+) of them", README)
    assert NUMBERS.index(counted) == len(former_names())


def test_the_readme_has_the_initial_levels():
    for option in options_of("initial_bias"):
        assert f"`{option}` ({contents('initial_bias', option)['level']})" in README


def grid(experiment):
    params = contents("experiment", experiment)["hydra"]["sweeper"]["params"]
    return {key: len(str(values).split(",")) for key, values in params.items()}


def test_the_size_of_a_published_grid_is_said_right():
    ablation, baselines = grid("fair_gender_ablation"), grid("fair_gender_baselines")
    measured = len(contents("experiment", "fair_gender_baselines")["study"]["benchmarks"])
    said = {
        "equilibrium": (f"{prod(grid('equilibrium').values())} cells",) * 2,
        "fair_gender_ablation": (f"{ablation['ablation']} variants, {ablation['seed']} seeds",) * 2,
        "fair_gender_baselines": (
            f"{baselines['debias']} methods, {measured} benchmarks, {baselines['seed']} seeds",
            f"{baselines['debias']} methods, {baselines['seed']} seeds",
        ),
    }
    for experiment, (in_readme, in_file) in said.items():
        (line,) = re.findall(rf"experiment={experiment}\b.*#.*", README)
        assert in_readme in line
        assert in_file in (conf_dir() / "experiment" / f"{experiment}.yaml").read_text(encoding="utf-8")


def test_the_methods_page_has_every_strategy_method_benchmark_and_family():
    assert set(first_column(section(METHODS, "## 5. Mitigations"))) == {"none", *strategies()}
    assert set(first_column(section(METHODS, "## 8. Baselines"))) == set(methods()) - {"fair_gender"}
    assert set(first_column(section(METHODS, "## 9. Benchmarks"))) == set(benchmarks())
    assert [family for family in catalogue().families("corpus") if f"`{family}/" not in METHODS] == []


BUDGET, PROMPTS, FAIR_GENDER, SELF_DEBIAS = (
    settings_class(name)(name=name) for name in ("cda", "auto_debias", "fair_gender", "self_debias")
)
HIDDEN, ATTENTION = dropout.PUBLISHED[""]
ALBERT = " and ".join(map(str, dropout.PUBLISHED["albert"]))
MAJORITIES = [one.majority for one in occupations()]


@pytest.mark.parametrize(
    "said",
    [
        f"{len(MAJORITIES)} occupations",
        f"Male-majority: below {MALE_BELOW} ({MAJORITIES.count('male')} of them)",
        f"female-majority: above {FEMALE_ABOVE} ({MAJORITIES.count('female')})",
        f"sentence of {SHORTEST} to {LONGEST} words",
        f"after {ENOUGH_ASKS} answers",
        f"{BUDGET.steps} steps of {BUDGET.batch_size}",
        f"dropout {HIDDEN} (hidden) and {ATTENTION} (attention); {ALBERT} for",
        f"beam {PROMPTS.beam}, {PROMPTS.prompt_length} words, {PROMPTS.candidates} candidates",
        f"{PROMPTS.gendered_words} pairs of words; the term on the pooled output",
        f"default $K = {FAIR_GENDER.neighbours}$",
        f"decay {SELF_DEBIAS.decay:g}, $\\varepsilon$ {SELF_DEBIAS.epsilon:g}",
        f"Below {NUMBERS[intervals.FEWEST_UNITS]} groups there is no interval",
        f"No interval below {NUMBERS[bootstrap.FEWEST_FOR_BOOTSTRAP]} units",
        f"no interval below {NUMBERS[correlation.FEWEST_CLUSTERS]}.",
        f"Student's t from {NUMBERS[means.FEWEST_FOR_SPREAD]} cells on",
        f"With fewer than {NUMBERS[line.FEWEST_CELLS]} cells the signs are drawn for each transition",
        f"fewer than {NUMBERS[equilibrium.FEWEST_TRANSITIONS]} transitions among generated corpora in some cell",
        f"from fewer than {NUMBERS[equilibrium.FEWEST_TRENDS]} cells: *undecided*",
        f"lies within ±{equilibrium.KEPT_MARGIN})",
        f"lies within ±{equilibrium.TREND_MARGIN} a generation",
        f"generations, $p \\ge {equilibrium.MISFIT}$",
        f"from {NUMBERS[paired.FEWEST_FOR_FLIPS]} pairs on",
        f"With up to {exact_permutation.COUNTED_UP_TO} target sentences",
        f"`p_value=sampled`: {seat.PUBLISHED_SAMPLES:,} samples",
        f"enumerated up to {Sample.partitions:,} of them",
        f"logistic regression, $C = {downstream.INVERSE_PENALTY}$",
        f"Bradley–Terry, $C = {downstream_pronoun.INVERSE_PENALTY}$",
        f"penalty {downstream_hiring.PENALTY:g} per sentence",
        f"{NUMBERS[training_set.FOLDS].capitalize()} models are trained",
        f"{training_set.RESAMPLES} draws of such noise",
    ],
)
def test_numbers_of_the_methods_page_are_those_of_the_code(said):
    assert said in " ".join(METHODS.split())


def test_numbers_of_the_readme_are_those_of_the_code():
    assert f"below {NUMBERS[intervals.FEWEST_UNITS]} groups there is no interval" in PROSE
    assert f"equilibrium needs {NUMBERS[equilibrium.FEWEST_TRANSITIONS]} transitions in every cell" in PROSE
    project = tomllib.loads(text_of("pyproject.toml"))["project"]
    for document in (README, text_of("docs/install.md")):
        assert f"Python {project['requires-python'].removeprefix('>=')} or newer" in document


def test_the_wheel_has_this_version():
    assert set(re.findall(r"fairloop-([\d.]+)-py3", text_of("docs/install.md"))) == {__version__}


def test_exit_statuses():
    page = text_of("docs/clusters.md")
    assert set(re.findall(r"^\| (\d+) \|", page, re.MULTILINE)) == {
        "0", str(Fault.exit_status), str(UserError.exit_status), "130"
    }  # fmt: skip


def test_the_keys_by_which_runs_are_grouped_are_all_named():
    page = text_of("docs/wandb.md")
    assert [key for key in _PLACES if f"`{key}`" not in page] == []


def test_the_labels_that_were_checked_are_counted():
    folder = ROOT / "tests" / "corpus" / "data"
    rows = {path.stem: len(path.read_text(encoding="utf-8").splitlines()) - 1 for path in folder.glob("*.csv")}
    own = rows.pop("annotation_gold")
    lines = text_of("src/fairloop/corpus/data/label_errors.csv").splitlines()
    header, *errors = (line.split(",") for line in lines)
    gendered, right = (sum(int(line[header.index(name)]) for line in errors) for name in ("gendered", "right"))
    assert f"{own} sentences that we wrote, and {sum(rows.values())} that {NUMBERS[len(errors)]} families of" in PROSE
    assert f"of {gendered} gendered sentences of these families that no rule was made for, {right} were found" in PROSE
    assert f"{own} sentences that the project wrote and {sum(rows.values())} of three" in text_of("docs/licences.md")


RANGE = r"debias\.(\w+)\W.*?(?:interval\(|min: )([\d.e-]+),(?: max: )?([\d.e-]+)"


@pytest.mark.parametrize("document", ["conf/hydra/sweeper/fairloop_optuna.yaml", "docs/clusters.md", "docs/wandb.md"])
def test_a_search_that_is_shown_goes_over_both_sides_of_the_default(document):
    default = settings_class("fair_gender")(name="fair_gender")
    found = re.findall(RANGE, text_of(document))
    assert len(found) >= 2
    for key, low, high in found:
        assert float(low) < getattr(default, key) < float(high), key
