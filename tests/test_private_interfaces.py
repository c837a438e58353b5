"""Private interfaces of other packages: none but those that are named here with their reason, and none unpinned."""

import ast
import re
import tomllib
from pathlib import Path

import fairloop

PACKAGE = Path(fairloop.__file__).parent
ROOT = Path(__file__).parents[1]

ALLOWED = {
    ("composition.py", "hydra._internal.callbacks"): (
        "hydra-core",
        "launchers and sweepers are given Callbacks, and Hydra has no public way to make them",
    ),
    ("tracking/wandb_values.py", "_metric_callback"): (
        "wandb",
        "define_metric() no longer takes a goal, which the service reads and W&B sweeps need",
    ),
    ("tracking/wandb_values.py", "wandb.proto.wandb_internal_pb2"): (
        "wandb",
        "the record of a metric in which the goal stands",
    ),
    ("tracking/wandb_artifacts.py", "_log_artifact"): (
        "wandb",
        "use_artifact() waits for the service and refuses offline runs: their lineage would be lost",
    ),
}
"""By file and name: the package whose version is bounded for it, and why there is no public way."""

OURS = {"_exit"}  # os._exit and what else is public in spite of its name
TARGETS = {"_target_"}  # a key of Hydra's configurations
TRANSFORMERS = {"_attn_implementation"}  # read from a configuration that Fairloop itself loaded; None where it is gone


def private_names(path: Path):
    """Yield the private names of others in a file: imported, reached for, or in a string that is looked up."""
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [node.module] if "._" in node.module else inner
        elif (
            isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"\w+(\.\w+)+", node.value)
        ):
            names = [node.value]
        names = [name for name in names if not name.startswith("fairloop.")]
        yield from (name for name in names if "._" in name or "_internal" in name or "wandb.sdk" in name)
        if isinstance(node, ast.Attribute) and re.match("_[a-z]", node.attr):
            own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            yield from [] if own else [node.attr]
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "getattr":
            name = node.args[1]
            if isinstance(name, ast.Constant) and re.match("_[a-z]", name.value):
                yield name.value


def test_no_private_name_but_those_with_a_reason():
    found = set()
    for path in PACKAGE.rglob("*.py"):
        own = {node.name for node in ast.walk(ast.parse(path.read_text())) if hasattr(node, "name")}
        for name in private_names(path):
            if name not in OURS | TARGETS | TRANSFORMERS | own:
                found.add((path.relative_to(PACKAGE).as_posix(), name))
    assert found - ALLOWED.keys() == set()
    assert ALLOWED.keys() - found == set(), "no longer used: take it from the list"


def test_a_package_whose_private_interface_is_used_has_a_ceiling():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    bounds = {re.match(r"[\w-]+", line)[0]: line for line in project["dependencies"]}
    for package, reason in ALLOWED.values():
        assert reason
        assert "<" in bounds[package], bounds[package]
