"""The one place that turns a path into a model and its tokenizer: a Hub id, a folder or an `embedded:` name."""

import contextlib
from collections.abc import Iterator
from typing import Any, Literal

from fairloop.errors import FairloopError, UserError
from fairloop.plm.inference_time import attach
from fairloop.plm.locate import explain, resolve

Dtype = Literal["float32", "bfloat16"]
Head = Literal["masked", "causal", "none", "next_sentence", "classifier"]

_AUTO_CLASS = {
    "masked": "AutoModelForMaskedLM",
    "causal": "AutoModelForCausalLM",
    "none": "AutoModel",
    "next_sentence": "AutoModelForNextSentencePrediction",
    "classifier": "AutoModelForSequenceClassification",
}


def load_tokenizer(path: str, revision: str | None = None) -> Any:
    """Load the tokenizer of `path`.

    Raises:
        UserError: if there is no tokenizer at `path`, or it has no fast implementation.
    """
    from transformers import AutoTokenizer

    where = resolve(path, revision)
    with one_line_errors(path, revision), quiet():
        tokenizer = AutoTokenizer.from_pretrained(where, revision=revision, use_fast=True)
    if not tokenizer.is_fast:
        raise UserError(f"plm.path={path}: its tokenizer has no fast implementation, which scoring needs")
    return tokenizer


def load_model(
    path: str, head: Head, *, dtype: Dtype = "float32", device: str = "cpu", revision: str | None = None
) -> Any:
    """Load the model of `path` with the given head, in evaluation mode, on `device`.

    A folder that a debias method wrote may ask for a projection of the hidden states (`plm.inference_time`).

    Raises:
        UserError: if there is no such model, or its family has no such head.
    """
    import torch
    import transformers

    auto_class = getattr(transformers, _AUTO_CLASS[head])
    where = resolve(path, revision)
    with one_line_errors(path, revision), quiet():
        config = transformers.AutoConfig.from_pretrained(where, revision=revision)
        # SDPA leaves out the soft cap that Gemma 2 puts on its attention scores.
        capped = getattr(config.get_text_config(), "attn_logit_softcapping", None) is not None
        model = auto_class.from_pretrained(
            where,
            revision=revision,
            config=config,
            dtype=getattr(torch, dtype),
            attn_implementation="eager" if capped else None,
            use_safetensors=True,
        )
    return attach(model, where).eval().to(device)


def load_encoder(path: str, revision: str | None = None) -> tuple[Any, Any]:
    """Load a model without its head, in float32, and its tokenizer: what `training` fine-tunes."""
    return load_model(path, "none", revision=revision), load_tokenizer(path, revision)


@contextlib.contextmanager
def one_line_errors(path: str, revision: str | None = None) -> Iterator[None]:
    """Turn what `from_pretrained` raises for a path, a name or a network that is not there into one line."""
    try:
        yield
    except FairloopError:
        raise
    except Exception as error:
        raise explain(error, path, revision) from error


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
    # RoBERTa's positions begin after the padding index: two of its 514 rows are never used.
    return int(size) - first_position(model)


def first_position(model: Any) -> int:
    """Return the index of the first token's position: 0, but for RoBERTa the one after its padding index."""
    embeddings = getattr(getattr(model, "base_model", model), "embeddings", None)
    padding_idx = getattr(getattr(embeddings, "position_embeddings", None), "padding_idx", None)
    return 0 if padding_idx is None else padding_idx + 1
