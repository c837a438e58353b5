"""The notebook of the documents runs, and shows what is committed."""

import nbformat
from run_notebook import NOTEBOOK, executed


def shown(notebook):
    """The kinds of what each cell shows, and its text; numbers and pictures are for `make docs`."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [
        [(one.output_type, sorted(one.get("data", {})), one.get("text", "")) for one in cell.outputs] for cell in cells
    ]


def test_the_notebook_runs_and_shows_what_is_committed():
    committed = shown(nbformat.read(NOTEBOOK, as_version=4))
    assert shown(executed()) == committed
    assert sum("image/png" in kinds for cell in committed for _, kinds, _ in cell) == 2
