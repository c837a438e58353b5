"""A study made of stages that is quick, slow enough to be killed in, and writes files piece by piece.

    python toy_study.py RUNS_DIR SEED [DELAY]

Each generation depends on the one before, so a stage that is lost, doubled or half read changes every later byte.
"""

import hashlib
import json
import logging
import os
import sys
import time
from pathlib import Path

from fairloop.measures.measurement import Measurement
from fairloop.tracking.store import Cell

GENERATIONS = 4


def text(seed: int, generation: int, before: str) -> str:
    lines, state = [], f"{seed}/{generation}/{before}"
    for _ in range(2000):
        state = hashlib.sha256(state.encode()).hexdigest()
        lines.append(state)
    return "\n".join(lines)


def run(runs_dir: Path, seed: int, delay: float = 0.0, journal: Path | None = None) -> Cell:
    cell = Cell.open(runs_dir, "toy", {"seed": seed}, {"seed": seed, "runs_dir": str(runs_dir)})

    def write(folder: Path, generation: int, before: str) -> dict:
        content = text(seed, generation, before)
        with (folder / "corpus.txt").open("w") as stream:
            for start in range(0, len(content), 20_000):
                stream.write(content[start : start + 20_000])
                stream.flush()
                time.sleep(delay)
        (folder / "deep").mkdir()
        (folder / "deep" / "measure.json").write_text(json.dumps({"value": int(content[:8], 16) / 2**32}))
        if journal is not None:
            with journal.open("a") as stream:
                stream.write(f"{generation}\n")
        return {"pid": os.getpid()}

    with cell.working() as needed:
        if needed:
            results, stages, before = {}, [], ""
            for generation in range(GENERATIONS):
                stage = cell.stage(
                    f"generation-{generation}",
                    lambda folder, g=generation, b=before: write(folder, g, b),
                    inputs=stages[-1:],
                    settings={"generation": generation},
                )
                stages.append(stage)
                before = (stage.folder / "corpus.txt").read_text()
                value = json.loads((stage.folder / "deep" / "measure.json").read_text())["value"]
                results[generation] = [Measurement("rule/net_stereotype_rate", value, value - 0.1, value + 0.1, 2000)]
            results[None] = [Measurement("equilibrium/level", sum(m[0].value for m in results.values()), None, None, 4)]
            cell.write_results(results)
    return cell


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    run(
        Path(sys.argv[1]),
        int(sys.argv[2]),
        float(sys.argv[3]) if len(sys.argv) > 3 else 0.0,
        Path(sys.argv[1], "journal"),
    )
