"""The order of the packages: each imports only from those below it."""

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import fairloop

PACKAGE = Path(fairloop.__file__).parent
PAGE = Path(__file__).parents[1] / "docs" / "architecture.md"


def packages_in_order():
    """The packages as the page lists them, from top to bottom, and the modules that it calls everyone's."""
    section = PAGE.read_text(encoding="utf-8").partition("## The order of the packages")[2].partition("\n## ")[0]
    table, _, rest = section.partition("\n\n`")
    return re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE), set(re.findall(r"`(\w+)`", "`" + rest))


ORDER, ANYONE = packages_in_order()


def test_the_page_names_every_package_and_module_once():
    code = [path for path in PACKAGE.iterdir() if path.suffix in ("", ".py")]
    found = {path.name.removesuffix(".py") for path in code if not path.name.startswith(("_", "."))}
    assert sorted([*ORDER, *ANYONE]) == sorted(found)


def package_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_packages(path):
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


def test_every_package_imports_only_from_packages_below():
    wrong = set()
    for path in PACKAGE.rglob("*.py"):
        own = package_of(path)
        if own not in ORDER:
            continue
        for other in imported_packages(path):
            if other in ANYONE or other == own or other.startswith("__"):
                continue
            if ORDER.index(other) < ORDER.index(own):
                wrong.add(f"{path.relative_to(PACKAGE)} imports {other}")
    assert not wrong


def test_utilities_import_no_package():
    for name in ANYONE:
        assert set(imported_packages(PACKAGE / f"{name}.py")) <= ANYONE


def imported_modules(path, modules):
    """The modules of the package that a file imports anywhere: at its head, inside functions, for type hints."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from modules & {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield from modules & {inner if inner in modules else node.module}


def imports_of(package):
    paths = {
        ".".join(path.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__"): path
        for path in package.rglob("*.py")
    }
    return {name: set(imported_modules(path, paths.keys())) - {name} for name, path in paths.items()}


def test_no_modules_import_each_other_in_a_circle_not_even_inside_functions():
    TopologicalSorter(imports_of(PACKAGE)).prepare()


def test_a_circle_of_imports_would_be_found(tmp_path):
    package = tmp_path / "fairloop"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "one.py").write_text("from fairloop import two\n")
    (package / "two.py").write_text("def later():\n    from fairloop.one import something\n")
    with pytest.raises(CycleError):
        TopologicalSorter(imports_of(package)).prepare()
