"""Run docs/notebook.ipynb and write its outputs into it: `make docs`.

What differs from run to run without a reason (the times of cells, the kernel's version) is left out.
"""

import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

import fairloop

NOTEBOOK = Path(__file__).parents[1] / "notebook.ipynb"


def executed(seconds: int = 300) -> nbformat.NotebookNode:
    """Return the notebook with the outputs of a run from its own folder, with the Fairloop of this process.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    sources = str(Path(fairloop.__file__).parents[1])
    path = os.pathsep.join(filter(None, [sources, os.environ.get("PYTHONPATH")]))
    where = {"metadata": {"path": str(NOTEBOOK.parent)}}
    NotebookClient(notebook, timeout=seconds, resources=where).execute(env={**os.environ, "PYTHONPATH": path})
    notebook.metadata = {key: notebook.metadata[key] for key in ("kernelspec",)}
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    return notebook


if __name__ == "__main__":
    nbformat.write(executed(), NOTEBOOK)
    sys.stdout.write(f"{NOTEBOOK}\n")
