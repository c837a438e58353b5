"""Write the table of `docs/reliability.md` from what was counted.

    PYTHONPATH=tools python -m faults.table [--check]

Kills and fuzzed inputs are counted by their own runs (`experiments/reliability`). Cases of the tests are counted by
collecting them: each is one attempt with one expected end.
"""

import argparse
import csv
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

TOP = Path(__file__).parents[2]
PAGE = TOP / "docs" / "reliability.md"
KEPT = TOP / "experiments" / "reliability"
COUNTS = KEPT / "fuzz_counts.log"
BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->\n"

CONFIG, END_TO_END = "tests/config/test_config_extremes.py", "tests/end_to_end"
BAD_INPUT, SERVER = f"{END_TO_END}/test_bad_input.py", "tests/generation/test_generation_server.py"
FLAGS = "tests/test_composition_flags.py"
TRACKING, PAIRS = "tests/tracking/test_tracking", "tests/pairs/test_pairs_neutral_files.py"
TESTS = {
    "numeric keys of every schema, eight extremes each": (f"{CONFIG}::test_every_numeric_key", 8),
    "lists and free-form groups of every schema, 55 extremes each": (f"{CONFIG}::test_every_list_and_free_form", 55),
    "unknown flags of the eight commands, with control characters": (f"{FLAGS}::test_an_unknown_flag_of_any", 1),
    "overrides and sweeps that harm": (f"{FLAGS}::test_a_harmful_override", 1),
    "wrong commands": (f"{BAD_INPUT}::test_a_mistake_gets_one_line", 1),
    "what is not here: models, data, devices": (f"{BAD_INPUT}::test_what_is_not_here", 1),
    "variables of W&B that are none": (f"{BAD_INPUT}::test_a_variable_of_wandb", 1),
    "standard streams that go": (f"{END_TO_END}/test_streams.py", 1),
    "kinds of broken server": (f"{SERVER}::test_what_may_pass_is_asked_again", 1),
    "ways in which a server repeats the key": (f"{SERVER}::test_a_key_that_a_server_repeats", 1),
    "W&B services that refuse": (f"{TRACKING}_wandb_refusals.py", 1),
    "kinds of damage to a finished cell": (f"{TRACKING}_damage.py", 1),
    "kinds of damage at each of 29 places of a store": (f"{TRACKING}_damage_everywhere.py", 29),
    "power cuts, each with names kept and with names lost": (f"{TRACKING}_power_cut.py::test_after_a_power_cut_the", 2),
    "files of sentences that are none": (f"{PAIRS}::test_a_neutral_file_that_is_none", 1),
    "ways in for a model's own code": (f"{END_TO_END}/test_unsafe_models.py", 1),
}
"""What is tried by tests: where its cases begin, and how many attempts each is."""


def main() -> int:
    """Write the page again; with `--check` only compare, and return 1 if it is not what was counted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    if COUNTS.exists():
        keep_fuzz(COUNTS)
    page = PAGE.read_text()
    made = re.sub(f"{BEGIN}.*{END}", lambda _: f"{BEGIN}{table()}{END}", page, flags=re.DOTALL)
    if options.check:
        return int(made != page)
    PAGE.write_text(made)
    return 0


def table() -> str:
    """Return the table as Markdown."""
    lines = ["| tried | times | by | lost or wrong |", "| --- | ---: | --- | ---: |"]
    for row in _rows("kills.csv"):
        workers = f", {row['of_workers']} of them of one worker" if int(row["of_workers"]) else ""
        what = f"SIGKILL at random moments: {row['study']}, {row['launcher']}{workers}; store on {row['file_system']}"
        lost = f"{row['differing']} of {row['files']} files of {row['stores']} stores"
        lines.append(f"| {what} | {row['kills']} | `make kills` | {lost} |")
    for row in _rows("fuzz.csv"):
        lines.append(f"| fuzzed {row['target']} | {row['inputs']} | `make fuzz` | {row['found']} |")
    counted = collected()
    for what, (place, each) in TESTS.items():
        cases = sum(number for name, number in counted.items() if name.startswith(place)) * each
        lines.append(f"| {what} | {cases} | `{place.partition('::')[0]}` | 0 |")
    return "\n".join(lines) + "\n"


def collected() -> Counter[str]:
    """Return how many cases each test has, by its file and name."""
    files = sorted({place.partition("::")[0] for place, _ in TESTS.values()})
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "not slow", *files]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=True)
    return Counter(line.partition("[")[0] for line in done.stdout.splitlines() if "::" in line)


def _rows(name: str) -> list[dict[str, str]]:
    path = KEPT / name
    return list(csv.DictReader(path.read_text().splitlines())) if path.exists() else []


def keep_fuzz(counts: Path) -> None:
    """Sum what `make fuzz` counted into `fuzz.csv`: inputs, and properties that failed."""
    tried, found = Counter[str](), Counter[str]()
    for line in counts.read_text().splitlines():
        name, number, failed = json.loads(line)
        tried[name] += number
        found[name] += failed
    with (KEPT / "fuzz.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("target", "inputs", "found"))
        writer.writerows((name, number, found[name]) for name, number in sorted(tried.items()))


if __name__ == "__main__":
    sys.exit(main())
