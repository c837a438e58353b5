"""docs/configuration.md is what the schemas and conf/ say."""

from configuration_page import FILES, PAGE, PATHS, page

from fairloop import composition
from fairloop.composition import conf_dir
from fairloop.config import Configuration
from fairloop.settings import known_keys


def test_the_committed_page_is_the_generated_one():
    """Run `make docs` if this fails."""
    assert PAGE.read_text(encoding="utf-8") == page()


def test_every_key_and_every_option_is_on_the_page():
    written = PAGE.read_text(encoding="utf-8")
    plain = {
        "study",
        "model",
        "initial_bias",
        "mitigation",
        "metric",
        "plm",
        "benchmark",
        "debias",
        "trainer",
        "tracking",
    }
    keys = [key for key in known_keys(Configuration) if key not in plain and not key.endswith(".name")]
    missing = [key for key in keys if f"`{key}`" not in written]
    assert not missing
    for option in conf_dir().glob("*/*.yaml"):
        assert f"| `{option.stem}`" in written


def test_what_decides_is_what_names_a_cell():
    """A key with `yes` changes the cell's name, one with `no` does not, a path gives way to what it leads to."""
    rows = [line.split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    decides = {row[0].strip("| `"): row[-1].strip(" |") for row in rows if len(row) == 5}
    with composition.composer():
        cell = composition.validate(
            composition.compose_config(["study=recursion", "study.metrics=[rule_based,embedding]", "model.style=chat"])
        )
    named = cell.deciding()
    for group in ("study", "model", "initial_bias"):
        for key in type(getattr(cell, group)).model_fields:
            said = decides.get(f"{group}.{key}")
            assert said is None or (key in named[group]) == (said == "yes"), f"{group}.{key}"
    assert set(named["weights"]) <= set(PATHS)
    assert {decides[key] for key in PATHS} == {"weights"}
    assert {decides[key] for key in FILES} == {"contents"}
    assert "trainer" not in named
    assert {said for key, said in decides.items() if key.startswith(("trainer.", "tracking."))} == {"no"}
