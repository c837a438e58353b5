"""The rule of the house: a room imports only from rooms below it."""

import ast
from pathlib import Path

import fairloop

ORDER = [
    "app",
    "sweep",
    "studies",
    "report",
    "composition",
    "config",
    "mitigation",
    "debias",
    "pairs",
    "benchmarks",
    "metrics",
    "generation",
    "training",
    "plm",
    "corpus",
    "lexicon",
    "tracking",
    "measures",
    "statistics",
    "assets",
]
ANYONE = {"errors", "settings", "seeding", "console", "files"}
PACKAGE = Path(fairloop.__file__).parent


def room_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [
                f"{node.module}.{alias.name}" if node.module == "fairloop" else node.module for alias in node.names
            ]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            if name.startswith("fairloop."):
                yield name.split(".")[1]


def test_every_room_imports_only_from_rooms_below():
    wrong = set()
    for path in PACKAGE.rglob("*.py"):
        room = room_of(path)
        if room not in ORDER:
            continue
        for other in imported_rooms(path):
            if other in ANYONE or other == room or other.startswith("__"):
                continue
            if ORDER.index(other) < ORDER.index(room):
                wrong.add(f"{path.relative_to(PACKAGE)} imports {other}")
    assert not wrong


def test_utilities_import_no_room():
    for name in ANYONE:
        assert set(imported_rooms(PACKAGE / f"{name}.py")) <= ANYONE
