"""Keep finished scores in a folder, so that a killed benchmark goes on where it was."""

import io
from pathlib import Path

import numpy as np

from fairloop.files import write_bytes


class FolderMemory:
    """A `ScoreMemory` with one `.npy` file for each key; a file is there whole or not at all."""

    def __init__(self, folder: Path) -> None:
        """Use `folder`, which is made with the first thing that is kept."""
        self.folder = folder

    def recall(self, key: str) -> np.ndarray | None:
        """Return what was kept under `key`; None if there is nothing, or a file that cannot be read."""
        try:
            return np.asarray(np.load(self.folder / f"{key}.npy", allow_pickle=False))
        except (OSError, ValueError, EOFError):
            return None

    def keep(self, key: str, values: np.ndarray) -> None:
        """Replace what is kept under `key`."""
        buffer = io.BytesIO()
        np.save(buffer, values, allow_pickle=False)
        write_bytes(self.folder / f"{key}.npy", buffer.getvalue())
