"""Auto-Debias: find prompts after which a masked PLM speaks differently of men and women, and take the difference away.

Guo, Yang and Abbasi 2022, "Auto-Debias: Debiasing Masked Language Models with Automated Biased Prompts" (ACL):

1. Beam search for prompts (algorithm 1): to each of the best prompts every candidate word is added in turn; kept are
   those with the largest divergence between "he <prompt> [MASK]." and "she <prompt> [MASK].", over the words that may
   be stereotypes, averaged over pairs of gendered words. The prompts of every length are used.
2. The PLM is trained so that this divergence vanishes (`loss`).

Their words come from lists and from Wikipedia. Here, so that all methods are given the same: gendered words and
possible stereotypes (targets) are those of the pairs, candidate words the most frequent ones of the text, all of them
single tokens, and no candidate is gendered. Their beam of 100 prompts and 5,000 candidates needs a GPU; the default is
smaller.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairloop.debias import base
from fairloop.debias.auto_debias.settings import MethodSettings
from fairloop.debias.card import write_card
from fairloop.debias.start import kind_of
from fairloop.debias.trained import train_into, within_window
from fairloop.errors import Fault, UserError

if TYPE_CHECKING:
    from torch import Tensor

    from fairloop.plm.settings import PlmSettings
    from fairloop.training.hook import Training

_AT_ONCE = 256  # prompts in one forward pass of the search


@dataclass(frozen=True)
class Words:
    """What prompts are searched with; all of them are single tokens of the PLM.

    Attributes:
        gendered: pairs (male word, female word).
        stereotypes: token ids of the words that may be stereotypes.
        candidates: words that a prompt is made of.
    """

    gendered: tuple[tuple[str, str], ...]
    stereotypes: tuple[int, ...]
    candidates: tuple[str, ...]


class Method(base.Method):
    """Searches prompts and trains the PLM on them."""

    name = "auto_debias"
    kinds = ("masked",)
    settings: MethodSettings

    def debias(self, plm: "PlmSettings", data: base.DebiasData, folder: Path, training: "Training") -> None:
        """Write the trained PLM; see `base.Method.debias`."""
        from fairloop.debias.auto_debias.loss import Probe, PromptDivergenceTask
        from fairloop.plm.loading import load_tokenizer

        kind = kind_of(plm, self)
        tokenizer = load_tokenizer(plm.path, plm.revision)
        words = choose_words(data, tokenizer, self.settings)
        prompts = self._prompts(plm, tokenizer, words, training)
        probes = tuple(
            Probe(*(probe_ids(tokenizer, word, prompt) for word in pair))
            for prompt in prompts
            for pair in words.gendered
        )
        task = PromptDivergenceTask(within_window(self.settings, plm), probes)
        train_into(folder, task, plm, training, stage="debias prompt_divergence")
        write_card(
            folder,
            plm,
            kind,
            self.settings,
            "Auto-Debias (Guo et al. 2022): after prompts for which the PLM spoke most differently of men and women, "
            "it was trained to speak of them alike.",
            f"{len(prompts)} prompts that were searched for, such as {prompts[0]!r}, with {len(words.gendered)} pairs "
            "of gendered words",
        )

    def _prompts(self, plm: "PlmSettings", tokenizer: Any, words: Words, training: "Training") -> list[str]:
        """Search, or read what a search with the same words and settings found before it was interrupted."""
        import json

        from fairloop.files import write_json
        from fairloop.plm.loading import load_model
        from fairloop.plm.model import devices
        from fairloop.training.data import fingerprint

        path, owner = training.work / "prompts.json", fingerprint(repr(words), self.settings.model_dump(mode="json"))
        if path.is_file():
            try:
                kept = json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise Fault(f"{path}: damaged; remove it to search anew") from error
            if kept["owner"] == owner:
                return [str(prompt) for prompt in kept["prompts"]]
        model = load_model(plm.path, "masked", device=devices(plm.device)[0], revision=plm.revision)
        prompts = search(
            model,
            tokenizer,
            words,
            beam=self.settings.beam,
            length=self.settings.prompt_length,
            on_progress=training.on_progress,
        )
        write_json(path, {"owner": owner, "prompts": prompts})
        return prompts


def choose_words(data: base.DebiasData, tokenizer: Any, settings: MethodSettings) -> Words:
    """Return the words for the search.

    Raises:
        UserError: if no pair of gendered words, or fewer than two targets, are single tokens.
    """
    from fairloop.lexicon import word_table

    table = word_table()
    single = {word: ids[0] for word in _words(data) if len(ids := _tokens(tokenizer, word)) == 1}
    attributes = Counter(pair.attribute for pair in data.pairs if pair.attribute.count("/") == 1)
    gendered = [tuple(attribute.lower().split("/")) for attribute, _ in attributes.most_common()]
    gendered = [pair for pair in gendered if all(len(_tokens(tokenizer, word)) == 1 for word in pair)]
    targets = sorted({pair.target.lower() for pair in data.pairs})
    stereotypes = [ids[0] for target in targets if len(ids := _tokens(tokenizer, target)) == 1]
    if not gendered or len(stereotypes) < 2:
        raise UserError(
            f"debias=auto_debias: of the pairs' words, {len(gendered)} gendered pairs and {len(stereotypes)} targets "
            "are single tokens of the PLM; it needs 1 and 2"
        )
    candidates = [word for word in single if word not in table.side and word not in table.name_side]
    return Words(
        tuple((male, female) for male, female in gendered[: settings.gendered_words]),
        tuple(dict.fromkeys(stereotypes)),
        tuple(candidates[: settings.candidates]),
    )


def _words(data: base.DebiasData) -> list[str]:
    """Return the words of the text, the most frequent first, equally frequent ones in alphabetical order."""
    texts = [*data.neutral, *(text for pair in data.pairs for text in (pair.male, pair.female))]
    counts = Counter(word for text in texts for word in re.findall(r"\b[a-z]+\b", text.lower()))
    return sorted(counts, key=lambda word: (-counts[word], word))


def _tokens(tokenizer: Any, word: str) -> list[int]:
    """Return the tokens of a word inside a sentence, without the unknown one."""
    tokens = tokenizer(f" {word}", add_special_tokens=False)["input_ids"]
    return [token for token in tokens if token != tokenizer.unk_token_id]


def probe_ids(tokenizer: Any, word: str, prompt: str) -> list[int]:
    """Return the token ids of "word prompt [MASK]."."""
    return list(tokenizer(f"{word} {prompt} {tokenizer.mask_token}.")["input_ids"])


def search(
    model: Any,
    tokenizer: Any,
    words: Words,
    *,
    beam: int,
    length: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """Return the `beam` most divergent prompts of every length from 1 to `length`, the shortest first."""
    found: list[str] = []
    best: list[str] = [""]
    for size in range(1, length + 1):
        longer = [f"{prompt} {word}".strip() for prompt in best for word in words.candidates]
        scores = divergences(model, tokenizer, longer, words)
        order = sorted(range(len(longer)), key=lambda number: (-scores[number], number))
        best = [longer[number] for number in order[:beam]]
        found += best
        if on_progress is not None:
            on_progress(size, length)
    return found


def divergences(model: Any, tokenizer: Any, prompts: Sequence[str], words: Words) -> list[float]:
    """Return each prompt's divergence over the stereotypes, averaged over the pairs of gendered words, in nats."""
    import torch

    from fairloop.debias.auto_debias.loss import Probe, answers, divergence, probe_batch
    from fairloop.plm.loading import pad_id

    stereotypes = torch.tensor(words.stereotypes, device=next(model.parameters()).device)
    scores = torch.zeros(len(prompts), dtype=torch.float64)
    for pair in words.gendered:
        probes = [Probe(*(probe_ids(tokenizer, word, prompt) for word in pair)) for prompt in prompts]
        for first in range(0, len(probes), _AT_ONCE):
            some = probes[first : first + _AT_ONCE]
            batch = {key: part.to(stereotypes.device) for key, part in probe_batch(some, pad_id(tokenizer)).items()}
            with torch.inference_mode():
                logits: Tensor = answers(model, batch, int(tokenizer.mask_token_id))[:, stereotypes]
            scores[first : first + len(some)] += divergence(logits[: len(some)], logits[len(some) :]).double().cpu()
    return [float(score) for score in scores / len(words.gendered)]
