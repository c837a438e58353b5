"""The next-sentence head of BERT-like models: does the second sentence follow the first?"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from fairloop.console import OnProgress
from fairloop.errors import Fault
from fairloop.plm.batching import by_length
from fairloop.plm.loading import HeadError, load_model, pad_id
from fairloop.plm.model import LanguageModel


def has_next_sentence_head(plm: LanguageModel) -> bool:
    """Say whether the checkpoint that the model was loaded from holds a next-sentence head."""
    return plm.path is not None and _load(plm.path, plm.revision) is not None


@lru_cache(maxsize=1)
def _load(path: str, revision: str | None) -> Any:
    """Load the model with its next-sentence head; None if its family or its checkpoint has none."""
    try:
        return load_model(path, "next_sentence", revision=revision)
    except HeadError:
        return None


def next_sentence_probabilities(
    plm: LanguageModel, pairs: Sequence[tuple[str, str]], *, on_progress: OnProgress | None = None
) -> np.ndarray:
    """Return P(second follows first) for each pair, shape [pairs]; NaN where a pair exceeds the window.

    Raises:
        Fault: if a probability is not a finite number.
    """
    import torch

    model = _load(plm.path or "", plm.revision)
    device, dtype = next(plm.model.parameters()).device, next(plm.model.parameters()).dtype
    model = model.to(device=device, dtype=dtype)
    encoded = plm.tokenizer(
        [first for first, _ in pairs], [second for _, second in pairs], return_token_type_ids=True, verbose=False
    )
    lengths = [len(ids) for ids in encoded["input_ids"]]
    fitting = [place for place, length in enumerate(lengths) if plm.window is None or length <= plm.window]
    probabilities = np.full(len(pairs), np.nan)
    done = 0
    for batch in by_length([lengths[place] for place in fitting], plm.batch_tokens):
        places = [fitting[index] for index in batch]
        longest = max(lengths[place] for place in places)
        ids = torch.full((len(places), longest), pad_id(plm.tokenizer, plm.model))
        types, mask = torch.zeros_like(ids), torch.zeros_like(ids)
        for row, place in enumerate(places):
            ids[row, : lengths[place]] = torch.tensor(encoded["input_ids"][place])
            types[row, : lengths[place]] = torch.tensor(encoded["token_type_ids"][place])
            mask[row, : lengths[place]] = 1
        with torch.inference_mode():
            logits = model(
                input_ids=ids.to(device), attention_mask=mask.to(device), token_type_ids=types.to(device)
            ).logits
        probabilities[places] = torch.softmax(logits.double(), dim=-1)[:, 0].cpu().numpy()
        if np.isnan(probabilities[places]).any():
            raise Fault(f"plm={plm.name}: a next-sentence probability is not a number, at pair {places[0]}")
        done += len(places)
        if on_progress is not None:
            on_progress(done, len(fitting))
    return probabilities
