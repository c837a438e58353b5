"""What keeps a report of thousands of cells cheap says the same as what it stands in for."""

import numpy as np
import pytest
import yaml
from report_store import make_cell, make_demo

from fairloop.report import page
from fairloop.report.drawing import spread
from fairloop.report.read import _by_groups, read_runs
from fairloop.report.recursion.conditions import conditions
from fairloop.statistics.large import MANY_PAIRS, flip_p_value
from fairloop.statistics.paired import sign_flip_p_value


@pytest.mark.parametrize("shift", [0.0, 0.05, 0.2])
def test_the_normal_limit_of_the_sign_flip_test(shift):
    differences = np.random.default_rng(3).exponential(1.0, MANY_PAIRS) - 1 + shift
    assert flip_p_value(differences) == pytest.approx(sign_flip_p_value(differences, seed=0), abs=0.015)


def test_few_pairs_are_tested_exactly():
    assert flip_p_value([1.0, 2.0, 3.0]) == 0.25
    assert flip_p_value(np.zeros(MANY_PAIRS)) == 1.0


@pytest.mark.parametrize(
    "config",
    [
        {"study": {"name": "x", "list": ["a", {"b": 1}]}, "seed": 3, "text": "a\n\nb: c\n", "none": None},
        {"kinds": ["one", "two"], "long": "word " * 60, "odd: key": {"- dash": "#no"}, "é": "\u202e"},
        {},
    ],
)
def test_a_configuration_read_by_groups_is_the_same(config):
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    assert _by_groups(text) in (config, None)
    assert not config or _by_groups(text) == config


@pytest.mark.parametrize("text", ["a: &x 1\nb: *x\n", "a: 1\na: 2\n", "- a\n- b\n", "a: 'x\nb: y'\n", "a: [1\n"])
def test_groups_that_do_not_stand_alone_are_read_together(text):
    assert _by_groups(text) is None


def test_sentences_of_a_large_store_are_spread_over_it(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "MOST_SAMPLED", 3)
    make_demo(tmp_path, seeds=(0, 1, 2), texts=["The nurse said she was tired."])
    runs = read_runs(tmp_path)
    text = page.render_page(runs, conditions(runs.cells), None)
    assert "shown for 3 cells, spread over all 9; the other 6 are left out" in text
    assert [f'id="cell-{place}"' in text for place in range(9)] == [place in (0, 4, 8) for place in range(9)]
    assert "Metrics by level and generation" in text


def test_measures_of_a_very_large_store_are_the_headline_ones(tmp_path, monkeypatch):
    make_cell(tmp_path, mitigated=True)
    runs = read_runs(tmp_path)
    whole = page.render_page(runs, (), None)
    monkeypatch.setattr("fairloop.report.payload.MOST_MEASURES", 5)
    trimmed = page.render_page(runs, (), None)
    assert "cells.csv has all" in trimmed
    assert "mitigated/diversity/distinct_2" in whole
    assert "mitigated/diversity/distinct_2" not in trimmed
    assert "rule/net_stereotype_rate" in trimmed


def test_items_spread_evenly():
    assert list(spread(range(5), 9)) == [0, 1, 2, 3, 4]
    assert list(spread(range(100), 3)) == [0, 50, 99]
