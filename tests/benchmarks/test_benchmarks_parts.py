"""Development and test halves: disjoint, alike in size, the same everywhere, and never mixed in one item."""

import random
from pathlib import Path

import pytest

from fairloop.benchmarks import crows_pairs, heldout_templates, lpbs, stereoset
from fairloop.benchmarks.crows_pairs import CrowsPair
from fairloop.benchmarks.parts import items_of, part_of
from fairloop.benchmarks.registry import settings_of
from fairloop.benchmarks.stereoset import StereoItem
from fairloop.lexicon import neutral_sentences
from fairloop.pairs.verification import held_out_in

HALVES = ("development", "test")


@pytest.mark.parametrize("count", [2, 3, 11, 200])
def test_halves_are_disjoint_complete_and_alike_in_size_whatever_the_order(count):
    names = [f"name {number}" for number in range(count)]
    first, second = (part_of(names, half, "something") for half in HALVES)
    assert not first & second
    assert first | second == {*names} == part_of(names, "all", "something")
    assert 0 <= len(second) - len(first) <= 1
    shuffled = names * 2
    random.Random(1).shuffle(shuffled)
    assert part_of(shuffled, "development", "something") == first
    if count > 10:
        assert part_of(names, "development", "something else") != first


def test_the_halves_are_these_ones_on_every_machine():
    assert sorted(part_of("abcdefgh", "development", "letters")) == ["a", "b", "c", "g"]


def cases(half):
    held = heldout_templates.cases_of(half)
    yield "held-out subjects", {case.target for case in held if case.target is not None}
    yield "held-out templates", {case.template for case in held}
    yield "held-out words", {case.words for case in held if case.words != heldout_templates.PRONOUNS}
    pairs = lpbs.cases_of(half)
    yield "occupations", {occupation.name for occupation, _ in pairs}
    yield "LPBS templates", {template for _, template in pairs}
    yield "neutral sentences", {*items_of(neutral_sentences("heldout"), half, "perplexity", str)}


def test_no_target_template_word_or_neutral_sentence_is_in_both_halves():
    for (name, first), (_, second), (_, everything) in zip(*map(cases, (*HALVES, "all")), strict=True):
        assert first, name
        assert second, name
        assert not first & second, name
        assert first | second == everything, name


def test_each_half_has_every_kind_of_subject_and_every_majority():
    for half in HALVES:
        assert {case.target.kind for case in heldout_templates.cases_of(half) if case.target} == {
            "occupation", "trait", "activity",
        }  # fmt: skip
        assert {occupation.majority for occupation, _ in lpbs.cases_of(half)} == {"male", "female", "balanced"}


def test_pairs_contain_nothing_of_either_half():
    for half in HALVES:
        for case in heldout_templates.cases_of(half):
            assert held_out_in(case.text("male")) is not None or case.target is None


def item(number, target, kind="intrasentence", bias_type="gender"):
    return StereoItem(str(number), kind, target, bias_type, "BLANK is here.", ("a", "b", "c"))


def test_stereoset_is_halved_by_target_term_within_each_bias_type():
    kinds = ("intrasentence", "intersentence")
    items = [
        item(100 * place + number, f"{bias_type} {number}", kind, bias_type)
        for place, kind in enumerate(kinds)
        for bias_type in ("gender", "race")
        for number in range(10)
    ]
    first, second = (stereoset.in_part(items, half) for half in HALVES)
    assert len(first) == len(second) == len(items) // 2
    assert not {one.target for one in first} & {one.target for one in second}
    for half in (first, second):
        for bias_type in ("gender", "race"):
            assert len({one.target for one in half if one.bias_type == bias_type}) == 5
        assert [one.item for one in half] == [one.item for one in items if one in half]
    assert stereoset.in_part(items, "all") == items


def test_crows_pairs_keeps_pairs_of_the_same_sentences_together():
    pairs = [CrowsPair(str(n), f"more {n % 20}", f"less {n % 20}", "stereo", "gender", str(n % 3)) for n in range(40)]
    turned = [CrowsPair(str(40 + n), f"less {n}", f"more {n} ", "antistereo", "gender", "3") for n in range(20)]
    first, second = (crows_pairs.in_part([*pairs, *turned], half) for half in HALVES)
    texts = [{frozenset((one.more.strip(), one.less.strip())) for one in half} for half in (first, second)]
    assert not texts[0] & texts[1]
    assert len(first) == len(second) == 30


def test_the_publishers_items_are_halved(benchmark_data):
    for name, module, by in (
        ("stereoset", stereoset, lambda one: (one.bias_type, one.target.lower())),
        ("crows_pairs", crows_pairs, lambda one: (one.more, one.less)),
    ):
        items = module.read(Path(benchmark_data) / name)
        first, second = (module.in_part(items, half) for half in HALVES)
        assert len(first) + len(second) == len(items)
        assert not {by(one) for one in first} & {by(one) for one in second}
        gender = [sum(one.bias_type == "gender" for one in half) for half in (first, second)]
        assert min(gender) > 0.3 * sum(gender), gender


def test_all_items_are_no_choice_that_names_a_cell():
    assert "part" not in settings_of({"name": "lpbs"}).deciding()
    assert settings_of({"name": "lpbs", "part": "test"}).deciding()["part"] == "test"
