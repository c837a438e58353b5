"""The Hugging Face Hub as the place of a debiased model (`debias.push_to_hub`): checked first, done last.

A model is uploaded after its cell is finished and sealed, by the command that was given, from the files in the run
store. So a push that fails loses nothing, and the same command repeats it; what the Hub has is not uploaded again.
"""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path

from fairloop.errors import Fault, UserError, first_line

TOKEN = "HF_TOKEN"
"""The environment variable with the key of an account that may write."""

KEY = "debias.push_to_hub"


def model_folder(cell: Path) -> Path | None:
    """Return the folder of the debiased model of a Fair-Gender cell; None where there is none."""
    found = sorted(cell.glob("stages/*-result/model"))
    return found[-1] if found else None


def is_repository(name: str) -> bool:
    """Tell whether the Hub would take a name as that of a repository: `name`, or `namespace/name`."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def check_pushes(cells: Mapping[str, str]) -> None:
    """Refuse, before anything is computed, pushes that could not be done.

    Args:
        cells: the repository of each cell that has one.

    Raises:
        UserError: there is no token, the Hub is switched off, or two cells would overwrite each other.
    """
    if not cells:
        return
    first = next(iter(cells.values()))
    if not os.environ.get(TOKEN):
        raise UserError.of(KEY, first, f"needs the environment variable {TOKEN}, a key of the Hub that may write")
    if _is_offline():
        raise UserError.of(KEY, first, "needs the Hub, and HF_HUB_OFFLINE switches it off")
    twice = sorted({one for one in cells.values() if list(cells.values()).count(one) > 1})
    if twice:
        raise UserError.of(
            KEY, twice[0], "several cells would overwrite each other there; name them apart: 'ME/NAME-${seed}'"
        )


def push(folder: Path, repository: str) -> str:
    """Upload a model's folder, into a private repository if there is none of that name; return its address.

    Raises:
        Fault: the Hub cannot be reached, or refuses; the line has the command that repeats it by hand.
    """
    from huggingface_hub import HfApi

    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, token=os.environ.get(TOKEN) or False)
    try:
        named = api.create_repo(repository, private=True, exist_ok=True).repo_id
        done = api.upload_folder(
            repo_id=named, folder_path=folder, commit_message="A model debiased with Fairloop", ignore_patterns=[".*"]
        )
        return str(done.repo_url)
    except Exception as error:  # of the library, its transport, or the Hub's answers: of many kinds
        again = f"hf upload {shlex.quote(repository)} {shlex.quote(str(folder))}"
        said = first_line(error, type(error).__name__).replace(os.environ.get(TOKEN) or "\0", "***")
        raise Fault(f"{KEY}={repository}: not uploaded ({said}); the model is in {folder}: {again}") from error


def _is_offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)
