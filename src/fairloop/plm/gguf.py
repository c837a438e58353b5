"""GGUF files: packed weights that are unpacked once, to what `plm.loading` reads."""

import contextlib
import io
from pathlib import Path


def unpack(source: Path, target: Path) -> None:
    """Write the causal language model of a GGUF file, with its tokenizer, as a folder of bfloat16 safetensors."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging

    where, file = str(source.parent), source.name
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        options = {"gguf_file": file, "quantization_config": GgufConfig(dequantize=True), "dtype": torch.bfloat16}
        # The unpacking has a progress bar of its own that nothing switches off.
        with contextlib.redirect_stderr(io.StringIO()):
            model = AutoModelForCausalLM.from_pretrained(where, trust_remote_code=False, **options)
        tokenizer = AutoTokenizer.from_pretrained(where, trust_remote_code=False, gguf_file=file)
        # The weights are plain now; a leftover mention of the packed form would make loading ask for it again.
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.to(torch.bfloat16).save_pretrained(target)
        tokenizer.save_pretrained(target)
    finally:
        if bars:
            logging.enable_progress_bar()
