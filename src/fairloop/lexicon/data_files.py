"""Reading the tables in `lexicon/data`."""

from importlib import resources

from fairloop.files import csv_rows


def read_table(name: str) -> list[dict[str, str]]:
    """Return the rows of `lexicon/data/<name>.csv`, one dictionary a row."""
    text = resources.files("fairloop.lexicon").joinpath("data", f"{name}.csv").read_text(encoding="utf-8")
    return csv_rows(text)[1]
