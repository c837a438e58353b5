"""Entailment pairs that a user has (SNLI, MNLI): what the published MABEL learns from."""

import csv
import io
from functools import lru_cache
from pathlib import Path

from fairloop.corpus.counterfactual import swap_gender
from fairloop.errors import UserError
from fairloop.pairs.verification import held_out_in

KEY = "debias.entailment"
COLUMNS = ("premise", "hypothesis")

Quadruple = tuple[str, str, str, str]
"""Premise, hypothesis, and both with their genders swapped."""


def read_entailment(path: str) -> tuple[Quadruple, ...]:
    """Return the entailing pairs with a gendered word, each with its counterfactual, in the order of the file.

    Left out are pairs without a gendered word, as published, and those with a held-out target, word or template.

    Args:
        path: a CSV table with the columns `premise` and `hypothesis`; others are passed over.

    Raises:
        UserError: there is no such file, it is no such table, or no row is left.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise UserError.of(KEY, path, "there is no such file")
    found = file.stat()
    return _read(str(file), found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=4)
def _read(path: str, size: int, changed: int) -> tuple[Quadruple, ...]:
    try:
        reader = csv.DictReader(io.StringIO(Path(path).read_bytes().decode("utf-8"), newline=""), strict=True)
        names = [name.strip().removeprefix("\ufeff") for name in reader.fieldnames or ()]
        if not {*COLUMNS} <= {*names} or len({*names}) < len(names):
            raise UserError.of(KEY, path, "a CSV table with the columns premise and hypothesis, none twice")
        reader.fieldnames = names
        rows = [tuple((row[name] or "").strip() for name in COLUMNS) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError.of(KEY, path, f"a CSV table in UTF-8 ({error})") from error
    chosen = tuple(
        (premise, hypothesis, swap_gender(premise), swap_gender(hypothesis))
        for premise, hypothesis in rows
        if premise and hypothesis and held_out_in(premise) is None and held_out_in(hypothesis) is None
    )
    kept = tuple(one for one in chosen if one[:2] != one[2:])
    if len(kept) < 2:
        raise UserError.of(KEY, path, f"at least two entailing pairs with a gendered word; {len(kept)} are left")
    return kept
