"""Tables as LaTeX: booktabs, every character that LaTeX would read otherwise is escaped."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import takewhile
from textwrap import wrap

from fairloop.report.samples import visible
from fairloop.report.table import Table

PREAMBLE = r"% needs \usepackage{booktabs,array}, and with pdfLaTeX \usepackage[T1]{fontenc}"

_SPOKEN = {
    "fair_gender": "Fair-Gender",
    "sentence_debias": "SentenceDebias",
    "self_debias": "Self-Debias",
    "auto_debias": "Auto-Debias",
    "context_debias": "Context-Debias",
}
_SPOKEN_PARTS = {
    "albert": "ALBERT", "bert": "BERT", "cda": "CDA", "coder": "Coder", "distilbert": "DistilBERT", "gemma": "Gemma",
    "gpt2": "GPT-2", "inlp": "INLP", "instruct": "Instruct", "leace": "LEACE", "llama": "Llama", "mabel": "MABEL",
    "minilm": "MiniLM", "qwen": "Qwen", "roberta": "RoBERTa", "smollm2": "SmolLM2",
}  # fmt: skip
_NAME = re.compile(r"(?<![\w./-])[a-z][a-z0-9]*(?:_[a-z0-9]+)*(?![\w/=]|\.\w)")
_RAISED = "\x00"

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
    "§": r"\S{}",
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


TEXT_WIDTH = 397.5
"""Points of a text block of 5.5 inches; a table is set in the largest letters, of 7 pt at least, in which it fits."""

_SIZES = ((r"\normalsize", 5.3), (r"\small", 4.8), (r"\footnotesize", 4.25), (r"\scriptsize", 3.7))
"""Sizes of letters, and about how many points a character of each is wide."""

_BETWEEN = 6.0
"""Points between two columns."""

_LONGEST_LABEL, _LONGEST_HEAD = 26, 12
"""Characters of a line, in a column that names rows and in the head of one that has numbers."""

_MOST_ROWS = 20
"""Of a longer table that does not fit in its width each part is a float of its own: a page must hold it."""

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def latex_table(table: Table, name: str) -> str:
    """Return a table in a `table` environment with the label `tab:<name>`, its note below it.

    Names stand in words. Sentences leave their column for the note, by letters. Columns that do not fit beside the
    others follow below, with the same names of rows.
    """
    table, remarks = _without_sentences(_in_words(_without_repetition(table)))
    size, parts = _fitted(table)
    caption = escape(table.caption or table.title)
    lines = [PREAMBLE, *_begun(caption, size), rf"\label{{tab:{name}}}"]
    for place, part in enumerate(parts):
        if place and len(table.rows) > _MOST_ROWS:
            lines += [r"\end{table}", *_begun(f"{caption.removesuffix('.')}, continued.", size)]
        elif place:
            lines.append(r"\par\medskip")
        lines += [
            rf"\begin{{tabular}}{{{_columns(part)}}}",
            r"\toprule",
            _line(map(_head, part.columns)),
            r"\midrule",
            *(_line(map(_cell, row)) for row in _named_once(part)),
            r"\bottomrule",
            r"\end{tabular}",
        ]
    note = " ".join(filter(None, (escape(table.below), *remarks)))
    if note:
        lines.append(r"\par\smallskip\begin{minipage}{\linewidth}\footnotesize")
        lines.append(note + r"\end{minipage}")
    return "\n".join([*lines, r"\end{table}", ""])


def _begun(caption: str, size: str) -> list[str]:
    spacing = rf"\setlength{{\tabcolsep}}{{{_BETWEEN / 2:g}pt}}"
    return [r"\begin{table}", r"\centering", rf"\caption{{{caption}}}", spacing, size]


def _without_repetition(table: Table) -> Table:
    """Return a table in which what all rows share, such as the beginning of a label, stands in caption or note."""
    said: list[str] = []
    rows = [list(row) for row in table.rows]
    kept, note = list(range(len(table.columns))), table.note
    for index in range(table.labels if len(rows) > 1 else 0):
        parts = [row[index].split(", ") for row in rows]
        shared = [alike[0] for alike in takewhile(lambda alike: len(set(alike)) == 1, zip(*parts, strict=False))]
        if shared:
            said.append(", ".join(shared))
            for row, own in zip(rows, parts, strict=True):
                row[index] = ", ".join(own[len(shared) :])
        if not any(row[index] for row in rows):
            kept.remove(index)
        elif shared:
            for row in rows:
                row[index] = row[index] or "as such"
    for index in range(table.labels, len(table.columns)):
        values = {row[index] for row in rows}
        if len(rows) > 1 and len(values) == 1 and sum(one >= table.labels for one in kept) > 1:
            kept.remove(index)
            note = f"{note} In every row, {table.columns[index]}: {values.pop()}."
    said = [one for one in said if one not in table.caption]
    caption = table.caption or table.title
    if said:
        caption = f"{caption.removesuffix('.')} ({', '.join(said)})."
    labels = sum(index < table.labels for index in kept)
    left = _only(replace(table, rows=tuple(map(tuple, rows))), kept)
    return replace(left, labels=labels, caption=caption, note=note.strip())


def _named_once(table: Table) -> Iterator[Sequence[str]]:
    """Yield the rows; a first name that the row before has too is not said again."""
    previous = ""
    for row in table.rows:
        again = table.labels > 1 and row[0] == previous
        previous = row[0]
        yield ("", *row[1:]) if again else row


def _in_words(table: Table) -> Table:
    """Return a table whose names of models, methods and settings are words."""
    rows = tuple(
        tuple(in_words(text) if index < table.labels else text for index, text in enumerate(row)) for row in table.rows
    )
    caption, title, note = map(in_words, (table.caption, table.title, table.note))
    return replace(table, rows=rows, caption=caption, title=title, note=note)


def _without_sentences(table: Table) -> tuple[Table, list[str]]:
    """Return a table whose columns of words hold the first word and a letter, and what each letter stands for."""
    letters: dict[str, str] = {}

    def short(text: str) -> str:
        word, _, reason = text.partition(": ")
        if not reason:
            return text
        letter = letters.setdefault(reason, _LETTERS[len(letters) % len(_LETTERS)])
        return f"{word}{_RAISED}{letter}"

    rows = tuple(
        tuple(short(text) if table.has_words(index) else text for index, text in enumerate(row)) for row in table.rows
    )
    remarks = [rf"\textsuperscript{{{letter}}} {escape(reason)}." for reason, letter in letters.items()]
    return replace(table, rows=rows), remarks


def _fitted(table: Table) -> tuple[str, list[Table]]:
    """Return the size of letters in which a table is set, and the table in as many parts as it takes."""
    widths = [_width(table, index) for index in range(len(table.columns))]
    for size, points in _SIZES:
        if sum(widths) * points + len(widths) * _BETWEEN <= TEXT_WIDTH:
            return size, [table]
    others = list(range(table.labels, len(table.columns)))
    kept = list(range(table.labels))
    parts: list[list[int]] = [[]]
    for index in others:
        wide = [*kept, *parts[-1], index]
        if parts[-1] and sum(widths[one] for one in wide) * points + len(wide) * _BETWEEN > TEXT_WIDTH:
            parts.append([])
        parts[-1].append(index)
    return size, [_only(table, [*kept, *part]) for part in parts]


def _only(table: Table, kept: Sequence[int]) -> Table:
    rows = tuple(tuple(row[index] for index in kept) for row in table.rows)
    return replace(table, columns=tuple(table.columns[index] for index in kept), rows=rows)


def _width(table: Table, index: int) -> int:
    """Return the characters of the longest line of a column."""
    head = max(map(len, _lines(table.columns[index])), default=0)
    longest = max((len(row[index]) for row in table.rows), default=0)
    return max(head, min(longest, _LONGEST_LABEL) if index < table.labels else longest)


def _columns(table: Table) -> str:
    """Return the kinds of columns: labels to the left, broken into lines where they are long; numbers to the right."""
    kinds = []
    for index in range(len(table.columns)):
        if index >= table.labels:
            kinds.append("l" if table.has_words(index) else "r")
        elif max((len(row[index]) for row in table.rows), default=0) > _LONGEST_LABEL:
            kinds.append(rf">{{\raggedright\arraybackslash}}p{{{0.5 * _LONGEST_LABEL:g}em}}")
        else:
            kinds.append("l")
    return "".join(kinds)


def _lines(head: str) -> list[str]:
    return wrap(head, _LONGEST_HEAD, break_long_words=False, break_on_hyphens=False)


def _head(text: str) -> str:
    """Return the head of a column, in several lines if it is long."""
    lines = [escape(line) for line in _lines(text)]
    return lines[0] if len(lines) == 1 else r"\shortstack{" + r"\\".join(lines) + "}" if lines else ""


def _cell(text: str) -> str:
    word, raised, letter = text.partition(_RAISED)
    return escape(word) + (rf"\textsuperscript{{{letter}}}" if raised else "")


def in_words(text: str) -> str:
    """Return a text in which names as in code (`gemma_3_270m`, `fair_gender`) are words (Gemma 3 270M, Fair-Gender)."""
    return _NAME.sub(lambda found: _SPOKEN.get(found[0]) or _spoken(found[0]), text)


def _spoken(name: str) -> str:
    """Return a name of code in words: its parts, version numbers with their point, sizes in capitals."""
    if "_" not in name:
        return _SPOKEN_PARTS.get(name, name)
    apart = re.sub(r"(?<=_)(\d)_(\d)(?=_|$|[a-z])", r"\1.\2", name).split("_")
    words = [_SPOKEN_PARTS.get(part) or (part.upper() if re.fullmatch(r"[\d.]+[bm]", part) else part) for part in apart]
    return " ".join(words)


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


def _line(cells: Iterable[str]) -> str:
    # A row that begins with [ would be read as the space that \\ asks for.
    return " & ".join(f"{{}}{cell}" if cell.startswith("[") else cell for cell in cells) + r" \\"
