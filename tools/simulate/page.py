"""The README's table of what was found: one line a setting, what lies outside 93 to 97% marked with the reason."""

from collections.abc import Mapping, Sequence

MARKS = {"holds": "", "wide": " ▲", "short": " ▼"}
BEGIN, END = "<!-- table: written by `make coverage` -->", "<!-- end of the table -->"

Line = Mapping[str, str]


def in_page(page: str, rows: Sequence[Line]) -> str:
    """Return the page with the table of these rows between its marks."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n{table(rows)}\n{END}{rest.partition(END)[2]}"


def table(rows: Sequence[Line]) -> str:
    """Return the rows as a Markdown table, the quantities of a setting in one line."""
    settings: dict[tuple[str, str, str], list[Line]] = {}
    for row in rows:
        settings.setdefault((row["group"], row["setting"], row["n"]), []).append(row)
    lines = ["| | setting | n / units | studies | coverage in per cent | |", "| --- | --- | --- | --- | --- | --- |"]
    last = ""
    for (group, name, n), members in settings.items():
        shown = [_shown(row) for row in members if row["verdict"] != "none"]
        what = ", ".join(shown) or "no interval"
        marked = any(row["verdict"] in ("wide", "short") for row in members) or not shown
        name = name.replace("|", "\\|")
        lines.append(
            f"| {group if group != last else ''} | {name} | {n} | {members[0]['studies']} | {what} "
            f"| {members[0]['note'] if marked else ''} |"
        )
        last = group
    return "\n".join(lines)


def _shown(row: Line) -> str:
    quantity = row["quantity"].replace("_", " ").replace("|", "\\|")
    some = "" if float(row["shown"]) > 0.995 else f" (shown in {100 * float(row['shown']):.0f}%)"
    return f"{quantity} {100 * float(row['coverage']):.1f}{MARKS[row['verdict']]}{some}"
