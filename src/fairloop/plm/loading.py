"""The one place that turns a path into a model and its tokenizer: a Hub id, a folder or an `embedded:` name."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from fairloop.errors import UserError

Dtype = Literal["float32", "bfloat16"]
Head = Literal["masked", "causal", "none", "next_sentence"]

_AUTO_CLASS = {
    "masked": "AutoModelForMaskedLM",
    "causal": "AutoModelForCausalLM",
    "none": "AutoModel",
    "next_sentence": "AutoModelForNextSentencePrediction",
}


def locate(path: str) -> str:
    """Return what `from_pretrained` understands: a folder or a Hub id; `embedded:` names are resolved."""
    if path.startswith("embedded:"):
        from fairloop.plm.locate import resolve

        return str(resolve(path))
    return path


def load_tokenizer(path: str, revision: str | None = None) -> Any:
    """Load the tokenizer of `path`.

    Raises:
        UserError: if there is no tokenizer at `path`, or it has no fast implementation.
    """
    from transformers import AutoTokenizer

    with one_line_errors(path, "tokenizer"), quiet():
        tokenizer = AutoTokenizer.from_pretrained(locate(path), revision=revision or "main", use_fast=True)
    if not tokenizer.is_fast:
        raise UserError(f"plm.path={path}: its tokenizer has no fast implementation, which scoring needs")
    return tokenizer


def load_model(
    path: str, head: Head, *, dtype: Dtype = "float32", device: str = "cpu", revision: str | None = None
) -> Any:
    """Load the model of `path` with the given head, in evaluation mode, on `device`.

    Raises:
        UserError: if there is no such model, or its family has no such head.
    """
    import torch
    import transformers

    auto_class = getattr(transformers, _AUTO_CLASS[head])
    with one_line_errors(path, "model"), quiet():
        model = auto_class.from_pretrained(locate(path), revision=revision or "main", dtype=getattr(torch, dtype))
    return model.eval().to(device)


@contextlib.contextmanager
def one_line_errors(path: str, what: str) -> Iterator[None]:
    """Turn what `from_pretrained` raises for a path, a name or a network that is not there into one line."""
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        looks_local = path.startswith((".", "/", "~")) or path.count("/") > 1
        if looks_local and not Path(path).expanduser().is_dir():
            raise UserError(f"plm.path={path}: there is no such folder") from error
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"plm.path={path}: cannot load its {what}: {reason[:300]}") from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from reporting unused heads and drawing bars: the caller chose the head on purpose."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()


def pad_id(model: Any, tokenizer: Any) -> int:
    """Return the id to fill batches with: the model's own, since RoBERTa derives its positions from it."""
    for candidate in (getattr(model.config, "pad_token_id", None), tokenizer.pad_token_id):
        if isinstance(candidate, int) and candidate >= 0:
            return candidate
    return 0


def window(model: Any) -> int | None:
    """Return the number of tokens the model has positions for, or None if it has no fixed number."""
    config = model.config
    size = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
    if size is None:
        return None
    embeddings = getattr(getattr(model, "base_model", model), "embeddings", None)
    padding_idx = getattr(getattr(embeddings, "position_embeddings", None), "padding_idx", None)
    # RoBERTa's positions begin after the padding index: two of its 514 rows are never used.
    return int(size) - (padding_idx + 1 if padding_idx is not None else 0)
