"""Tables as LaTeX: booktabs, every character that LaTeX would read otherwise is escaped."""

import re
from collections.abc import Iterable

from fairloop.report.samples import visible
from fairloop.report.table import Table

PREAMBLE = r"% needs \usepackage{booktabs}, and with pdfLaTeX \usepackage[T1]{fontenc}"

_ESCAPED = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "–": "--",
    "…": r"\ldots{}",
    "·": r"\textperiodcentered{}",
    "†": r"\textdagger{}",
    "‡": r"\textdaggerdbl{}",
    "×": r"$\times$",
    "±": r"$\pm$",
    "−": "$-$",
    "∞": r"$\infty$",
    "↓": r"$\downarrow$",
    "↑": r"$\uparrow$",
    "→": r"$\rightarrow$",
    "λ": r"$\lambda$",
    "ρ": r"$\rho$",
}
_NEGATIVE = re.compile(r"(?<![\w.])-(?=\d|∞)")


def latex_table(table: Table, name: str) -> str:
    """Return a table in a `table` environment with the label `tab:<name>`, its note below it."""
    columns = "l" * table.labels + "r" * (len(table.columns) - table.labels)
    lines = [
        PREAMBLE,
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escape(table.title)}}}",
        rf"\label{{tab:{name}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        _line(table.columns),
        r"\midrule",
        *(_line(row) for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    if table.note:
        lines.append(r"\par\smallskip\begin{minipage}{\linewidth}\footnotesize")
        lines.append(escape(table.note) + r"\end{minipage}")
    return "\n".join([*lines, r"\end{table}", ""])


def file_names(tables: Iterable[Table]) -> list[str]:
    """Return a name for each table from its title, in letters, digits and underscores; equal ones are numbered."""
    names: list[str] = []
    for table in tables:
        name = re.sub(r"[^a-z0-9]+", "_", table.title.lower().encode("ascii", "ignore").decode()).strip("_")[:60]
        name = name or "table"
        again = sum(one == name or one.startswith(f"{name}__") for one in names)
        names.append(f"{name}__{again + 1}" if again else name)
    return names


def escape(text: str) -> str:
    """Return a text as LaTeX shows it: unseen characters replaced, a minus before a number as a minus sign."""
    shown = _NEGATIVE.sub("−", " ".join(visible(text).split()))
    return "".join(_ESCAPED.get(character, character) for character in shown)


def _line(texts: Iterable[str]) -> str:
    # A row that begins with [ would be read as the space that \\ asks for.
    cells = [escape(text) for text in texts]
    return " & ".join(f"{{}}{cell}" if cell.startswith("[") else cell for cell in cells) + r" \\"
