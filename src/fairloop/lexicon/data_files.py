"""Reading the tables in `lexicon/data`."""

import csv
from importlib import resources


def read_table(name: str) -> list[dict[str, str]]:
    """Return the rows of `lexicon/data/<name>.csv`, one dictionary a row."""
    text = resources.files("fairloop.lexicon").joinpath("data", f"{name}.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))
