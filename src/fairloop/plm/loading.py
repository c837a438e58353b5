"""The one place that loads: a Hub id, a folder or an `embedded:` name becomes a model, a tokenizer, a configuration.

No code from a model's repository is run (`trust_remote_code=False`), and only safetensors weights are read, or GGUF,
which `plm.gguf` converts. A head that the checkpoint does not hold is refused: transformers would draw it at random.
"""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fairloop.errors import FairloopError, Fault, UserError, first_line
from fairloop.numerics import format_of
from fairloop.plm.embedded import is_embedded
from fairloop.plm.inference_time import attach
from fairloop.plm.locate import hub_out_of_reach, resolve

Dtype = Literal["float32", "bfloat16", "float16"]
Head = Literal["masked", "causal", "none", "next_sentence", "classifier"]

#: For each head the class of transformers that has it, the families that do, and what it is called.
_HEADS = {
    "masked": ("AutoModelForMaskedLM", "MODEL_FOR_MASKED_LM_MAPPING", "masked language model"),
    "causal": ("AutoModelForCausalLM", "MODEL_FOR_CAUSAL_LM_MAPPING", "causal language model"),
    "none": ("AutoModel", "MODEL_MAPPING", "encoder"),
    "next_sentence": (
        "AutoModelForNextSentencePrediction",
        "MODEL_FOR_NEXT_SENTENCE_PREDICTION_MAPPING",
        "next-sentence predictor",
    ),
    "classifier": (
        "AutoModelForSequenceClassification",
        "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING",
        "sequence classifier",
    ),
}


@dataclass(frozen=True)
class _Source:
    """Where a model comes from (`where`: a folder or a Hub id), and what the configuration calls its path."""

    path: str
    revision: str | None
    key: str
    where: Path | str

    @classmethod
    def of(cls, path: str, revision: str | None, key: str) -> "_Source":
        return cls(path, revision, key, resolve(path, revision, key))

    def refused(self, why: str) -> UserError:
        return UserError.of(self.key, self.path, why)


class HeadError(UserError):
    """The model has no such head: its family has none, or its checkpoint holds no weights for it."""


def load_config(path: str, revision: str | None = None, key: str = "plm.path") -> Any:
    """Load the configuration of `path`; errors as of `load_model`."""
    return _read("AutoConfig", _Source.of(path, revision, key))


def load_tokenizer(path: str, revision: str | None = None, key: str = "plm.path") -> Any:
    """Load the tokenizer of `path`.

    Raises:
        UserError: if there is no tokenizer at `path`, or it has no fast implementation.
    """
    tokenizer = _read("AutoTokenizer", _Source.of(path, revision, key))
    if not tokenizer.is_fast:
        raise UserError.of(key, path, "its tokenizer has no fast implementation, which scoring needs")
    return tokenizer


def load_model(
    path: str,
    head: Head,
    *,
    dtype: Dtype = "float32",
    device: str = "cpu",
    revision: str | None = None,
    config: Any = None,
    attention: str | None = None,
    key: str = "plm.path",
) -> Any:
    """Load the model of `path` with the given head, in evaluation mode, on `device`.

    A folder that a debias method wrote may ask for a projection of the hidden states (`plm.inference_time`).

    Args:
        path: see `resolve`.
        head: what is needed of it.
        dtype: number format of its weights.
        device: a torch device name.
        revision: Hub revision, or None for the newest.
        config: its configuration (`load_config`), changed by the caller.
        attention: what transformers calls the implementation; None chooses.
        key: the configuration key of the path, for messages.

    Raises:
        HeadError: its family or its checkpoint has no such head.
        UserError: no such model, no safe weights, or a model that reads in the other direction.
        Fault: no network, no access, or damaged files.
    """
    import torch

    source = _Source.of(path, revision, key)
    config = _read("AutoConfig", source) if config is None else config
    _require_head(config, head, source)
    options = {"config": config, "dtype": getattr(torch, dtype), "attn_implementation": attention}
    model, report = _read(_HEADS[head][0], source, output_loading_info=True, **options)
    lacking = (name for name in report["missing_keys"] if head != "none" or "pooler" not in name)
    if missing := sorted(lacking, key=lambda name: (name.startswith(model.base_model_prefix), name)):
        some = ", ".join(missing[:2]) + (f" and {len(missing) - 2} more" if len(missing) > 2 else "")
        raise HeadError.of(key, path, f"no {_HEADS[head][2]}: its checkpoint holds no weights for {some}")
    # SDPA leaves out the soft cap that Gemma 2 puts on its attention scores.
    if getattr(model.config.get_text_config(), "attn_logit_softcapping", None) is not None:
        model.set_attn_implementation("eager")
    return attach(model, source.where).eval().to(device)


def load_encoder(path: str, revision: str | None = None, key: str = "plm.path") -> tuple[Any, Any]:
    """Load a model without its head, in float32, and its tokenizer."""
    return load_model(path, "none", revision=revision, key=key), load_tokenizer(path, revision, key)


def load_causal_lm(
    path: str, *, revision: str | None = None, dtype: str = "auto", device: str = "cpu", key: str = "model.path"
) -> tuple[Any, Any]:
    """Load a causal language model that only writes, with its tokenizer; arguments and errors as of `load_model`.

    Args:
        path: see `resolve`.
        revision: Hub revision, or None for the newest.
        dtype: `bfloat16`, `float16`, `float32`, or `auto` (`numerics.format_of`).
        device: a torch device name.
        key: the configuration key of the path, for messages.
    """
    _require_device(device)
    tokenizer = _read("AutoTokenizer", _Source.of(path, revision, key))
    precision: Any = format_of(dtype, device)
    model = load_model(path, "causal", dtype=precision, device=device, revision=revision, key=key)
    return model.requires_grad_(False), tokenizer


def merge_adapter(model: Any, folder: Path) -> Any:
    """Return `model`, loaded in float32, with the adapter of `folder` added to its weights: as fast as before.

    Raises:
        Fault: if the adapter is not there as safetensors, is no LoRA, or was trained for another model.
    """
    from peft import PeftModel

    if not (folder / "adapter_model.safetensors").is_file():
        raise Fault(f"{folder}: holds no adapter_model.safetensors")
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    if config.get("peft_type") != "LORA" or config.get("megatron_config"):  # peft imports the module that it names
        raise Fault(f"{folder}: adapter_config.json is not that of a plain LoRA adapter")
    try:
        return PeftModel.from_pretrained(model, str(folder)).merge_and_unload()
    except (RuntimeError, ValueError, KeyError) as error:
        raise Fault(f"{folder}: this adapter was trained for another model than the one it is added to") from error


def _read(auto_class: str, source: _Source, **options: Any) -> Any:
    """Call `from_pretrained` of one of transformers' auto classes, with what holds for every model."""
    import transformers

    if auto_class.startswith("AutoModel"):
        options["use_safetensors"] = True
    load = getattr(transformers, auto_class).from_pretrained
    with _one_line_errors(source), quiet(bars=not Path(source.where).is_dir()):
        return load(source.where, revision=source.revision, trust_remote_code=False, **options)


def _require_head(config: Any, head: Head, source: _Source) -> None:
    """Refuse, from the configuration alone, a head that the family lacks, or the wrong direction of reading.

    A family such as BERT has a causal head too, for decoders. Without `is_decoder` it sees the words that it predicts.
    """
    from transformers.models.auto import modeling_auto

    family, wanted = config.model_type, _HEADS[head][2]
    if type(config) not in getattr(modeling_auto, _HEADS[head][1]):
        raise HeadError.of(source.key, source.path, f"no {wanted}: {family} has no such head")
    if head not in ("masked", "causal") or getattr(config, "is_encoder_decoder", False):
        return
    one_way = getattr(config, "is_decoder", False) or getattr(config, "causal", False)
    both_ways = type(config) in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING and not one_way
    if head == "causal" and (both_ways or getattr(config, "use_bidirectional_attention", None) is True):
        raise source.refused(f"no {wanted}: this {family} reads in both directions and would see what it predicts")
    if head == "masked" and one_way:
        raise source.refused(f"no {wanted}: this {family} is a decoder, which reads from left to right")


def _require_device(device: str) -> None:
    import torch

    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise UserError.of("device", device, "use cpu, cuda or cuda:<number>") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise UserError.of("device", device, "this machine has no CUDA device")


@contextlib.contextmanager
def _one_line_errors(source: _Source) -> Iterator[None]:
    """Turn what `from_pretrained` raises for a path, a name or a network that is not there into one line."""
    try:
        yield
    except FairloopError:
        raise
    except Exception as error:
        raise explain(error, source.path, source.revision, source.key) from error


def explain(error: BaseException, path: str, revision: str | None = None, key: str = "plm.path") -> Fault | UserError:
    """Turn what `from_pretrained` raised into one line that tells what is wrong and what helps."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    chain = list(_causes(error))
    text = " ".join(str(link) for link in chain)

    def caused_by(*kinds: type[BaseException]) -> bool:
        return any(isinstance(link, kinds) for link in chain)

    if caused_by(GatedRepoError) or "gated repo" in text:
        return Fault(f"{path} asks for consent: accept its terms on huggingface.co and set HF_TOKEN")
    if caused_by(RevisionNotFoundError):
        return UserError.of(key.replace("path", "revision"), revision, f"{path} has no such revision")
    if caused_by(RepositoryNotFoundError, HFValidationError) or "is not a valid model identifier" in text:
        return UserError.of(key, path, "no such model on the Hub (or it is private: set HF_TOKEN), and no such folder")
    if "trust_remote_code" in text or "does not recognize this architecture" in text:
        return UserError.of(
            key,
            path,
            "transformers does not know this family by itself, and code from a model's repository is never run",
        )
    if "no file named model.safetensors" in text:
        return UserError.of(key, path, "it has no safetensors weights; other formats are not loaded")
    if Path(path).expanduser().is_dir() or is_embedded(path):
        return Fault(f"cannot load the model in {path}: {type(error).__name__}: {first_line(error)[:200]}")
    if caused_by(LocalEntryNotFoundError, OfflineModeIsEnabled, ConnectionError) or "couldn't connect" in text.lower():
        return hub_out_of_reach(path, key)
    if "safetensors" in text:
        return UserError.of(key, path, "it has no safetensors weights; other formats are not loaded")
    return Fault(f"cannot load {path}: {type(error).__name__}: {first_line(error)[:200]}")


def _causes(error: BaseException | None) -> Any:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@contextlib.contextmanager
def quiet(*, bars: bool = False) -> Iterator[None]:
    """Keep transformers from reporting unused heads, and unless `bars` (a download) from drawing bars."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    drawn = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    if not bars:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if drawn:
            logging.enable_progress_bar()


def pad_id(tokenizer: Any, model: Any = None) -> int:
    """Return the id to fill batches with: the model's own, since RoBERTa derives its positions from it."""
    own = getattr(model.config, "pad_token_id", None) if model is not None else None
    for candidate in (own, tokenizer.pad_token_id, tokenizer.eos_token_id):
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
