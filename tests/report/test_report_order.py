"""The order inside the report: the core knows no subject, and only what puts a whole report together knows them all."""

import ast
from pathlib import Path

import fairloop.report

PACKAGE = Path(fairloop.report.__file__).parent
SUBJECTS = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
WHOLE = {"page", "terminal", "write", "cli", "payload", "charts", "outcome"}
"""What puts a report together; `charts` and `outcome` are the page's figures and its first screen: they draw on every
subject at once, so that neither belongs to one, and the core must not import them either."""


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fairloop.report."):
            yield node.module.split(".")[2]


def test_the_core_imports_no_subject():
    core = {path.stem for path in PACKAGE.glob("*.py")} - WHOLE - {"evaluate"}
    assert {"read", "table", "export", "drawing", "items", "samples", "latex"} <= core
    wrong = [(name, other) for name in core for other in imported(PACKAGE / f"{name}.py")]
    assert not [(name, other) for name, other in wrong if other in SUBJECTS | WHOLE]
