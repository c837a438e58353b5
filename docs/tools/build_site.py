"""Build the documents as a site: `make site`, or python docs/tools/build_site.py FOLDER. A warning is an error.

The documents link to each other by their places in the checkout, so the site has the same places: they are copied, with
the pictures that they show, into a folder that mkdocs reads. A link to a file that is no document of the site is shown
as code.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "docs/*.md", "experiments/*/README.md")
PICTURES = ("docs/pictures/*.svg", "experiments/**/*.png")
NOTEBOOK = "docs/notebook.ipynb"
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s#]+)(#[^)]*)?\)")


def stage(folder: Path) -> None:
    """Copy the documents and pictures into a folder, at their places; the notebook as a document."""
    for pattern in (*DOCUMENTS, *PICTURES):
        for path in sorted(ROOT.glob(pattern)):
            target = folder / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    _stage_notebook(folder)
    for page in folder.rglob("*.md"):
        page.write_text(_linked(page, folder), encoding="utf-8")


def _stage_notebook(folder: Path) -> None:
    from nbconvert import MarkdownExporter
    from nbconvert.writers import FilesWriter

    text, resources = MarkdownExporter().from_filename(str(ROOT / NOTEBOOK))
    place = folder / Path(NOTEBOOK).parent
    FilesWriter(build_directory=str(place)).write(text, resources, notebook_name="notebook")


def _linked(page: Path, folder: Path) -> str:
    """Return a page in which every link leads to a page or a picture of the site, or elsewhere by its address."""

    def link(found: re.Match[str]) -> str:
        text, target, anchor = found.group(1), found.group(2), found.group(3) or ""
        if "://" in target or target.startswith("mailto:"):
            return found.group(0)
        target = re.sub(r"\.ipynb$", ".md", target)
        place = page.parent / target
        if place.is_file():
            return f"[{text}]({target}{anchor})"
        if (place / "README.md").is_file():
            return f"[{text}]({target.rstrip('/')}/README.md{anchor})"
        there = (ROOT / page.relative_to(folder)).parent / target
        if not there.exists():
            raise SystemExit(f"{page.relative_to(folder)}: there is no {target}")
        return text if text.startswith("`") else f"{text} (`{there.resolve().relative_to(ROOT)}`)"

    return _LINK.sub(link, page.read_text(encoding="utf-8"))


def _configuration(pages: Path) -> str:
    """Return the configuration for the staged pages; those that its navigation does not name follow at the end."""
    text = (ROOT / "docs" / "mkdocs.yml").read_text(encoding="utf-8").replace("SOURCES", str(ROOT / "src"))
    there = sorted(path.relative_to(pages).as_posix() for path in pages.rglob("*.md"))
    more = [page for page in there if f": {page}\n" not in text]
    return text + ("  - More:\n" + "".join(f"      - {page}\n" for page in more) if more else "")


def main() -> int:
    """Stage and build; return the exit status of mkdocs."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the site is written")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        stage(Path(work) / "pages")
        (Path(work) / "mkdocs.yml").write_text(_configuration(Path(work) / "pages"), encoding="utf-8")
        command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(options.folder.absolute())]
        return subprocess.run(command, cwd=work, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
