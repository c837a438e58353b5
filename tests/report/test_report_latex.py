import re
import shutil
import subprocess

import pytest
from report_store import make_grid

from fairloop.report.drawing import STYLES, styled
from fairloop.report.latex import escape, file_names, in_words, latex_table
from fairloop.report.table import Table
from fairloop.report.write import write_report

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


def test_names_are_words_and_other_text_stays_as_it_is():
    assert in_words("gemma_3_270m, mitigation none") == "Gemma 3 270M, mitigation none"
    assert in_words("qwen_2_5_coder_0_5b_instruct") == "Qwen 2.5 Coder 0.5B Instruct"
    assert in_words("fair_gender, no causal estimate on bert_base.") == "Fair-Gender, no causal estimate on BERT base."
    assert in_words("debias.lr=1e-4 of ./my_model/x and a.b_c") == "debias.lr=1e-4 of ./my_model/x and a.b_c"


def test_a_sentence_leaves_the_column_of_verdicts_for_the_note():
    rows = (("a", "0.1", "undecided: the levels did not meet"), ("b", "0.2", "falling"), ("c", "0.3", "undecided: few"))
    text = latex_table(Table("t", ("c", "x", "verdict"), rows, 1, "N."), "t")
    assert r"a & 0.1 & undecided\textsuperscript{a} \\" in text
    assert r"c & 0.3 & undecided\textsuperscript{b} \\" in text
    assert r"\textsuperscript{a} the levels did not meet. \textsuperscript{b} few." in text
    assert r"\begin{tabular}{lrl}" in text


def test_what_all_rows_share_is_said_once():
    rows = tuple((f"gemma_3_270m, mitigation {name}", "net rate", "0.1", "3") for name in ("none", "augment"))
    text = latex_table(Table("t", ("condition", "measure", "x", "cells"), (*rows, (*rows[0][:2], "0.2", "3")), 2), "t")
    assert r"\caption{t (Gemma 3 270M, net rate).}" in text
    assert "In every row, cells: 3." in text
    assert r"mitigation augment & 0.1 \\" in text


def test_a_wide_table_is_set_in_parts_with_the_same_names_of_rows():
    rows = tuple((f"row {n}", *(f"0.{n}{c} [0.10, 0.20]" for c in range(9))) for n in range(3))
    text = latex_table(Table("t", ("name", *(f"column {c}" for c in range(9))), rows, 1), "t")
    assert text.count(r"\begin{tabular}") > 1
    assert text.count("row 1 &") == text.count(r"\begin{tabular}")
    assert all(f"0.{n}{c} [0.10, 0.20]" in text for n in range(3) for c in range(9))


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_latex_sets_the_tables_and_figures_of_a_paper_without_hand_work(tmp_path):
    make_grid(tmp_path / "runs", strategies=("none", "augment"), seeds=(0, 1), noise=0.01)
    with styled(STYLES["paper"]):
        paths = write_report(tmp_path / "runs", tmp_path / "out")
    lines = [r"\documentclass{article}", r"\usepackage[textwidth=5.5in]{geometry}", r"\usepackage{graphicx}"]
    lines += [r"\usepackage{booktabs,array}", r"\usepackage[T1]{fontenc}", r"\begin{document}"]
    lines += [rf"\input{{{path.name}}}" for path in paths.latex]
    lines += [rf"\noindent\includegraphics{{{path.name}}}" + r"\par" for path in paths.figures if path.suffix == ".pdf"]
    (tmp_path / "out" / "paper.tex").write_text("\n".join([*lines, r"\end{document}"]))
    arguments = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(arguments, cwd=tmp_path / "out", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert len(paths.latex) > 3
    log = (tmp_path / "out" / "paper.log").read_text()
    assert "Overfull" not in log


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_latex_sets_it(tmp_path):
    lines = [
        r"\documentclass{article}",
        r"\usepackage{booktabs,array}",
        r"\usepackage[T1]{fontenc}",
        r"\begin{document}",
    ]
    (tmp_path / "t.tex").write_text("\n".join([*lines, latex_table(TABLE, "t"), r"\end{document}"]))
    arguments = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    assert subprocess.run(arguments, cwd=tmp_path, capture_output=True, check=False).returncode == 0
