"""Sentence embeddings from the hidden states of a pre-trained model."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from fairloop.errors import Fault, UserError
from fairloop.plm.batching import by_length, distinct
from fairloop.plm.loading import Dtype, load_model, load_tokenizer, pad_id, window

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
        self._pad = pad_id(tokenizer, model)

    @classmethod
    def load(
        cls,
        path: str,
        device: str = "cpu",
        dtype: Dtype = "float32",
        *,
        revision: str | None = None,
        key: str = "study.encoder",
    ) -> "SentenceEncoder":
        """Load the encoder of `path`: a Hub id, a folder, or a packaged one (`embedded:all-minilm-l6-v2`)."""
        tokenizer = load_tokenizer(path, revision, key)
        return cls(load_model(path, "none", dtype=dtype, device=device, revision=revision, key=key), tokenizer)

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
        for batch in by_length([len(ids) for ids in inputs], batch_tokens):
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

        device = next(self.model.parameters()).device
        lengths = torch.tensor([len(ids) for ids in inputs])
        longest = int(lengths.max())
        ids = torch.full((len(inputs), longest), self._pad, dtype=torch.long)
        for row, tokens in enumerate(inputs):
            ids[row, : len(tokens)] = torch.tensor(tokens)
        mask = (torch.arange(longest)[None, :] < lengths[:, None]).long()
        with torch.inference_mode():
            # Without padding no mask is needed, and attention is faster.
            seen = mask.to(device) if int(lengths.min()) < longest else None
            hidden = self.model(input_ids=ids.to(device), attention_mask=seen).last_hidden_state.float()
        if pooling == "cls":
            pooled = hidden[:, 0]
        elif pooling == "last":
            pooled = hidden[torch.arange(len(inputs)), lengths.to(device) - 1]
        else:
            weights = mask.to(device)[:, :, None].float()
            pooled = (hidden * weights).sum(dim=1) / weights.sum(dim=1)
        return np.asarray(pooled.cpu().numpy())
