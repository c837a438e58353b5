"""Sentence embeddings from the hidden states of a pre-trained model."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from fairloop.errors import Fault, UserError
from fairloop.plm.batching import by_length, distinct
from fairloop.plm.loading import Dtype, load_model, load_tokenizer, pad_id, window
from fairloop.plm.packing import hidden_states, shares_rows

Pooling = Literal["mean", "cls", "last"]

#: Padded tokens in one batch: more brings no speed on a processor, and on a GPU it is still small.
BATCH_TOKENS = 2048


class SentenceEncoder:
    """Embeds sentences with one model; neither the batch nor the padding changes a vector beyond rounding.

    Example:
        >>> encoder = SentenceEncoder.load("embedded:all-minilm-l6-v2")        # doctest: +SKIP
        >>> encoder.embed(["She is a nurse."], normalize=True).shape           # doctest: +SKIP
        (1, 384)
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        """Take a transformers model without a head (or any model's `base_model`) and its fast tokenizer."""
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.window = window(model)
        self._pad = pad_id(model, tokenizer)

    @classmethod
    def load(
        cls, path: str, device: str = "cpu", dtype: Dtype = "float32", *, revision: str | None = None
    ) -> "SentenceEncoder":
        """Load the encoder of `path`: a Hub id, a folder, or a packaged one (`embedded:all-minilm-l6-v2`)."""
        tokenizer = load_tokenizer(path, revision)
        return cls(load_model(path, "none", dtype=dtype, device=device, revision=revision), tokenizer)

    def too_long(self, sentences: Sequence[str]) -> list[int]:
        """Return the places of the sentences that have more tokens than the model has positions for."""
        if self.window is None:
            return []
        texts, places = distinct(sentences)
        long = [len(ids) > self.window for ids in self._tokens(texts)]
        return [index for index, place in enumerate(places) if long[place]]

    def embed(
        self,
        sentences: Sequence[str],
        *,
        pooling: Pooling = "mean",
        normalize: bool = False,
        batch_tokens: int = BATCH_TOKENS,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> np.ndarray:
        """Return one vector for each sentence, in order: float32, shape [sentences, hidden size].

        Args:
            sentences: Texts; each distinct one is computed once.
            pooling: `mean` over all tokens, special tokens included (as Meade et al. 2022 do for SEAT); `cls`, the
                first token; `last`, the last one (causal models).
            normalize: Scale each vector to length 1.
            batch_tokens: Padded tokens in one batch.
            on_progress: Called with (distinct sentences done, distinct sentences in all).

        Raises:
            Fault: if a sentence is longer than the model's window or its embedding is not finite; it is named.
        """
        if pooling not in ("mean", "cls", "last"):
            raise UserError.of("pooling", pooling, "choose mean, cls or last")
        unique, places = distinct(sentences)
        inputs = self._tokens(unique)
        for text, ids in zip(unique, inputs, strict=True):
            if not ids or (self.window is not None and len(ids) > self.window):
                reason = f"has {len(ids)} tokens; the model takes 1 to {self.window}"
                raise Fault(f"embedding: sentence {sentences.index(text)} {reason}: {text[:80]!r}")
        vectors = np.empty((len(unique), self._size()), dtype=np.float32)
        done = 0
        padded = not shares_rows(self.model)
        for batch in by_length([len(ids) for ids in inputs], batch_tokens, padded=padded):
            vectors[batch] = self._embed_batch([inputs[place] for place in batch], pooling)
            done += len(batch)
            if on_progress is not None:
                on_progress(done, len(unique))
        bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if bad.size:
            text = unique[int(bad[0])]
            raise Fault(f"embedding: sentence {sentences.index(text)} has a value that is not finite: {text[:80]!r}")
        if normalize:
            vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        return vectors[places] if places else vectors

    def _tokens(self, sentences: Sequence[str]) -> list[tuple[int, ...]]:
        if not len(sentences):
            return []
        encoded = self.tokenizer(list(sentences), add_special_tokens=True, truncation=False, verbose=False)
        return [tuple(ids) for ids in encoded["input_ids"]]

    def _size(self) -> int:
        return int(self.model.config.hidden_size)

    def _embed_batch(self, inputs: list[tuple[int, ...]], pooling: Pooling) -> np.ndarray:
        import torch

        lengths = np.array([len(ids) for ids in inputs])
        ends = np.cumsum(lengths)
        if pooling != "mean":
            places = ends - lengths if pooling == "cls" else ends - 1
            return np.asarray(hidden_states(self.model, inputs, self._pad, places).float().cpu().numpy())
        hidden = hidden_states(self.model, inputs, self._pad).float()
        owners = torch.from_numpy(np.repeat(np.arange(len(inputs)), lengths)).to(hidden.device)
        sums = torch.zeros((len(inputs), hidden.shape[1]), device=hidden.device).index_add_(0, owners, hidden)
        return np.asarray(sums.cpu().numpy() / lengths[:, None].astype(np.float32))
