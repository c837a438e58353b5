"""Check one GPU within eight minutes: `python -m device [--tiny] [--out FOLDER]` (make device-check).

Random weights in the shapes of Gemma 2 2B and BERT base go through Fairloop's own paths: the in-process generator, a
training step of every module, the scoring of StereoSet, the contrastive loss on two processes that share the device.
Beside each speed stands the limit that the same run measured: the bandwidth of a copy, the peak of a matrix product.
What the device computes is compared with the processor's float32. One JSON file and one table are written.

Without a GPU it says so; `--tiny` runs every part on the processor with models of a few thousand weights, which shows
that the parts work and nothing about speed.
"""

import argparse
import json
import logging
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from fairloop import console
from fairloop.errors import first_line
from fairloop.numerics import fingerprint
from fairloop.version import __version__

from . import parts
from .models import FULL, TINY
from .tasks import tasks

MOST_SECONDS = 460
"""Parts that have not begun by then are left out, so that all ends within eight minutes."""


def check(device: str, tiny: bool, folder: Path) -> dict[str, Any]:
    """Run every part and return what each found, or why it did not end."""
    began = time.perf_counter()
    bench = parts.Bench(device, TINY if tiny else FULL, folder)
    name = torch.cuda.get_device_name() if device == "cuda" else "processor"
    found: dict[str, Any] = {"fairloop": __version__, "device": name, "tiny": tiny, "numerics": fingerprint()}
    found["parts"] = {}
    most: dict[str, Any] = {}

    def run(part: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        start = time.perf_counter()
        if start - began > MOST_SECONDS:
            found["parts"][part] = {"left out": f"{MOST_SECONDS} s were over"}
            return {}
        console.say(f"{part} …")
        try:
            numbers = work()
        except Exception as error:  # the other parts are worth their minutes all the same
            traceback.print_exc()
            numbers = {"failed": f"{type(error).__name__}: {first_line(error)}"}
        found["parts"][part] = {**numbers, "seconds": time.perf_counter() - start}
        return numbers

    most = run("limits", lambda: parts.limits(bench))
    if "failed" not in most:
        run("generation", lambda: parts.generation(bench, most))
        for task in tasks(bench.bert(), bench.shapes.batch, 1):
            run(f"training {task}", lambda task=task: parts.training(bench, most, task))
    run("StereoSet", lambda: parts.scoring(bench))
    run("two processes", lambda: parts.two_processes(bench))
    run("equality", lambda: parts.equality(bench))
    found["seconds"] = time.perf_counter() - began
    return found


def table(found: dict[str, Any]) -> str:
    """Return what was found as a table in Markdown."""
    all_parts = found["parts"]
    note = " (tiny models: nothing here is about speed)" if found["tiny"] else ""
    lines = [f"# {found['device']}, {found['seconds']:.0f} s{note}", "", "| part | speed | share | peak GiB |"]
    lines.append("| --- | --- | --- | --- |")
    for part, numbers in all_parts.items():
        reason = numbers.get("failed") or numbers.get("left out")
        speed, share = _speed(numbers), ""
        if "share_of_limit" in numbers:
            share = f"{numbers['share_of_limit']:.0%} of {numbers['limit_tokens_per_second']:.0f} (memory bandwidth)"
        elif "share_of_peak" in numbers:
            share = f"{numbers['share_of_peak']:.0%} of the measured peak"
        peak = numbers.get("peak_gib")
        row = [part, f"failed: {reason}" if reason else speed, share, "" if peak is None else f"{peak:.1f}"]
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


def _speed(numbers: dict[str, Any]) -> str:
    if "tokens_per_second" in numbers:
        return f"{numbers['tokens_per_second']:,.0f} tokens/s"
    if "bytes_per_second" in numbers:
        return f"{numbers['bytes_per_second'] / 1e9:,.0f} GB/s, {numbers['flops'] / 1e12:,.1f} TFLOP/s"
    if "items" in numbers:
        speeds = {key: value for key, value in numbers.items() if key.startswith("items_per_second")}
        return ", ".join(f"{value:,.0f} items/s {key.rpartition('_')[2]}" for key, value in speeds.items())
    if "gradients" in numbers:
        said = "equal" if numbers["equal"] else "NOT equal"
        return f"{said} to one process: loss {numbers['loss']:.1e}, gradients {numbers['gradients']:.1e}"
    said = [
        f"{what} {one['difference']:.1e} of {one['tolerance']:g}{'' if one['equal'] else ' NOT EQUAL'}"
        for what, one in numbers.items()
        if isinstance(one, dict)
    ]
    return "; ".join(said)


def is_sound(found: dict[str, Any]) -> bool:
    """Tell whether every part ended, and what was compared is equal."""
    checked = [*found["parts"].values(), *found["parts"].get("equality", {}).values()]
    return not any(isinstance(one, dict) and ("failed" in one or not one.get("equal", True)) for one in checked)


def main(arguments: list[str] | None = None) -> int:
    """Run the check and write `device.json` and `device.md`; return 0 if every part ended and all is equal."""
    parser = argparse.ArgumentParser(prog="device", description="Check one GPU with Fairloop's own paths.")
    parser.add_argument("--tiny", action="store_true", help="tiny models on the processor: that every part works")
    parser.add_argument("--out", type=Path, default=Path("build/device"), help="where the JSON and the table go")
    options = parser.parse_args(arguments)
    device = "cuda" if torch.cuda.is_available() and not options.tiny else "cpu"
    if device == "cpu" and not options.tiny:
        console.say("no GPU here: the parts run with tiny models on the processor, which says nothing about speed")
    warnings.simplefilter("ignore")
    for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        found = check(device, device == "cpu", Path(folder))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "device.json").write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    (options.out / "device.md").write_text(table(found), encoding="utf-8")
    console.stdout.print(table(found), markup=False, soft_wrap=True)
    return 0 if is_sound(found) else 1


if __name__ == "__main__":
    raise SystemExit(main())
