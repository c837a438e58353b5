"""What a debias method is, what it is given, and what it leaves behind.

A study calls, for the method that was chosen:

1. `check`, before anything is loaded;
2. `filter`, if `filters_pairs`: which screened pairs it wants to learn from, and why not the others;
3. `debias`, if `changes_model`: a Hugging Face folder with the debiased model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairloop.errors import UserError
from fairloop.training.hook import Training

if TYPE_CHECKING:
    from fairloop.pairs.pair import Pair, PairRow
    from fairloop.plm.settings import PlmSettings


@dataclass(frozen=True)
class DebiasData:
    """What a method learns from.

    Attributes:
        pairs: pairs of sentences that differ only in gendered words, after every filter; empty for a method that
            does not use pairs.
        neutral: sentences without gendered words, whose language modelling is to be kept.
        held_out_neutral: such sentences on which language modelling is measured; no method trains on them.
    """

    pairs: "Sequence[Pair]"
    neutral: Sequence[str]
    held_out_neutral: Sequence[str]


class Method:
    """A debias method; each one is a file or folder of this package, found by its name.

    Attributes:
        name: the name of its file or folder.
        kinds: the kinds of PLM that it can debias.
        uses_pairs: whether the study has to write and screen pairs for it.
        changes_model: False for `none`, which leaves the PLM as it is; the study then trains and measures nothing.
        filters_pairs: whether `filter` does anything with these settings.
    """

    name: str = ""
    kinds: tuple[str, ...] = ("masked", "causal")
    uses_pairs: bool = True
    changes_model: bool = True
    filters_pairs: bool = False

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    def check(self, plm: "PlmSettings") -> None:
        """Raise UserError, before anything is loaded, if this method cannot debias this PLM."""
        if plm.kind not in ("auto", *self.kinds):
            raise UserError.of(
                "debias", self.name, f"debiases a model that is {' or '.join(self.kinds)}, not {plm.kind}"
            )

    def filter_settings(self) -> dict[str, Any]:
        """Return, as plain data, the settings that decide what `filter` returns."""
        return {}

    def filter(
        self, plm: "PlmSettings", rows: "Sequence[PairRow]", neutral: Sequence[str], training: Training
    ) -> "list[PairRow]":
        """Return the rows with their scores, and a reason for each that is now dropped.

        Args:
            plm: the untouched PLM.
            rows: the screened table; rows that were dropped before stay as they are.
            neutral: sentences without gendered words: what the PLM is expected to find plausible and to keep.
            training: seed, devices and progress.
        """
        return list(rows)

    def debias(self, plm: "PlmSettings", data: DebiasData, folder: Path, training: Training) -> None:
        """Write the debiased model into `folder`.

        The folder is a Hugging Face folder with the tokenizer that AutoModelForMaskedLM or AutoModelForCausalLM loads
        without Fairloop. A method that works at inference time adds `fairloop_debias.json` and, if it has
        tensors, `fairloop_debias.safetensors`, which `fairloop.plm.loading` recognises.

        Args:
            plm: the untouched PLM.
            data: pairs and neutral text.
            folder: an empty folder that exists.
            training: seed, devices, progress, and a folder for checkpoints that outlives a kill.

        Raises:
            UserError: the settings do not fit the data (fewer pairs than a batch takes, say).
            Fault: the training failed.
        """
        raise NotImplementedError
