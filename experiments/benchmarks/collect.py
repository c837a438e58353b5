"""Write the scores of the packaged PLMs, and README.md's table of them, from the cells of the study evaluate.

    python experiments/benchmarks/collect.py RUNS

writes `scores.csv` beside this file: every measure of every cell in RUNS with its protocol. Without RUNS it writes the
tables again from the committed file.
"""

import csv
import io
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fairloop.files import write_text
from fairloop.report.evaluate import protocol_of
from fairloop.report.read import read_runs

HERE = Path(__file__).resolve().parent
README = HERE.parents[1] / "README.md"
COLUMNS = ("plm", "dtype", "benchmark", "protocol", "seed", "metric", "value", "low", "high", "n", "units")
PLMS = ("minilm", "smollm2_135m_instruct")


@dataclass(frozen=True)
class Line:
    """One line of the table: a measure in words, with its digits."""

    words: str
    metric: str
    digits: int


LINES = (
    Line("SEAT, gender tests, mean absolute effect size", "seat/mean_abs_effect_size", 2),
    Line("SEAT 6 (names; career, family), effect size", "seat/sent-weat6/effect_size", 2),
    Line("StereoSet LMS, overall", "stereoset/overall/lms", 1),
    Line("StereoSet SS, overall", "stereoset/overall/ss", 1),
    Line("StereoSet ICAT, overall", "stereoset/overall/icat", 1),
    Line("StereoSet SS, gender", "stereoset/gender/ss", 1),
    Line("CrowS-Pairs, all nine types", "crows_pairs/overall/score", 1),
    Line("CrowS-Pairs, the leaderboard's three types", "crows_pairs/meade2022_overall/score", 2),
    Line("CrowS-Pairs, gender", "crows_pairs/gender/score", 1),
    Line("WinoBias, pro − anti accuracy", "winobias/overall/gap", 1),
    Line("LPBS, male- minus female-majority occupations", "lpbs/gap", 2),
    Line("held-out templates, mean absolute log-odds", "heldout_templates/mean_abs_log_odds", 2),
    Line("pseudo-perplexity, packaged neutral sentences", "perplexity/pseudo_perplexity", 1),
    Line("perplexity, packaged neutral sentences", "perplexity/perplexity", 1),
)


def scores_csv(runs: Path) -> str:
    """Return every measure of every finished cell of the study evaluate as CSV."""
    rows = []
    for cell in read_runs(runs).cells:
        if cell.study != "evaluate":
            continue
        plm, benchmark = cell.config["plm"], cell.config["benchmark"]["name"]
        for (metric, _), one in cell.measures.items():
            numbers = (one.value, one.low, one.high)
            ends = ["" if number != number else repr(float(number)) for number in numbers]
            rows.append((plm["name"], plm["dtype"], benchmark, protocol_of(cell), cell.seed, metric, *ends, one.n, one.units or ""))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(sorted(rows))
    return out.getvalue()


def read() -> dict[tuple[str, str], dict[str, str]]:
    """Return the committed scores by PLM and measure."""
    with (HERE / "scores.csv").open(newline="", encoding="utf-8") as file:
        return {(row["plm"], row["metric"]): row for row in csv.DictReader(file)}


def table(scores: dict[tuple[str, str], dict[str, str]]) -> list[str]:
    """Return README.md's table."""
    plms = [plm for plm in PLMS if any(key[0] == plm for key in scores)]
    lines = [f"| benchmark | {' | '.join(f'`{plm}`' for plm in plms)} |", f"| --- |{' --- |' * len(plms)}"]
    for line in LINES:
        cells = [_cell(scores.get((plm, line.metric)), line.digits) for plm in plms]
        if set(cells) != {"–"}:
            lines.append(f"| {line.words} | {' | '.join(cells)} |")
    return lines


def _cell(row: dict[str, str] | None, digits: int) -> str:
    if row is None:
        return "–"
    ends = f" [{float(row['low']):.{digits}f}, {float(row['high']):.{digits}f}]" if row["low"] else ""
    return f"{float(row['value']):.{digits}f}{ends}".replace("-", "−")


def protocols(scores: Iterable[dict[str, str]]) -> dict[str, Sequence[str]]:
    """Return the protocols of each benchmark."""
    found: dict[str, dict[str, None]] = {}
    for row in scores:
        found.setdefault(row["benchmark"], {})[row["protocol"]] = None
    return {name: list(each) for name, each in found.items()}


def with_table(text: str, lines: Sequence[str]) -> str:
    """Return a page with its table of benchmarks replaced."""
    return re.sub(r"^\| benchmark \| `minilm`.*\n(\|.*\n)+", "\n".join(lines) + "\n", text, flags=re.MULTILINE)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        write_text(HERE / "scores.csv", scores_csv(Path(sys.argv[1])))
    write_text(README, with_table(README.read_text(encoding="utf-8"), table(read())))
