"""The parts of the check; each measures one of Fairloop's paths on a device and returns plain numbers."""

import dataclasses
import json
import os
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from bench.generation import Endless, bench_requests
from torch.utils.flop_counter import FlopCounterMode

from fairloop.benchmarks.result import Task
from fairloop.benchmarks.stereoset import LABELS, StereoItem, masked_fillers
from fairloop.generation.in_process import InProcessGenerator
from fairloop.generation.requests import Attempt
from fairloop.generation.settings import ModelSettings
from fairloop.numerics import format_of
from fairloop.plm.loading import load_model, load_tokenizer
from fairloop.plm.model import LanguageModel
from fairloop.plm.settings import PlmSettings
from fairloop.training.hook import Training
from fairloop.training.job import TrainingJob
from fairloop.training.settings import TrainerSettings
from fairloop.training.trainer import build_trainer

from .models import Shapes, sentences, write_bert, write_gemma
from .tasks import tasks

Numbers = dict[str, Any]

TOLERANCE = {"float32": 1e-4, "bfloat16": 3e-2}
"""Root mean square of the differences from the processor's float32, in standard deviations of what is compared: float32
is added in another order on another device; bfloat16 keeps 8 bits (a processor's own is 0.015 and 0.009 away)."""


@dataclasses.dataclass
class Bench:
    """What all parts share.

    Attributes:
        device: `cuda` or `cpu`.
        shapes: sizes of models and of work.
        folder: for the models that are written.
    """

    device: str
    shapes: Shapes
    folder: Path

    @property
    def trainer(self) -> TrainerSettings:
        """Where training steps run."""
        return TrainerSettings(accelerator="gpu" if self.device == "cuda" else "cpu", deterministic=False)

    def gemma(self) -> Path:
        """Return the folder of the generator."""
        place = self.folder / "gemma"
        return place if place.exists() else write_gemma(place, self.shapes.gemma, self.device)

    def bert(self) -> Path:
        """Return the folder of the masked language model."""
        place = self.folder / "bert"
        return place if place.exists() else write_bert(place, self.shapes.bert)

    def timed(self, work: Callable[[], object], repeats: int = 3) -> float:
        """Return the seconds of the fastest of some goes, after one that does not count."""
        work()
        found = []
        for _ in range(repeats):
            self.wait()
            began = time.perf_counter()
            work()
            self.wait()
            found.append(time.perf_counter() - began)
        return min(found)

    def wait(self) -> None:
        """Wait until the device has done what it was given."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def forget_peak(self) -> None:
        """Begin to note the peak of the device's memory anew."""
        if self.device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def peak_gib(self) -> float | None:
        """Return the peak of the device's memory since `forget_peak`; None for a processor."""
        return torch.cuda.max_memory_allocated() / 2**30 if self.device == "cuda" else None


def limits(bench: Bench) -> Numbers:
    """Measure what the device can do at most: bytes per second of a copy, operations per second of a matrix product."""
    source = torch.empty(bench.shapes.copied // 4, device=bench.device)
    target = torch.empty_like(source)
    seconds = bench.timed(lambda: target.copy_(source))
    side, dtype = bench.shapes.matrix, getattr(torch, format_of("auto", bench.device))
    matrix = torch.randn(side, side, device=bench.device, dtype=dtype)
    product = bench.timed(lambda: matrix @ matrix)
    return {
        "bytes_per_second": 2 * bench.shapes.copied / seconds,
        "flops": 2 * side**3 / product,
        "flops_format": format_of("auto", bench.device),
    }


def generation(bench: Bench, most: Numbers) -> Numbers:
    """Write texts with the in-process generator; the limit is that each step reads all weights and the cache once."""
    settings = ModelSettings(
        name="gemma-2-2b-shape", path=str(bench.gemma()), style="base", temperature=0.8, top_k=50, top_p=0.95,
        batch_size=bench.shapes.rows, max_new_tokens=bench.shapes.tokens,
    )  # fmt: skip
    bench.forget_peak()
    began = time.perf_counter()
    loaded = InProcessGenerator.load(settings, bench.device)
    bench.wait()
    loading = time.perf_counter() - began
    generator = Endless(loaded.model, loaded.tokenizer, settings)
    attempts = [Attempt.of(request, 0, 0, "bench") for request in bench_requests(settings.batch_size)]
    prompts = [len(tokens.ids) for tokens in generator.tokens_of(attempts)]
    written = settings.batch_size * settings.max_new_tokens

    def write() -> None:
        assert sum(done.tokens for done in generator.complete(deque(attempts))) == written  # noqa: S101

    seconds = bench.timed(write, 2)
    weights = sum(one.numel() * one.element_size() for one in {id(p): p for p in loaded.model.parameters()}.values())
    config = loaded.model.config
    row = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * loaded.model.dtype.itemsize
    cache = row * sum(length + settings.max_new_tokens / 2 for length in prompts)
    limit = settings.batch_size * most["bytes_per_second"] / (weights + cache)
    return {
        "tokens_per_second": written / seconds,
        "limit_tokens_per_second": limit,
        "share_of_limit": written / seconds / limit,
        "format": str(loaded.model.dtype).removeprefix("torch."),
        "weights_gib": weights / 2**30,
        "loading_seconds": loading,
        "peak_gib": bench.peak_gib(),
    }


class _Steps(pl.Callback):  # type: ignore[misc]
    """Times the steps of a training, and counts the tokens and the operations of one."""

    def __init__(self, bench: Bench, counted: int) -> None:
        self.bench, self.counted = bench, counted
        self.seconds: list[float] = []
        self.tokens: list[int] = []
        self.flops = 0
        self.loss = 0.0

    def on_train_batch_start(self, trainer: Any, module: Any, batch: dict[str, Any], index: int) -> None:
        """Begin a step; of one of them the operations are counted, which takes time."""
        self.tokens.append(sum(int(one.sum()) for key, one in batch.items() if key.endswith("mask")))
        self.counter = FlopCounterMode(display=False) if index == self.counted else None
        if self.counter:
            self.counter.__enter__()
        self.bench.wait()
        self.began = time.perf_counter()

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
        """End a step."""
        self.bench.wait()
        self.seconds.append(time.perf_counter() - self.began)
        self.loss = float(outputs["value"])
        if self.counter:
            self.counter.__exit__(None, None, None)
            self.flops = self.counter.get_total_flops()


WARM_UP = 2


def training(bench: Bench, most: Numbers, name: str) -> Numbers:
    """Take training steps of one module, as Fairloop's trainer takes them."""
    steps = bench.shapes.steps + WARM_UP + 1
    task = tasks(bench.bert(), bench.shapes.batch, steps)[name]
    model = bench.gemma() if name.startswith("causal_lm") else bench.bert()
    job = TrainingJob(task, str(model), Training(bench.trainer, 0, bench.folder / "run"), "device")
    bench.forget_peak()
    built, timer = job.task.components(job), _Steps(bench, WARM_UP)
    trainer = build_trainer(bench.trainer, bench.folder / "run", max_steps=steps, callbacks=[timer])
    trainer.fit(built.module, datamodule=built.data)
    taken = slice(WARM_UP + 1, steps)
    seconds, tokens = sum(timer.seconds[taken]), sum(timer.tokens[taken])
    per_token = timer.flops / max(timer.tokens[WARM_UP], 1)
    trained = sum(one.numel() for one in built.module.parameters() if one.requires_grad)
    return {
        "tokens_per_second": tokens / seconds,
        "share_of_peak": per_token * tokens / seconds / most["flops"],
        "step_milliseconds": 1000 * seconds / len(timer.seconds[taken]),
        "tokens_of_a_step": tokens / len(timer.seconds[taken]),
        "trained_parameters": trained,
        "loss": timer.loss,
        "peak_gib": bench.peak_gib(),
    }


def stereoset_items(count: int) -> list[StereoItem]:
    """Return items of StereoSet's shape about occupations: a context with a blank, and three fillers."""
    found = []
    for number, (male, _, occupation) in enumerate(sentences(count)):
        context = f"the {occupation} said that BLANK will be there today"
        fillers = ("he", "she", "report")
        texts = tuple(context.replace("BLANK", word) for word in fillers)
        found.append(StereoItem(str(number), "intrasentence", occupation, "gender", context, texts))  # type: ignore[arg-type]
        assert len(LABELS) == len(fillers) and male  # noqa: S101, PT018
    return found


def scoring(bench: Bench) -> Numbers:
    """Score StereoSet's intrasentence items with the engine, and the same in float32 on the processor."""
    items = stereoset_items(bench.shapes.items)
    found: Numbers = {"items": len(items)}
    for dtype in ("float32", format_of("auto", bench.device)):
        settings = PlmSettings(name="bert", path=str(bench.bert()), device=bench.device, dtype=dtype)
        task = Task(LanguageModel.load(settings))
        bench.forget_peak()
        found[f"items_per_second_{dtype}"] = len(items) / bench.timed(lambda task=task: masked_fillers(task, items), 2)
        found["peak_gib"] = bench.peak_gib()
    return found


def equality(bench: Bench) -> Numbers:
    """Compare what the device computes with the processor in float32, in standard deviations of the processor's.

    The masked model whole; of the generator two layers, which the processor can do in float32.
    """
    few = bench.shapes.gemma["num_hidden_layers"]
    place = write_gemma(bench.folder / "two-layers", bench.shapes.gemma, bench.device, layers=min(2, few))
    texts = [text for text, _, _ in sentences(4)]
    found: Numbers = {}
    for what, folder, head in (("bert", bench.bert(), "masked"), ("gemma", place, "causal")):
        inputs = load_tokenizer(str(folder), None)(texts, return_tensors="pt", padding=True)
        inputs.pop("token_type_ids", None)
        real = inputs["attention_mask"].bool()

        def logits(device: str, dtype: str, folder: Path = folder, head: str = head, inputs: Any = inputs) -> Any:
            model = load_model(str(folder), head, dtype=dtype, device=device)  # type: ignore[arg-type]
            with torch.inference_mode():
                return model(**inputs.to(device)).logits.float().cpu()

        truth = logits("cpu", "float32")[real]
        for dtype in ("float32", "bfloat16"):
            far = float((logits(bench.device, dtype)[real] - truth).pow(2).mean().sqrt() / truth.std())
            found[f"{what} {dtype}"] = {
                "difference": far,
                "tolerance": TOLERANCE[dtype],
                "equal": far <= TOLERANCE[dtype],
            }
    return found


def two_processes(bench: Bench) -> Numbers:
    """Compare loss and gradients of the contrastive module on two processes that share one device with those of one.

    NCCL refuses two processes on one GPU; gloo carries the tensors through the processor's memory.
    """
    out = bench.folder / "two"
    out.mkdir(exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    arguments = [str(bench.bert()), str(out), bench.device, str(bench.shapes.batch)]
    command = [sys.executable, "-m", "device.two_processes", *arguments]
    workers = [subprocess.Popen(command, env=environment | {"RANK": str(rank)}) for rank in (0, 1)]
    try:
        statuses = [worker.wait(timeout=180) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    if statuses != [0, 0]:
        raise RuntimeError(f"the two processes ended with {statuses}")
    found: Numbers = json.loads((out / "two.json").read_text())
    tolerance = TOLERANCE["float32"]
    return {**found, "tolerance": tolerance, "equal": max(found["loss"], found["gradients"]) <= tolerance}
