"""Where a method starts: the untouched PLM, its kind, its vectors; and how an untouched one is written."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairloop.debias.base import Method
from fairloop.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from fairloop.plm.model import Kind
    from fairloop.plm.settings import PlmSettings
    from fairloop.training.hook import Training


def kind_of(plm: "PlmSettings", method: Method) -> "Kind":
    """Return the PLM's kind.

    Raises:
        UserError: if the method cannot debias that kind, or the folder is debiased at inference time already.
    """
    from fairloop.plm.inference_time import read_record
    from fairloop.plm.locate import resolve
    from fairloop.plm.model import detect_kind

    record = read_record(resolve(plm.path, plm.revision))
    if record is not None:
        raise UserError(f"plm.path={plm.path}: {record.method} acts on it at inference time; start from its own model")
    kind = detect_kind(plm.path, plm.revision) if plm.kind == "auto" else plm.kind
    if kind not in method.kinds:
        allowed = " or ".join(method.kinds)
        raise UserError.of("debias", method.name, f"debiases a model that is {allowed}, and plm={plm.name} is {kind}")
    return kind


def longest(plm: "PlmSettings", max_length: int) -> int:
    """Return `max_length`, or how many tokens the PLM's tokenizer allows if they are fewer."""
    from fairloop.plm.loading import load_tokenizer

    return int(min(max_length, load_tokenizer(plm.path, plm.revision).model_max_length))


def embed(plm: "PlmSettings", sentences: Sequence[str], training: "Training") -> "np.ndarray":
    """Return the mean of the final hidden states of each sentence, special tokens included, float32 [n, width]."""
    from fairloop.plm.encoder import SentenceEncoder
    from fairloop.plm.model import devices

    encoder = SentenceEncoder.load(plm.path, devices(plm.device)[0], plm.dtype, revision=plm.revision, key="plm.path")
    return encoder.embed(sentences, batch_tokens=plm.batch_tokens, on_progress=training.on_progress)


def write_untouched(plm: "PlmSettings", kind: "Kind", folder: Path) -> None:
    """Write the PLM as it is, with its head and tokenizer."""
    from fairloop.plm.loading import load_model, load_tokenizer, quiet

    model: Any = load_model(plm.path, "causal" if kind == "causal" else "masked", revision=plm.revision)
    with quiet():
        model.save_pretrained(folder)
    load_tokenizer(plm.path, plm.revision).save_pretrained(folder)
