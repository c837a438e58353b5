"""Artifacts of a run and their lineage: corpus -> checkpoint -> corpus of the next generation -> scores.

What a later step of the same run reads is an output of the run and an input: W&B draws both. The steps within one run
it cannot tell apart, so each artifact also says in its metadata what it was made from, by name, alias and SHA-256, and
carries its own: the lineage can be checked without the service, and in an offline run too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fairloop.files import canonical_json, digest_file, digest_text, files_below


@dataclass(frozen=True)
class Logged:
    """An artifact of this run: `name:alias`, and the digest of what is in it."""

    label: str
    sha256: str


@dataclass
class Artifacts:
    """The artifacts of one cell's run.

    Attributes:
        cell: the cell's name, part of every artifact's name.
        study: its study.
    """

    cell: str
    study: str
    _logged: dict[Path, Logged] = field(default_factory=dict)

    def know(self, path: Path, label: str) -> None:
        """Remember an artifact as `name:alias`, so that later ones can be made from it; also one that is not logged."""
        self._logged[path] = Logged(label, digest(path))

    def log(
        self,
        run: Any,
        name: str,
        kind: str,
        path: Path | Sequence[Path],
        alias: str,
        metadata: Mapping[str, Any],
        made_from: Sequence[Path],
    ) -> None:
        """Log files from finished stages as a version of an artifact.

        Args:
            run: the W&B run.
            name: the artifact's name, to which the cell's is added.
            kind: W&B's type: `dataset`, `model` or `scores`. All but scores are read again by the same run.
            path: a file, a folder or several files.
            alias: the version's alias.
            metadata: what else is to be known of it.
            made_from: what it was computed from: files or folders that `know` was told of.
        """
        made = {one.label: one.sha256 for one in map(self._logged.get, made_from) if one is not None}
        own = {"sha256": digest(path), "made_from": made, "cell": self.cell, "study": self.study}
        artifact = _artifact(f"{name}-{self.cell}", kind, path, {**metadata, **own})
        if kind == "scores":
            run.log_artifact(artifact, aliases=[alias])
        else:
            # The public use_artifact() waits for the service and refuses offline runs; this is the call beneath it.
            run._log_artifact(artifact, aliases=[alias], use_after_commit=True)

    def everything(self) -> list[Path]:
        """Return what was logged so far: what scores are made from."""
        return list(self._logged)


def use(run: Any, name: str, kind: str, path: Path) -> None:
    """Declare an artifact of another run as an input of this one, by its name and contents.

    The service recognises the contents and makes no second version; without them (the other run was never uploaded)
    they are uploaded as the artifact's first version, which belongs to no run until the other is uploaded.
    """
    artifact = _artifact(name, kind, path, {"sha256": digest(path)})
    run._log_artifact(artifact, is_user_created=True, use_after_commit=True)


def debiased_model(path: str) -> str | None:
    """Return the name of the artifact that a model's folder is, if a cell of a run store made it; else None."""
    folder = Path(path).absolute()
    inside = folder.parents[3:4] and folder.parents[1].name == "stages"
    if folder.is_dir() and inside and (folder.parents[2] / "status.json").is_file():
        return f"{folder.name}-{folder.parents[2].name}"
    return None


def digest(path: Path | Sequence[Path]) -> str:
    """Return the SHA-256 of a file; of a folder or several files, that of their names and checksums."""
    if isinstance(path, Path) and not path.is_dir():
        return digest_file(path)
    return digest_text(canonical_json({inside: digest_file(file) for inside, file in _files(path).items()}))


def _artifact(name: str, kind: str, path: Path | Sequence[Path], metadata: Mapping[str, Any]) -> Any:
    import wandb

    artifact = wandb.Artifact(name, type=kind, metadata=dict(metadata))
    for inside, file in _files(path).items():
        # "immutable": W&B reads the stage's own file, instead of a second copy in the user's home folder.
        artifact.add_file(str(file), name=inside, policy="immutable")
    return artifact


def _files(path: Path | Sequence[Path]) -> dict[str, Path]:
    if not isinstance(path, Path):
        return {file.name: file for file in path}
    if not path.is_dir():
        return {path.name: path}
    return {file.relative_to(path).as_posix(): file for file in files_below(path)}
