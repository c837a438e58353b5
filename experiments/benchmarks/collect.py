"""Write the scores of the packaged PLMs, and README.md's table of them, from the cells of the study evaluate.

    python experiments/benchmarks/collect.py RUNS …

writes `scores.csv` beside this file: every measure of every finished cell in the run stores RUNS, with its protocol;
what these stores have no cell of stays as it is committed. Without RUNS it writes the table again from what is
committed.
"""

import csv
import io
import math
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from fairloop.files import write_text
from fairloop.report.evaluate import protocol_of
from fairloop.report.read import read_runs

HERE = Path(__file__).resolve().parent
README = HERE.parents[1] / "README.md"
COLUMNS = ("plm", "dtype", "benchmark", "protocol", "seed", "metric", "value", "low", "high", "n", "units")
PLMS = {
    "minilm": "`minilm`",
    "smollm2_135m_instruct": "`smollm2_135m_instruct`",
    "gemma_3_270m": "`gemma_3_270m` (bfloat16)",
}
LINES = (
    ("SEAT, gender tests, mean absolute effect size", "seat/mean_abs_effect_size", 2),
    ("SEAT 6 (names; career, family), effect size", "seat/sent-weat6/effect_size", 2),
    ("StereoSet LMS, all four types, dev split", "stereoset/overall/lms", 1),
    ("StereoSet SS, all four types, dev split", "stereoset/overall/ss", 1),
    ("StereoSet ICAT, all four types, dev split", "stereoset/overall/icat", 1),
    ("StereoSet SS, gender, dev split", "stereoset/gender/ss", 1),
    ("CrowS-Pairs (`meade2022`), all nine types", "crows_pairs/overall/score", 1),
    ("CrowS-Pairs, the leaderboard's three types", "crows_pairs/meade2022_overall/score", 2),
    ("CrowS-Pairs, gender", "crows_pairs/gender/score", 1),
    ("WinoBias, pro − anti accuracy", "winobias/overall/gap", 1),
    ("LPBS, male- minus female-majority occupations", "lpbs/gap", 2),
    ("held-out templates, mean absolute log-odds", "heldout_templates/mean_abs_log_odds", 2),
    ("(pseudo-)perplexity, packaged neutral sentences", "perplexity/pseudo_perplexity perplexity/perplexity", 1),
)
"""What each line of the table is called, the measure (or the measures, of which a model has one), and its digits."""

Scores = dict[tuple[str, str], str]


def scores_csv(stores: Iterable[Path]) -> str:
    """Return every measure of every finished cell of the study evaluate as CSV; others stay as they are committed."""
    rows: list[tuple[str, ...]] = []
    for cell in (cell for store in stores for cell in read_runs(store).cells if cell.study == "evaluate"):
        plm, benchmark = cell.config["plm"], str(cell.config["benchmark"]["name"])
        about = (str(plm["name"]), str(plm["dtype"]), benchmark, protocol_of(cell), str(cell.seed))
        for (metric, _), one in cell.measures.items():
            numbers = ["" if math.isnan(end) else repr(float(end)) for end in (one.value, one.low, one.high)]
            rows.append((*about, metric, *numbers, str(one.n), str(one.units or "")))
    measured = {row[:3] for row in rows}
    committed = [tuple(row[name] for name in COLUMNS) for row in read()]
    rows += [row for row in committed if row[:3] not in measured]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(sorted(rows))
    return out.getvalue()


def read() -> list[dict[str, str]]:
    """Return the committed scores."""
    with (HERE / "scores.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def shown(digits: dict[str, int]) -> Scores:
    """Return each score as the table prints it, by PLM and measure."""
    return {
        (row["plm"], row["metric"]): _with_interval(row, digits[row["metric"]])
        for row in read()
        if row["metric"] in digits
    }


def _with_interval(row: dict[str, str], digits: int) -> str:
    value, low, high = (f"{float(row[key]):.{digits}f}" if row[key] else "" for key in ("value", "low", "high"))
    return (f"{value} [{low}, {high}]" if low else value).replace("-", "−")


def table() -> list[str]:
    """Return README.md's table."""
    scores = shown({metric: digits for _, metrics, digits in LINES for metric in metrics.split()})
    lines = [f"| benchmark | {' | '.join(PLMS.values())} |", f"| --- |{' --- |' * len(PLMS)}"]
    for words, metrics, _ in LINES:
        cells = [next((scores[plm, one] for one in metrics.split() if (plm, one) in scores), "–") for plm in PLMS]
        lines.append(f"| {words} | {' | '.join(cells)} |")
    return lines


def with_table(text: str, lines: Sequence[str]) -> str:
    """Return a page with its table of benchmarks replaced."""
    written = "\n".join(lines) + "\n"
    return re.sub(r"^\| benchmark \| `minilm`.*\n(\|.*\n)+", lambda _: written, text, flags=re.MULTILINE)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        write_text(HERE / "scores.csv", scores_csv([Path(store) for store in sys.argv[1:]]))
    write_text(README, with_table(README.read_text(encoding="utf-8"), table()))
