import re
import shutil
import subprocess

import pytest

from fairloop.report.latex import escape, file_names, latex_table
from fairloop.report.table import Table

TABLE = Table(
    "Bias & skill_100%",
    ("method", "|d|", "B − A", "p"),
    (("none", "0.12 [-0.10, 0.34]", "–", "<0.001"), ("a_b {c} $x^2$ ~#1\\", "-0.5", "-3%", "1.000")),
    1,
    "95% intervals; † learned nothing.",
)


def test_every_special_character_is_escaped():
    assert escape("a_b & 5% $x$ #1 {y}") == r"a\_b \& 5\% \$x\$ \#1 \{y\}"
    assert escape("\\") == r"\textbackslash{}"
    assert escape("~^<>|") == r"\textasciitilde{}\textasciicircum{}\textless{}\textgreater{}\textbar{}"
    assert escape("B − A [-0.1, -∞]") == r"B $-$ A [$-$0.1, $-$$\infty$]"
    assert escape("gemma-3-270m") == "gemma-3-270m"
    assert escape("two\nlines\u202e") == "two lines\ufffd"


def test_the_table_has_booktabs_rules_and_a_column_for_each():
    text = latex_table(TABLE, "bias")
    assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]
    assert r"\begin{tabular}{lrrr}" in text
    assert r"\label{tab:bias}" in text
    body = text.split(r"\midrule")[1].split(r"\bottomrule")[0]
    lines = [line for line in body.splitlines() if line]
    assert [len(re.findall(r"(?<!\\)&", line)) for line in lines] == [3, 3]
    assert all(line.endswith(r" \\") for line in lines)
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")


def test_a_row_that_begins_with_a_bracket_is_no_argument():
    assert r"{}[0.1]" in latex_table(Table("t", ("a",), (("[0.1]",),), 1), "t")


def test_file_names_are_plain_and_distinct():
    tables = [Table(title, ("a",), (), 1) for title in ("Bias & skill", "Bias: skill", "†", "†", "x" * 90)]
    assert file_names(tables) == ["bias_skill", "bias_skill__2", "table", "table__2", "x" * 60]


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_latex_sets_it(tmp_path):
    lines = [r"\documentclass{article}", r"\usepackage{booktabs}", r"\usepackage[T1]{fontenc}", r"\begin{document}"]
    (tmp_path / "t.tex").write_text("\n".join([*lines, latex_table(TABLE, "t"), r"\end{document}"]))
    arguments = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    assert subprocess.run(arguments, cwd=tmp_path, capture_output=True, check=False).returncode == 0
