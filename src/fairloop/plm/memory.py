"""Keep finished scores in a folder, so that a killed benchmark goes on where it was."""

import os
from pathlib import Path

import numpy as np


class FolderMemory:
    """A `ScoreMemory` with one `.npy` file for each key; a file is written aside and then renamed."""

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
        self.folder.mkdir(parents=True, exist_ok=True)
        aside = self.folder / f".{key}.{os.getpid()}.tmp"
        with aside.open("wb") as file:
            np.save(file, values, allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(self.folder / f"{key}.npy")
