"""A generator in this process: batched decoding with any causal language model of transformers.

Three things make it fast. The beginning that the prompts of a group share goes through the model once; its keys and
values are copied. A finished row is replaced by the next prompt instead of waiting for the longest row. And the
sampler never sorts or samples over the whole vocabulary.

Each row of the cache is filled from its first slot on, so that slot and position are the same number and nothing is
padded: what lies behind a row's last token is masked, and overwritten when the row grows. The last token of a prompt
is fed together with the sampled tokens of the other rows: logits are computed for one token per row and step only.
"""

from bisect import insort
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers.cache_utils import Cache

from fairloop.errors import UserError
from fairloop.generation.answers import answer_end
from fairloop.generation.prompts import Tokens, base_prompt, chat_prompt, tokenize
from fairloop.generation.requests import Attempt, Completion
from fairloop.generation.sampler import Sampling, sample
from fairloop.generation.settings import ModelSettings
from fairloop.seeding import random_generator

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Groups whose beginnings are kept; an attempt that is repeated later computes its beginning again.
_BEGINNINGS = 32
_SLOT_STEP = 64


@dataclass(order=True)
class _Waiting:
    """An attempt with its tokens; sorted so that prompts of one length, and of one group, come together."""

    order: tuple[int, int, int, int]
    attempt: Attempt = field(compare=False)
    tokens: Tokens = field(compare=False)


@dataclass
class _Row:
    """A sentence being written. `length` tokens lie in the cache; `pending` is fed next."""

    attempt: Attempt
    uniforms: np.ndarray
    seen: list[int]
    pending: int
    length: int
    written: list[int] = field(default_factory=list)


class RowCache(Cache):  # type: ignore[misc]
    """Keys and values of all rows, preallocated: per layer [rows, heads, slots, head size].

    `rows` and `slots` say where the next forward pass writes; it attends to the first `visible` slots of these rows.
    """

    def __init__(self, capacity: int) -> None:
        super().__init__(layers=[])
        self.capacity = capacity
        self.size = 0
        self.keys: list[torch.Tensor] = []
        self.values: list[torch.Tensor] = []
        self._rows = slice(0, 0)
        self._where: tuple[Any, ...] = ()
        self._visible = 0

    def aim(self, rows: slice, slots: torch.Tensor, visible: int) -> None:
        """Set where the next forward pass writes: row range, slot of each token [rows, tokens], slots to attend to."""
        self._rows, self._visible = rows, visible
        self._where = (torch.arange(rows.start, rows.stop, device=slots.device)[:, None], slice(None), slots)
        if visible > self.size:
            self._grow(-(-visible // _SLOT_STEP) * _SLOT_STEP)

    def _grow(self, size: int) -> None:
        for tensors in (self.keys, self.values):
            for layer, old in enumerate(tensors):
                new = old.new_zeros(old.shape[0], old.shape[1], size, old.shape[3])
                new[:, :, : self.size] = old
                tensors[layer] = new
        self.size = size

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store the new keys and values of a layer; return all that its queries may attend to."""
        while len(self.keys) <= layer_idx:
            shape = (self.capacity, key_states.shape[1], self.size, key_states.shape[3])
            self.keys.append(key_states.new_zeros(shape))
            self.values.append(value_states.new_zeros((*shape[:3], value_states.shape[3])))
        keys, values = self.keys[layer_idx], self.values[layer_idx]
        keys[self._where] = key_states.transpose(1, 2)
        values[self._where] = value_states.transpose(1, 2)
        return keys[self._rows, :, : self._visible], values[self._rows, :, : self._visible]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return 0: positions are always given, nothing may be derived from a common length."""
        return 0

    def copy_row(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` slots of one row to another."""
        for store in (*self.keys, *self.values):
            store[target, :, :length] = store[source, :, :length]

    def take(self, row: int, length: int) -> list[torch.Tensor]:
        """Return a copy of the first `length` slots of a row, keys of all layers and then values."""
        return [store[row, :, :length].clone() for store in (*self.keys, *self.values)]

    def put(self, row: int, taken: list[torch.Tensor]) -> None:
        """Write what `take` returned to the beginning of a row."""
        for store, part in zip((*self.keys, *self.values), taken, strict=True):
            store[row, :, : part.shape[1]] = part


class InProcessGenerator:
    """Writes sentences with a causal language model of transformers.

    Args:
        model: any `AutoModelForCausalLM` with ordinary attention layers (full or sliding window).
        tokenizer: its tokenizer.
        settings: style, sampling, batch size.

    Raises:
        UserError: `style: chat` with a tokenizer that has no chat template.
    """

    def __init__(self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", settings: ModelSettings) -> None:
        has_template = tokenizer.chat_template is not None
        if settings.style == "chat" and not has_template:
            raise UserError.of("model.style", "chat", f"{settings.path} has no chat template: use base")
        self.chat = has_template if settings.style == "auto" else settings.style == "chat"
        _require_ordinary_attention(model, settings.path)
        self.model, self.tokenizer, self.settings = model, tokenizer, settings
        self.sampling = Sampling(settings.temperature, settings.top_k, settings.top_p, settings.repetition_penalty)
        self._ends = _end_ids(model, tokenizer)
        self._may_end = _ids_that_may_end(tokenizer)

    @classmethod
    def load(cls, settings: ModelSettings, device: str = "cpu") -> "InProcessGenerator":
        """Load model and tokenizer as the settings say; errors as `fairloop.plm.loading.load_causal_lm`."""
        from fairloop.plm.loading import load_causal_lm

        model, tokenizer = load_causal_lm(
            settings.path, revision=settings.revision, dtype=settings.dtype, device=device
        )
        return cls(model, tokenizer, settings)

    def complete(self, queue: deque[Attempt]) -> Iterator[Completion]:
        """Write a text for every attempt: see `Generator.complete`. A second run yields the same in the same order."""
        return _Decoder(self).run(queue)

    def tokens_of(self, attempts: list[Attempt]) -> list[Tokens]:
        """Return the prompts of some attempts as token ids."""
        form = self.settings.prompt_form
        prompts = [
            chat_prompt(attempt.request, self.tokenizer, form) if self.chat else base_prompt(attempt.request)
            for attempt in attempts
        ]
        return tokenize(prompts, self.tokenizer)

    def text_if_done(self, written: list[int]) -> tuple[str, bool] | None:
        """Return (text, finished) once a text has come to its end, else None."""
        last = written[-1]
        if last in self._ends:
            return self.tokenizer.decode(written[:-1], skip_special_tokens=True), True
        full = len(written) == self.settings.max_new_tokens
        if not full and not self._may_end[last]:
            return None
        text = self.tokenizer.decode(written, skip_special_tokens=True)
        end = answer_end(text)
        if end is not None:
            return text[:end], True
        return (text, False) if full else None


class _Decoder:
    """The state of one call of `complete`."""

    def __init__(self, generator: InProcessGenerator) -> None:
        self.generator = generator
        self.model = generator.model
        self.batch = generator.settings.batch_size
        self.device = generator.model.device
        self.cache = RowCache(self.batch)
        self.rows: list[_Row] = []
        self.waiting: list[_Waiting] = []
        self.beginnings: OrderedDict[tuple[int, ...], list[torch.Tensor]] = OrderedDict()
        self.masks = _MaskMaker(generator.model)

    @torch.inference_mode()
    def _admit(self, queue: deque[Attempt]) -> None:
        """Fill free rows, some at a time: a forward pass for one row costs almost as much as for several."""
        self._receive(queue)
        free = self.batch - len(self.rows)
        if not self.waiting or free == 0 or (self.rows and free < min(max(self.batch // 8, 1), len(self.waiting))):
            return
        admitted = [self.waiting.pop(0) for _ in range(min(free, len(self.waiting)))]
        first = len(self.rows)
        for entry in admitted:
            ids = entry.tokens.ids
            uniforms = random_generator(entry.attempt.seed, "tokens").random(self.generator.settings.max_new_tokens)
            self.rows.append(_Row(entry.attempt, uniforms, list(ids), ids[-1], len(ids) - 1))
        self._place_beginnings(first, admitted)
        self._prefill(
            slice(first, len(self.rows)),
            [e.tokens.ids[e.tokens.shared : -1] for e in admitted],
            [e.tokens.shared for e in admitted],
        )

    def _receive(self, queue: deque[Attempt]) -> None:
        attempts = list(queue)
        queue.clear()
        for attempt, tokens in zip(attempts, self.generator.tokens_of(attempts), strict=True):
            order = (-tokens.shared, attempt.request.group, attempt.request.item, attempt.number)
            insort(self.waiting, _Waiting(order, attempt, tokens))

    def _place_beginnings(self, first: int, admitted: list[_Waiting]) -> None:
        """Put the keys and values of each row's shared beginning into its row."""
        wanted = list(dict.fromkeys(entry.tokens.ids[: entry.tokens.shared] for entry in admitted))
        new = [beginning for beginning in wanted if beginning and beginning not in self.beginnings]
        if new:
            # There are at least as many admitted rows as beginnings: theirs serve as a scratch pad.
            self._prefill(slice(first, first + len(new)), new, [0] * len(new))
            for row, beginning in enumerate(new, start=first):
                self.beginnings[beginning] = self.cache.take(row, len(beginning))
        for row, entry in enumerate(admitted, start=first):
            beginning = entry.tokens.ids[: entry.tokens.shared]
            if beginning:
                self.beginnings.move_to_end(beginning)
                self.cache.put(row, self.beginnings[beginning])
        while len(self.beginnings) > _BEGINNINGS:
            self.beginnings.popitem(last=False)

    def _prefill(self, rows: slice, pieces: list[tuple[int, ...]], starts: list[int]) -> None:
        """Run pieces of prompts through the layers, each behind what its row holds already; no logits are needed."""
        longest = max(map(len, pieces))
        if longest == 0:
            return
        ids = torch.zeros(len(pieces), longest, dtype=torch.long)
        for row, piece in enumerate(pieces):
            ids[row, : len(piece)] = torch.tensor(piece, dtype=torch.long)
        slots = torch.tensor(starts)[:, None] + torch.arange(longest)
        self._forward(self.model.base_model, rows, ids, slots)

    def _forward(
        self, model: torch.nn.Module, rows: slice, ids: torch.Tensor, slots: torch.Tensor, **options: int
    ) -> Any:
        visible = int(slots.max()) + 1
        slots = slots.to(self.device)
        self.cache.aim(rows, slots, visible)
        return model(
            input_ids=ids.to(self.device),
            attention_mask=self.masks.make(slots, visible),
            position_ids=slots,
            past_key_values=self.cache,
            use_cache=True,
            **options,
        )

    @torch.inference_mode()
    def _step(self) -> None:
        """Feed each row's pending token and sample the next one."""
        ids = torch.tensor([[row.pending] for row in self.rows])
        slots = torch.tensor([[row.length] for row in self.rows])
        logits = self._forward(self.model, slice(0, len(self.rows)), ids, slots, logits_to_keep=1).logits[:, -1]
        uniforms = torch.tensor([row.uniforms[len(row.written)] for row in self.rows], dtype=torch.float64)
        sampling = self.generator.sampling
        seen = [row.seen for row in self.rows] if sampling.repetition_penalty != 1.0 else None
        chosen = sample(logits, uniforms.to(logits.device), sampling, seen).tolist()
        for row, token in zip(self.rows, chosen, strict=True):
            row.length += 1
            row.pending = token
            row.written.append(token)
            row.seen.append(token)

    @torch.inference_mode()
    def _retire(self) -> list[Completion]:
        """Remove finished rows; the last rows move into the gaps, so that the rows at work lie together."""
        completions = []
        for index in range(len(self.rows) - 1, -1, -1):
            row = self.rows[index]
            done = self.generator.text_if_done(row.written)
            if done is None:
                continue
            completions.append(Completion(row.attempt, done[0], len(row.written), done[1]))
            last = self.rows.pop()
            if index < len(self.rows):
                self.rows[index] = last
                self.cache.copy_row(len(self.rows), index, last.length)
        return completions

    def run(self, queue: deque[Attempt]) -> Iterator[Completion]:
        while True:
            self._admit(queue)
            if not self.rows:
                return
            self._step()
            yield from self._retire()


class _MaskMaker:
    """Attention masks over the slots of a `RowCache`, in the form that a model's attention wants."""

    def __init__(self, model: "PreTrainedModel") -> None:
        config = model.config.get_text_config()
        self.window: int | None = getattr(config, "sliding_window", None)
        if getattr(config, "use_sliding_window", True) is False:
            self.window = None
        # Models that name the kinds of their layers take one mask for each kind; the others take a single mask.
        self.layer_types: set[str] = set(getattr(config, "layer_types", None) or ())
        # Eager attention adds its mask to the scores; the others take true for "may attend".
        self.dtype = model.dtype if config._attn_implementation == "eager" else None

    def make(self, slots: torch.Tensor, visible: int) -> torch.Tensor | dict[str, torch.Tensor]:
        """Return masks [rows, 1, tokens, visible]: a token in slot s sees the slots up to s, or the last `window`."""
        distance = slots[:, None, :, None] - torch.arange(visible, device=slots.device)
        full = distance >= 0
        sliding = full & (distance < self.window) if self.window is not None and visible > self.window else full
        if self.layer_types:
            masks = {"full_attention": full, "sliding_attention": sliding}
            return {kind: self._shaped(masks[kind]) for kind in self.layer_types}
        return self._shaped(sliding)

    def _shaped(self, mask: torch.Tensor) -> torch.Tensor:
        if self.dtype is None:
            return mask
        return torch.zeros_like(mask, dtype=self.dtype).masked_fill_(~mask, torch.finfo(self.dtype).min)


def _require_ordinary_attention(model: "PreTrainedModel", path: str) -> None:
    kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or ())
    other = kinds - {"full_attention", "sliding_attention"}
    if other:
        raise UserError.of("model.path", path, f"layers of kind {', '.join(sorted(other))} are not supported")


def _end_ids(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> frozenset[int]:
    """Return the ids that end a text: the tokenizer's end of sequence and those of the generation config."""
    ends: list[int | None] = [tokenizer.eos_token_id]
    configured = model.generation_config.eos_token_id if model.generation_config is not None else None
    ends += configured if isinstance(configured, list) else [configured]
    return frozenset(end for end in ends if end is not None)


def _ids_that_may_end(tokenizer: "PreTrainedTokenizerBase") -> list[bool]:
    """Return for each id whether a sentence or line may end with it; only then is the text looked at.

    `Ċ` is the newline of byte-level tokenizers, `<0x0A>` that of byte fallback.
    """
    marks = frozenset(".!?…\n\"”'’)Ċ")
    pieces = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    return [piece is not None and (piece == "<0x0A>" or not marks.isdisjoint(piece)) for piece in pieces]
