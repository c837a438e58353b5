"""A corpus that turns into one man is seen in the terminal and in the page, though B and distinct-2 look harmless."""

import io
import re

import numpy as np
import pytest
from report_store import write_cell
from rich.console import Console

from fairloop.corpus.annotation import annotate
from fairloop.metrics.measures import measure_corpus
from fairloop.report.cli import show_report
from fairloop.report.write import write_report

JOBS = ("plumber", "nurse", "carpenter", "receptionist", "electrician", "librarian")
DEEDS = ("repairs old pipes", "answers the phone", "reads a plan", "waits for the bus", "writes a report", "is tired")
NAMES = ("Mr. Dubois", "Mrs. Dubois", "Emma Wilson", "James", "Laura", "Robert Smith", "Mary", "John")


def corpus(names, generator):
    """500 sentences about occupations, in groups of 16, labelled by the rules."""
    rows = []
    for number in range(500):
        job = JOBS[number % len(JOBS)]
        text = f"{names[generator.integers(len(names))]}, the {job}, {DEEDS[generator.integers(6)]} on day {number}."
        label = annotate(text, job)
        rows.append({"text": text, "occupation": job, "gender": label.gender, "stereotype": label.stereotype})
    return {key: [row[key] for row in rows] for key in rows[0]} | {"group": [n // 16 for n in range(500)]}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    from datasets import Dataset

    folder, generator = tmp_path_factory.mktemp("runs"), np.random.default_rng(0)
    rows = []
    for generation, names in enumerate((NAMES, NAMES, ("Mr. Dubois",))):
        table = Dataset.from_dict(corpus(names, generator))
        for one in measure_corpus(table, None, seed=0, resamples=20, chosen=["rule_based", "diversity"]):
            rows.append((generation, one.metric, one.value, one.low, one.high, one.n))
    config = {
        "study": {"name": "recursion", "generations": 2, "sentences": 500},
        "model": {"name": "gemma_3_270m"},
        "initial_bias": {"level": 0.3},
        "mitigation": {},
        "seed": 0,
    }
    write_cell(folder / "recursion" / "a", config, rows)
    return folder


def rows_of(shown):
    """The three generations of a table; level and seed stand in the first row alone."""
    return [row.rstrip() for row in shown.splitlines() if re.match(r"\s*(0\.3\s+0\s+)?[012]\s{2,}", row)]


def test_the_terminal_shows_male_share_and_concentration_by_generation(store):
    stream = io.StringIO()
    show_report(store, console=Console(file=stream, width=140, highlight=False))
    shown = stream.getvalue()
    bias, further = shown.split("Equilibrium: ")[0].split("Further measures")
    for word in ("top-name", "effective", "compression"):
        assert word in further
    first, _, last = rows_of(bias)
    assert re.search(r" 0\.4\d\d \[0\.4\d, 0\.5\d\]$", first)
    assert re.search(r" 1\.000 \[0\.99, 1\.00\]$", last)
    shares, names = zip(*(map(float, row.split()[-3:-1]) for row in rows_of(further)), strict=True)
    assert max(shares[:2]) < 0.2
    assert shares[2] == 1
    assert min(names[:2]) > 7
    assert names[2] == 1


def test_the_page_has_the_measures_too(store, tmp_path):
    page = write_report(store, tmp_path / "out").page.read_text()
    for label in ("top-name share", "effective names", "compression ratio", "male"):
        assert label in page
    assert "diversity/top_name_share" in page
