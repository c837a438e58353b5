"""Recursion: a language model writes data from its own data, generation after generation.

"Equilibrium Dynamics and Mitigation of Gender Bias in Synthetically Generated Data" (arXiv 2511.10689).

    generation 0       the seed corpus, whose net stereotype rate is the chosen initial bias
    generation g       new sentences, each prompted with k sentences of generation g - 1 as the mitigation left it
    every generation   rule-based, embedding-based, downstream and diversity measures, with intervals,
                       of the corpus as written and again after the mitigation
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairloop import console
from fairloop.config import Configuration
from fairloop.config.recursion import RecursionSettings
from fairloop.console import SECONDS_WORTH_A_LINE
from fairloop.corpus.table import load_corpus, make_corpus, save_corpus
from fairloop.files import write_json
from fairloop.generation.generator import Generator
from fairloop.generation.measures import tokens_of, yield_of
from fairloop.generation.server_settings import ServerSettings
from fairloop.lexicon import occupations
from fairloop.measures.catalogue import MITIGATED
from fairloop.measures.measurement import Measurement
from fairloop.mitigation.compose import compose
from fairloop.seeding import derive
from fairloop.studies.measures import read_measures, write_measures
from fairloop.studies.script import Script
from fairloop.tracking.stages import Stage
from fairloop.tracking.store import Cell
from fairloop.tracking.wandb_run import Tracker

if TYPE_CHECKING:
    from datasets import Dataset


CORPUS_FILE = "corpus.parquet"
WRITING_FILE = "writing.json"
REJECTED_FILE = "rejected.json"  # the first of the texts that could not be used, by reason
ADAPTED_FOLDER = "adapted"

MOST_PROMPTS = 8  # of `max_attempts` answers each, after which a sentence is left out: some cannot be written any more

# The versions of what the stages do, part of what names a shared stage: raise one when a change of the code changes
# what such a stage puts out, together with the study's `version`.
VERSIONS = {"seed-corpus": 1, "training": 2, "writing": 4, "mitigating": 2, "measuring": 5}


def run(configuration: Configuration, cell: Cell, tracker: Tracker) -> None:
    """Run one cell of the study; finished stages are read instead of computed.

    Args:
        configuration: the cell's resolved configuration.
        cell: its folder in the run store, held by this process.
        tracker: where each generation is logged.

    Raises:
        Fault: the generator's yield stays under `study.min_yield`.
    """
    study = Recursion(configuration, cell, tracker)
    results: dict[int | None, Sequence[Measurement]] = {}
    shown: Stage | None = None  # what the next generation is written from
    for generation in range(study.generations + 1):
        source, written = shown, study.write(generation, shown)
        shown = study.mitigate(generation, written)
        results[generation] = study.measure(generation, written, shown)
        study.report(generation, source, written, shown, results[generation])
        if tracker.after_generation and generation < study.generations:
            tracker.after_generation(generation, results[generation])
    cell.write_results(results)


def rejected_texts(folder: Path) -> list[dict[str, str]]:
    """Return the kept texts that a written stage could not use, each with its reason; none of a stage without them."""
    path = folder / REJECTED_FILE
    kept = json.loads(path.read_text()) if path.exists() else {}
    return [{"reason": reason, "text": text} for reason, texts in kept.items() for text in texts]


class Recursion(Script):
    """The stages of the study for one cell; models are loaded when the first stage needs them."""

    versions = VERSIONS

    def __init__(self, configuration: Configuration, cell: Cell, tracker: Tracker) -> None:
        """Take the resolved configuration, the cell held by this process, and where it is logged."""
        super().__init__(configuration, cell, tracker)
        self.study = configuration.study_as(RecursionSettings)
        self.generations = self.study.generations
        self.mitigation = compose(configuration.mitigation)
        self.trained: dict[str, tuple[Stage, Stage]] = {}  # this generation's trained weights, and the corpus they saw
        self.label = (
            f"level {configuration.initial_bias.level:g}, {configuration.strategies}, seed {configuration.seed}"
        )

    def write(self, generation: int, shown: Stage | None) -> Stage:
        """Return the corpus of a generation as written: the seed corpus, or N sentences of the generator."""
        if shown is None:
            return self.stage("seed-corpus", self.write_seed_corpus, "seed-corpus", "initial_bias", "sentences")
        inputs = [shown]
        if self.mitigation.trains_generator:
            inputs.append(self.adapted(generation, shown))
        compute = partial(self.write_generation, generation, inputs)
        prompted = self.mitigation.instruction(generation)
        keys = ("model", "sentences", "examples", "prompt_group", "max_attempts", "min_yield")
        return self.stage(f"generation-{generation}", compute, "writing", *keys, inputs=inputs, instruction=prompted)

    def adapted(self, generation: int, shown: Stage) -> Stage:
        """Return the generator's weights as the mitigation trains them on the corpus that the generation is shown."""
        compute = partial(self.adapt_generator, generation, shown)
        weights = self.stage(f"generator-{generation}", compute, "training", "model", "mitigation", inputs=[shown])
        self.trained["generator"] = (weights, shown)
        return weights

    def mitigate(self, generation: int, written: Stage) -> Stage:
        """Return the corpus that the next generation and the classifier see."""
        if not self.mitigation.changes_corpus:
            return written
        compute = partial(self.change_corpus, generation, written)
        return self.stage(f"mitigated-{generation}", compute, "mitigating", "mitigation", inputs=[written])

    def measure(self, generation: int, written: Stage, changed: Stage) -> list[Measurement]:
        """Return the measures of a generation as written and, where the mitigation changes something, after it."""
        compute = partial(self.write_measures, generation, written, None)
        keys = ["encoder", "resamples", *(key for key in ("metrics", "metric") if key in self.choices)]
        measured = read_measures(self.stage(f"measures-{generation}", compute, "measuring", *keys, inputs=[written]))
        if changed is written and not self.mitigation.trains_encoder:
            return measured
        inputs, encoder = [changed], None
        if self.mitigation.trains_encoder:
            train = partial(self.train_encoder, generation, written)
            encoder = self.stage(f"encoder-{generation}", train, "training", "encoder", "mitigation", inputs=[written])
            self.trained["encoder"] = (encoder, written)
            inputs.append(encoder)
        compute = partial(self.write_measures, generation, changed, encoder)
        name = f"measures-mitigated-{generation}"
        after = read_measures(self.stage(name, compute, "measuring", *keys, inputs=inputs))
        return measured + [replace(one, metric=MITIGATED + one.metric) for one in after]

    def report(
        self,
        generation: int,
        source: Stage | None,
        written: Stage,
        changed: Stage,
        measured: Sequence[Measurement],
    ) -> None:
        """Log a generation: its measures, and its corpora and weights in the order in which they were made."""
        alias, corpus = f"generation-{generation}", written.folder / CORPUS_FILE
        made_from = [source.folder / CORPUS_FILE] if source is not None else []
        if "generator" in self.trained:
            made_from.append(self.report_weights("generator", generation))
        rejected = rejected_texts(written.folder) if source is not None else []
        self.tracker.log_generation(generation, measured, load_corpus(corpus).to_list(), corpus, made_from, rejected)
        if changed is not written:
            metadata = {"generation": generation}
            self.tracker.log_dataset("mitigated-corpus", changed.folder / CORPUS_FILE, metadata, alias, [corpus])
        if "encoder" in self.trained:
            self.report_weights("encoder", generation)

    def report_weights(self, what: str, generation: int) -> Path:
        """Log weights that this generation's mitigation trained, with the corpus they saw; return their folder."""
        weights, seen = self.trained[what]
        metadata = {"generation": generation, "corpus_sha256": seen.outputs[CORPUS_FILE]}
        folder, alias = weights.folder / ADAPTED_FOLDER, f"generation-{generation}"
        self.tracker.log_checkpoint(what, folder, metadata, alias, [seen.folder / CORPUS_FILE])
        return folder

    def write_seed_corpus(self, folder: Path) -> None:
        """Generation 0: sentences whose net stereotype rate is the initial bias, by construction."""
        from fairloop.corpus.seed import seed_corpus

        initial = self.configuration.initial_bias
        corpus = seed_corpus(initial.level, self.study.sentences, initial.neutral_share, self.seed)
        save_corpus(corpus, folder / CORPUS_FILE)

    def adapt_generator(self, generation: int, shown: Stage, folder: Path) -> None:
        """The mitigation's training of the generator, on the corpus that the generation is written from."""
        corpus = load_corpus(shown.folder / CORPUS_FILE)
        with self.training(f"generation {generation}: fine-tuning the generator", folder) as training:
            self.mitigation.generator(
                corpus, self.configuration.local_model, folder / ADAPTED_FOLDER, generation, training
            )

    def write_generation(self, generation: int, inputs: Sequence[Stage], folder: Path) -> dict[str, Any]:
        """Generation g: as many new sentences, each prompted with k sentences of the corpus before it."""
        from fairloop.generation.requests import Example, plan_requests
        from fairloop.generation.writer import write_corpus

        shown = load_corpus(inputs[0].folder / CORPUS_FILE)
        stage = f"generation-{generation}"
        requests = plan_requests(
            [Example(row["occupation"], row["text"]) for row in shown],
            [occupation.name for occupation in occupations()],
            sentences=self.study.sentences,
            examples=self.study.examples,
            group_size=self.study.prompt_group,
            seed=self.seed,
            stage=stage,
            instruction=self.mitigation.instruction(generation),
        )
        with self.progress(f"generation {generation} of {self.generations}") as on_progress:
            generator = self.adapted_generator(inputs[1]) if self.mitigation.trains_generator else self.generator
            written = write_corpus(
                generator,
                requests,
                seed=self.seed,
                stage=stage,
                max_attempts=self.study.max_attempts,
                min_yield=self.study.min_yield,
                give_up_after=MOST_PROMPTS * self.study.max_attempts,
                on_progress=on_progress,
            )
        there = {row["item"] for row in written.rows}
        left_out = sorted(request.occupation for request in requests if request.item not in there)
        if left_out:
            answers = MOST_PROMPTS * self.study.max_attempts
            console.warn(
                f"fairloop: {self.label}: generation {generation}: left out, for none of {answers} answers was usable: "
                f"{', '.join(left_out)}"
            )
        save_corpus(labelled(written.rows, generation), folder / CORPUS_FILE)
        stats = written.stats
        record = {"accepted": stats.accepted, "asked": stats.asked, "tokens": stats.tokens, "rejected": stats.reasons}
        record |= {"left_out": left_out} if left_out else {}
        notes = {"tokens_per_second": stats.tokens_per_second, "sentences_per_second": stats.sentences_per_second}
        model = self.configuration.model
        if isinstance(model, ServerSettings):
            record["prompt_tokens"] = stats.prompt_tokens
            cost = model.cost(stats.prompt_tokens, stats.tokens)
            notes |= {} if cost is None else {"cost": cost}
        write_json(folder / WRITING_FILE, record)
        write_json(folder / REJECTED_FILE, stats.rejected)
        return notes

    def change_corpus(self, generation: int, written: Stage, folder: Path) -> None:
        """The mitigation's change of the corpus."""
        changed = self.mitigation.change_corpus(load_corpus(written.folder / CORPUS_FILE), generation)
        save_corpus(changed, folder / CORPUS_FILE)

    def train_encoder(self, generation: int, written: Stage, folder: Path) -> None:
        """The mitigation's training of the sentence encoder, on the corpus as written."""
        corpus = load_corpus(written.folder / CORPUS_FILE)
        with self.training(f"generation {generation}: training the encoder", folder) as training:
            self.mitigation.encoder(corpus, self.study.encoder, folder / ADAPTED_FOLDER, generation, training)

    def write_measures(self, generation: int, corpus: Stage, encoder: Stage | None, folder: Path) -> None:
        """All measures of one corpus, with the untouched encoder or with the one that the mitigation trained."""
        seed, table = derive(self.seed, f"measures-{generation}"), load_corpus(corpus.folder / CORPUS_FILE)
        after = ", mitigated" if corpus.name.startswith("mitigated") or encoder is not None else ""
        with self.progress(f"measures of generation {generation}{after}", SECONDS_WORTH_A_LINE) as on_progress:
            embed = self.embed if encoder is None else self.load_encoder(str(encoder.folder / ADAPTED_FOLDER))
            measured = self.measure_corpus(table, embed, seed, self.study.resamples, on_progress)
        if (corpus.folder / WRITING_FILE).exists():
            measured += writing_of(corpus)
        write_measures(measured, folder)

    def adapted_generator(self, adapted: Stage) -> Generator:
        """The language model as the mitigation fine-tuned it."""
        from fairloop.mitigation.generators import load_generator

        return load_generator(self.configuration.local_model, adapted.folder / ADAPTED_FOLDER, self.device)


def labelled(rows: Sequence[dict[str, Any]], generation: int) -> "Dataset":
    """Return written sentences as a corpus: each annotated with gender and stereotype (docs/methods.md, section 1)."""
    from fairloop.corpus.annotation import annotate

    labels = [annotate(row["text"], row["occupation"]) for row in rows]
    return make_corpus(
        {
            **row,
            "gender": label.gender,
            "stereotype": label.stereotype,
            "generation": generation,
            "source": "generated",
        }
        for row, label in zip(rows, labels, strict=True)
    )


def writing_of(corpus: Stage) -> list[Measurement]:
    """Return what writing a corpus took: its yield, and the tokens that a server counted."""
    record = json.loads((corpus.folder / WRITING_FILE).read_text())
    taken = [yield_of(record["accepted"], record["asked"])]
    if "prompt_tokens" in record:
        taken += tokens_of(record["prompt_tokens"], record["tokens"], record["asked"])
    return taken
