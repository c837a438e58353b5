"""Where pairs come from (`debias.source`): a generator, filled templates, or given sentences that are swapped."""

from fairloop.generation.generator import Generator
from fairloop.pairs.gathered import Gathered, Progress, unshown
from fairloop.pairs.llm import write_pairs
from fairloop.pairs.sentence_files import read_sentences
from fairloop.pairs.settings import PairSettings
from fairloop.pairs.swap import from_sentences
from fairloop.pairs.template import from_templates


def gather_pairs(
    settings: PairSettings,
    *,
    seed: int,
    generator: Generator | None = None,
    progress: Progress = unshown,
) -> Gathered:
    """Make pairs as the settings say.

    Args:
        settings: the source and how many.
        seed: of the cell.
        generator: who writes, for the source `llm` only.
        progress: of the two prompts, "sentences" and "counterparts", for the source `llm` only.

    Raises:
        UserError: there are not so many templates, or the file of sentences is wrong.
        Fault: the generator's yield lies under its floor.
    """
    if settings.source == "template":
        return from_templates(settings, seed=seed)
    if settings.source == "swap":
        return from_sentences(read_sentences(settings.swap_file or ""), settings)
    if generator is None:
        raise ValueError("source=llm needs a generator")
    return write_pairs(generator, settings, seed=seed, progress=progress)
