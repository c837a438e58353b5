"""A grid of cells that compute for some seconds each, with checkpoints, and can be met in the middle of it."""

import random
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path += [str(TESTS / folder) for folder in ("end_to_end", "plm", "benchmarks")]

from command import cells, fairloop, results, start  # noqa: E402

from fairloop.locks import is_locked  # noqa: E402
from fairloop.tracking.store import is_complete  # noqa: E402

__all__ = ["cells", "complete", "fairloop", "grid", "locked", "start"]

STUDY = "evaluate"
PATIENT_RAY = {"RAY_raylet_start_wait_time_s": "120"}  # 30 s are not enough for a node on a busy machine
CELLS = 6


def grid(folder: Path, *, rows: int = 60) -> list[str]:
    """Write a random BERT and, for each cell, sentence pairs of its own; return the overrides of the sweep."""
    import torch
    import transformers
    from plm_models import tiny
    from test_benchmarks_crows_pairs import PAIRS, to_csv

    _, tokenizer, _ = tiny("bert")
    torch.manual_seed(7)
    sizes = {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 1024}
    config = transformers.BertConfig(vocab_size=len(tokenizer), max_position_embeddings=64, **sizes)
    transformers.BertForMaskedLM(config).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    words = sorted({word for pair in PAIRS for word in pair[0].rstrip(".!").split()})
    for cell in range(CELLS):
        chance = random.Random(cell)
        pairs = []
        for _ in range(10 * rows if cell == 1 else rows):  # one is long enough to be met by its time limit
            more, less, *kind = chance.choice(PAIRS)
            beginning = " ".join(chance.choices(words, k=8))
            pairs.append((f"{beginning} {more}", f"{beginning} {less}", *kind))
        (folder / f"{cell}").mkdir()
        (folder / f"{cell}" / "crows_pairs_anonymized.csv").write_text(to_csv(pairs))
    data = ",".join(f"{folder}/{cell}" for cell in range(CELLS))
    chosen = ["study=evaluate", "plm=bert_base", f"plm.path={folder}/model", "plm.device=cpu", "benchmark=crows_pairs"]
    fixed = ["benchmark.verify=false", "benchmark.resamples=50", "trainer.threads=1", "tracking=none"]
    return [*chosen, *fixed, f"benchmark.data={data}"]


def complete(runs_dir: Path) -> dict[str, dict[str, bytes]]:
    """Return the results of the cells that are complete."""
    return {cell.name: results(cell) for cell in cells(runs_dir, STUDY) if is_complete(cell)}


def locked(runs_dir: Path) -> list[str]:
    """Return the cells that a process is at work on."""
    folders = [path.parent for path in (runs_dir / STUDY).glob("*/status.json")]
    return sorted(folder.name for folder in folders if is_locked(folder / ".lock"))
