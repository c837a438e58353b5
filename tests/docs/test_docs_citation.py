"""CITATION.cff is what the Citation File Format 1.2.0 asks for, and speaks of this version."""

from pathlib import Path

import yaml

import fairloop

ROOT = Path(__file__).parents[2]


def citation():
    return yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))


def test_required_fields_and_version():
    found = citation()
    assert found["cff-version"] == "1.2.0"
    assert {"message", "title", "authors", "type"} <= set(found)
    assert found["version"] == fairloop.__version__
    assert found["license"] == "Apache-2.0"
    assert found["authors"] == [{"name": "The Fairloop developers"}]


def test_references_are_complete():
    references = citation()["references"]
    for reference in references:
        assert {"type", "title", "authors"} <= set(reference)
        assert reference["url"].startswith("https://")
        for author in reference["authors"]:
            assert set(author) in ({"name"}, {"family-names", "given-names"})
    assert {"arXiv:2511.10689", "arXiv:2501.06795"} <= {
        identifier["value"] for reference in references for identifier in reference.get("identifiers", [])
    }


def test_references_are_on_the_methods_page():
    methods = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    assert not [reference["url"] for reference in citation()["references"] if reference["url"] not in methods]
