"""Score tokens with a masked or a causal language model: the one engine behind every likelihood in Fairloop.

A score request names an input, and tokens at places of it whose log probabilities are wanted. The engine computes each
distinct input once, in batches with little padding, and runs the language-model head only at those places. The
published benchmark code does one forward pass, head included at every place, for each token.
"""

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np

from fairloop.console import OnProgress
from fairloop.errors import Fault, UserError
from fairloop.plm.batching import by_length, distinct, for_rows
from fairloop.plm.beginnings import by_beginning, shared_states, shares_beginnings
from fairloop.plm.encoder import SentenceEncoder
from fairloop.plm.inference_time import read_record
from fairloop.plm.loading import Dtype, load_config, load_model, load_tokenizer, pad_id, window
from fairloop.plm.locate import resolve
from fairloop.plm.packing import ROW_TOKENS, hidden_states, shares_rows
from fairloop.plm.self_debias import SelfDebiasing
from fairloop.plm.settings import PlmSettings

Kind = Literal["masked", "causal", "encoder"]

#: Rows of logits computed at once, 268 MB of float32 for Gemma's 262,144 entries: a product reads and repacks the
#: head's weights every time, which is most of what fewer rows pay for.
_ROWS_AT_ONCE = 256
#: Rows of logits that a processor normalises at once: they stay in its cache between the passes that this takes.
_ROWS_IN_CACHE = 8
#: Batches between two calls of `ScoreMemory.keep`.
_BATCHES_BETWEEN_KEEPS = 50


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """A score request: tokens whose log probability is wanted, all with the same input.

    Attributes:
        ids: The input's token ids, special tokens included.
        places: For each wanted token, the place in `ids` whose output predicts it: its own place in a masked model,
            the one before it in a causal model.
        tokens: The wanted token ids.
        item: What to call this input in an error message.
    """

    ids: tuple[int, ...]
    places: tuple[int, ...]
    tokens: tuple[int, ...]
    item: str = ""


@dataclass(frozen=True, slots=True)
class Encoded:
    """One tokenized text; `special` says for each token whether the tokenizer added it."""

    ids: tuple[int, ...]
    special: tuple[bool, ...]

    @property
    def words(self) -> list[int]:
        """Places of the tokens that belong to the text."""
        return [place for place, special in enumerate(self.special) if not special]


class ScoreMemory(Protocol):
    """Where a long scoring keeps what it has, so that a killed run goes on: see `fairloop.plm.memory`."""

    def recall(self, key: str) -> np.ndarray | None:
        """Return what was kept under `key`, or None."""

    def keep(self, key: str, values: np.ndarray) -> None:
        """Replace what is kept under `key`."""


class LanguageModel:
    """A pre-trained model with its tokenizer, on one device or copied to several.

    Attributes:
        name: What the model is called in results.
        kind: `masked`, `causal`, or `encoder` (no head: embeddings only).
        tokenizer: Its fast tokenizer. The engine pads by itself, on the right: the tokenizer's own padding side
            plays no role.
        window: The number of tokens of a text that the model has positions for, or None.
        self_debiasing: What rescales its probabilities, or None.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        kind: Kind,
        *,
        name: str = "model",
        path: str | None = None,
        revision: str | None = None,
        batch_tokens: int = 2048,
        replicas: Sequence[Any] = (),
        self_debiasing: SelfDebiasing | None = None,
    ) -> None:
        """Take a loaded model; `replicas` are copies of it on further devices, among which batches are dealt.

        Raises:
            UserError: if the longest prompt of `self_debiasing` fills the model's window.
        """
        self.name = name
        self.path, self.revision = path, revision
        self.kind = kind
        self.tokenizer = tokenizer
        self.models = [model.eval(), *replicas]
        self.batch_tokens = batch_tokens
        self.window = window(model)
        self.self_debiasing = self_debiasing
        if self.window is not None and self_debiasing is not None:
            longest = max(map(len, self_debiasing.prompts))
            if longest >= self.window:
                raise UserError(f"debias.prompts: one has {longest} tokens, and plm={name} takes {self.window}")
            self.window -= longest
        self._pad = pad_id(tokenizer, model)

    @classmethod
    def load(cls, settings: PlmSettings) -> "LanguageModel":
        """Load the model that the settings name, on every device they name."""
        import copy

        tokenizer = load_tokenizer(settings.path, settings.revision)
        kind = detect_kind(settings.path, settings.revision) if settings.kind == "auto" else settings.kind
        first, *others = devices(settings.device)
        head: Any = {"masked": "masked", "causal": "causal", "encoder": "none"}[kind]
        dtype: Dtype = settings.dtype
        model = load_model(settings.path, head, dtype=dtype, device=first, revision=settings.revision)
        replicas = [copy.deepcopy(model).to(device) for device in others]
        record = read_record(resolve(settings.path, settings.revision))
        own = SelfDebiasing(record, tokenizer) if record is not None and record.kind == "self_debias" else None
        return cls(
            model,
            tokenizer,
            kind,
            name=settings.name,
            path=settings.path,
            revision=settings.revision,
            batch_tokens=settings.batch_tokens,
            replicas=replicas,
            self_debiasing=own,
        )

    @property
    def model(self) -> Any:
        """The transformers model (its copy on the first device)."""
        return self.models[0]

    @cached_property
    def encoder(self) -> SentenceEncoder:
        """The same weights as a sentence encoder: the model without its head."""
        return SentenceEncoder(self.model.base_model, self.tokenizer)

    @property
    def mask_id(self) -> int:
        """The id of the mask token.

        Raises:
            UserError: if the model is no masked language model or its tokenizer has no mask token.
        """
        if self.kind != "masked":
            raise UserError(
                f"plm={self.name}: a masked protocol needs a masked language model, and this is {self.kind}"
            )
        if self.tokenizer.mask_token_id is None:
            raise UserError(f"plm={self.name}: a masked protocol needs a mask token, and its tokenizer has none")
        return int(self.tokenizer.mask_token_id)

    @cached_property
    def start_id(self) -> int:
        """The id of the token that begins a text: the tokenizer's BOS, or else its EOS (GPT-2's are the same)."""
        for candidate in (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id):
            if candidate is not None:
                return int(candidate)
        raise UserError(f"plm={self.name}: its tokenizer has no token that begins a text")

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """Tokenize each text as the tokenizer does by itself, with its special tokens and without truncation."""
        if not len(texts):
            return []
        out = self.tokenizer(
            list(texts),
            add_special_tokens=True,
            truncation=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            return_special_tokens_mask=True,
            verbose=False,
        )
        return [
            Encoded(tuple(ids), tuple(map(bool, flags)))
            for ids, flags in zip(out["input_ids"], out["special_tokens_mask"], strict=True)
        ]

    def fits(self, ids: Sequence[int]) -> bool:
        """Say whether an input is within the model's window."""
        return self.window is None or len(ids) <= self.window

    def score(
        self,
        requests: Sequence[ScoreRequest],
        *,
        on_progress: OnProgress | None = None,
        memory: ScoreMemory | None = None,
    ) -> list[np.ndarray]:
        """Return the log probabilities (natural, float64) of each request's tokens, in order.

        Args:
            requests: What to score; equal inputs are computed once, whatever is wanted of them.
            on_progress: Called with (inputs done, distinct inputs).
            memory: Keeps finished batches. With the same requests a killed run continues there, and its scores
                equal those of an uninterrupted one, bit for bit.

        Raises:
            Fault: if an input is longer than the model's window or empty, or a log probability is not a number.
        """
        if self.kind == "encoder":
            raise UserError(f"plm={self.name}: this is an encoder without a language-model head; it has no likelihoods")
        inputs, owners = distinct([self._needed(request) for request in requests])
        pairs: list[dict[tuple[int, int], int]] = [{} for _ in inputs]
        for request, owner in zip(requests, owners, strict=True):
            self._check(request)
            for pair in zip(request.places, request.tokens, strict=True):
                pairs[owner].setdefault(pair, len(pairs[owner]))
        scores = self._score_inputs(inputs, [list(asked) for asked in pairs], on_progress, memory)
        answers = []
        for request, owner in zip(requests, owners, strict=True):
            asked = zip(request.places, request.tokens, strict=True)
            answer = scores[owner][[pairs[owner][pair] for pair in asked]]
            if not np.isfinite(answer).all():
                raise Fault(
                    f"plm={self.name}: a log probability is not a finite number, at {request.item or 'an input'}"
                )
            answers.append(answer)
        return answers

    def _needed(self, request: ScoreRequest) -> tuple[int, ...]:
        """Return the part of an input that its answers rest on: what a causal model has seen at the last of them."""
        return request.ids[: max(request.places, default=0) + 1] if self.kind == "causal" else request.ids

    def _check(self, request: ScoreRequest) -> None:
        if not request.ids or not self.fits(request.ids):
            size = f"{len(request.ids)} tokens, and the model takes 1 to {self.window}"
            raise Fault(f"plm={self.name}: {request.item or 'an input'} has {size}")

    def _score_inputs(
        self,
        inputs: list[tuple[int, ...]],
        pairs: list[list[tuple[int, int]]],
        on_progress: OnProgress | None,
        memory: ScoreMemory | None,
    ) -> list[np.ndarray]:
        """Return for each input the log probabilities of its (place, token) pairs."""
        lengths = [len(ids) for ids in inputs]
        if shares_beginnings(self.model.base_model):
            batches = by_beginning(inputs, self.batch_tokens)
        elif shares_rows(self.model.base_model):
            batches = for_rows(lengths, self.batch_tokens, ROW_TOKENS)
        else:
            batches = by_length(lengths, self.batch_tokens)
        sizes = [sum(len(pairs[index]) for index in batch) for batch in batches]
        kept = Kept(memory, inputs, pairs, sizes)
        results: list[np.ndarray] = kept.finished
        done = sum(len(batch) for batch in batches[: len(results)])
        if on_progress is not None:
            on_progress(done, len(inputs))  # so that what was kept does not count as this run's speed

        def compute(number: int, model: Any) -> np.ndarray:
            batch = batches[number]
            return self._score_batch(model, [inputs[index] for index in batch], [pairs[index] for index in batch])

        for number, result in _dealt(compute, range(len(results), len(batches)), self.models):
            results.append(result)
            done += len(batches[number])
            if (number + 1) % _BATCHES_BETWEEN_KEEPS == 0:
                kept.keep(results)
            if on_progress is not None:
                on_progress(done, len(inputs))
        kept.keep(results)
        scores: list[np.ndarray] = [np.empty(0)] * len(inputs)
        for batch, result in zip(batches, results, strict=True):
            ends = np.cumsum([len(pairs[index]) for index in batch])
            for index, part in zip(batch, np.split(result, ends[:-1]), strict=True):
                scores[index] = part
        return scores

    def _score_batch(self, model: Any, inputs: list[tuple[int, ...]], pairs: list[list[tuple[int, int]]]) -> np.ndarray:
        import torch

        asked = [(row, place, token) for row, some in enumerate(pairs) for place, token in some]
        # A causal model's state rests on what it has seen, which inputs that begin alike have in common.
        found: dict[tuple[int, ...], tuple[int, int, int]] = {}
        rests = [inputs[row][: place + 1] if self.kind == "causal" else (row, place) for row, place, _ in asked]
        numbers = [found.setdefault(one, (len(found), *spot[:2]))[0] for one, spot in zip(rests, asked, strict=True)]
        spots, spot_of = [(row, place) for _, row, place in found.values()], torch.tensor(numbers)
        tokens = torch.tensor([token for _, _, token in asked])
        with torch.inference_mode():
            hidden = self._states(model, inputs, spots)
            spot_of, tokens = spot_of.to(hidden.device), tokens.to(hidden.device)
            if self.self_debiasing is None:
                return self._head(model, hidden, spot_of, tokens)
            prompted = self.self_debiasing.prompted(inputs, spots)
            states = [hidden, *(self._states(model, *behind) for behind in prompted)]
            with _base_model_replaced(model) as head:
                return self.self_debiasing.scores(head, states, spot_of, tokens, max(1, _ROWS_AT_ONCE // len(states)))

    def _states(self, model: Any, inputs: Sequence[tuple[int, ...]], spots: Sequence[tuple[int, int]]) -> Any:
        """Return the last hidden state at each spot (row, place) of a batch of inputs: [spots, width]."""
        starts = np.cumsum([0, *(len(ids) for ids in inputs)])
        asked = np.array([starts[row] + place for row, place in spots])
        states = shared_states if shares_beginnings(model.base_model) else hidden_states
        return states(model.base_model, inputs, self._pad, asked)

    def _head(self, model: Any, hidden: Any, spot_of: Any, tokens: Any) -> np.ndarray:
        """Return log probabilities of `tokens[i]` at hidden state `spot_of[i]`."""
        import torch

        answers = torch.empty(len(tokens), dtype=torch.float64)
        with _base_model_replaced(model) as head:
            for start in range(0, len(hidden), _ROWS_AT_ONCE):
                logits = head(hidden[start : start + _ROWS_AT_ONCE])
                together = _ROWS_IN_CACHE if logits.device.type == "cpu" else len(logits)
                norms = torch.cat([torch.logsumexp(rows.float(), dim=-1) for rows in logits.split(together)])
                inside = ((spot_of >= start) & (spot_of < start + _ROWS_AT_ONCE)).nonzero()[:, 0]
                chosen = spot_of[inside] - start
                log_probabilities = logits[chosen, tokens[inside]].float() - norms[chosen]
                answers[inside.cpu()] = log_probabilities.double().cpu()
        return answers.numpy()


@contextmanager
def _base_model_replaced(model: Any) -> Iterator[Callable[[Any], Any]]:
    """Yield the model's own head as a function of hidden states [rows, hidden size] -> logits [rows, vocabulary].

    Each family writes its head differently (a transform, a bias, soft-capped logits), but every one calls its base
    model first. For the time of the block the base model answers with the hidden states it is given.
    """
    import torch
    from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

    base = model.base_model
    given: list[Any] = []

    def answer(*_: Any, **__: Any) -> Any:
        return BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=given.pop())

    def head(hidden: Any) -> Any:
        given.append(hidden[None])
        placeholder = torch.zeros((1, len(hidden)), dtype=torch.long, device=hidden.device)
        return model(input_ids=placeholder, return_dict=True).logits[0]

    before = base.__dict__.get("forward")
    base.forward = answer
    try:
        yield head
    finally:
        if before is None:
            del base.forward
        else:
            base.forward = before


def _dealt(
    compute: Callable[[int, Any], np.ndarray], numbers: range, models: Sequence[Any]
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (number, result) in order; each model works through its own batches, all at the same time."""
    if len(models) == 1:
        for number in numbers:
            yield number, compute(number, models[0])
        return
    locks = [threading.Lock() for _ in models]

    def on(number: int) -> np.ndarray:
        turn = number % len(models)
        with locks[turn]:
            return compute(number, models[turn])

    with ThreadPoolExecutor(len(models)) as pool:
        for number, result in zip(numbers, pool.map(on, numbers), strict=True):
            yield number, result


class Kept:
    """The finished batches of one call of `score`, in a `ScoreMemory` under the digest of what was asked."""

    def __init__(
        self,
        memory: ScoreMemory | None,
        inputs: list[tuple[int, ...]],
        pairs: list[list[tuple[int, int]]],
        sizes: list[int],
    ) -> None:
        self._memory = memory
        self.finished: list[np.ndarray] = []
        if memory is None:
            return
        digest = hashlib.blake2b(repr((inputs, pairs, sizes)).encode(), digest_size=16)
        self._key = digest.hexdigest()
        values = memory.recall(self._key)
        if values is not None:
            ends = np.cumsum(sizes)
            whole = int(np.searchsorted(ends, len(values), side="right"))
            starts = [0, *ends]
            self.finished = [values[starts[number] : ends[number]] for number in range(whole)]

    def keep(self, results: list[np.ndarray]) -> None:
        """Keep what is finished."""
        if self._memory is not None and results:
            self._memory.keep(self._key, np.concatenate(results))


def devices(device: str) -> list[str]:
    """Return the devices that `plm.device` names: `auto` is every GPU, or the processor where there is none."""
    import torch

    if device == "auto":
        count = torch.cuda.device_count()
        return [f"cuda:{number}" for number in range(count)] if count else ["cpu"]
    names = [name.strip() for name in device.split(",")]
    for name in names:
        kind = name.split(":")[0]
        if kind not in ("cpu", "cuda", "mps"):
            raise UserError.of("plm.device", device, "choose auto, cpu, cuda, or cuda:0,cuda:1")
        if kind == "cuda" and not torch.cuda.is_available():
            raise UserError.of("plm.device", device, "no CUDA device is available here")
    return names


def detect_kind(path: str, revision: str | None = None) -> Kind:
    """Read from a model's configuration whether it is a masked or a causal language model, or has no such head."""
    architectures = " ".join(load_config(path, revision).architectures or [])
    if "ForMaskedLM" in architectures or "ForPreTraining" in architectures:
        return "masked"
    if "ForCausalLM" in architectures or "LMHead" in architectures:
        return "causal"
    if not architectures:
        raise UserError(f"plm.path={path}: its configuration names no architecture; set plm.kind to masked or causal")
    return "encoder"
