"""Recursion: a language model writes data from its own data, generation after generation.

"Equilibrium Dynamics and Mitigation of Gender Bias in Synthetically Generated Data" (arXiv 2511.10689).

    generation 0       the seed corpus, whose net stereotype rate is the chosen initial bias
    generation g       new sentences, each prompted with k sentences of generation g - 1
    every generation   rule-based, embedding-based, downstream and diversity measures, with intervals
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairloop import console
from fairloop.config import Configuration
from fairloop.corpus.table import load_corpus, make_corpus, save_corpus
from fairloop.files import write_json
from fairloop.lexicon import occupations
from fairloop.metrics.measurement import Measurement
from fairloop.plm.locate import torch_device
from fairloop.seeding import derive
from fairloop.tracking.stages import Stage
from fairloop.tracking.store import Cell
from fairloop.tracking.wandb_run import Tracker

if TYPE_CHECKING:
    from datasets import Dataset

    from fairloop.generation.in_process import InProcessGenerator
    from fairloop.metrics.embedding import Embed

CORPUS_FILE = "corpus.parquet"
WRITING_FILE = "writing.json"
MEASURES_FILE = "measures.json"


def run(configuration: Configuration, cell: Cell, tracker: Tracker) -> None:
    """Run one cell of the study; finished stages are read instead of computed.

    Args:
        configuration: the cell's resolved configuration.
        cell: its folder in the run store, held by this process.
        tracker: where each generation is logged.

    Raises:
        Fault: the generator's yield stays under `study.min_yield`.
    """
    study = Recursion(configuration)
    corpus = cell.stage("seed-corpus", study.write_seed_corpus)
    results: dict[int | None, Sequence[Measurement]] = {}
    for generation in range(study.generations + 1):
        if generation > 0:
            corpus = cell.stage(f"generation-{generation}", study.writer(generation, corpus), inputs=[corpus])
        measures = cell.stage(f"measures-{generation}", study.measurer(generation, corpus), inputs=[corpus])
        results[generation] = read_measures(measures)
        path = corpus.folder / CORPUS_FILE
        tracker.log_generation(generation, results[generation], load_corpus(path).to_list(), path)
    cell.write_results(results)
    tracker.finish("complete", json.loads((cell.folder / "result.json").read_text()))


class Recursion:
    """The steps of the study for one configuration; models are loaded when the first step needs them."""

    def __init__(self, configuration: Configuration) -> None:
        """Take the cell's resolved configuration."""
        self.configuration = configuration
        self.study = configuration.study
        self.seed = configuration.seed
        self.generations = configuration.study.generations
        self.label = f"initial bias {configuration.initial_bias.level:g}, seed {configuration.seed}"

    def write_seed_corpus(self, folder: Path) -> None:
        """Generation 0: sentences whose net stereotype rate is the initial bias, by construction."""
        from fairloop.corpus.seed import seed_corpus

        initial = self.configuration.initial_bias
        corpus = seed_corpus(initial.level, self.study.sentences, initial.neutral_share, self.seed)
        save_corpus(corpus, folder / CORPUS_FILE)

    def writer(self, generation: int, previous: Stage) -> Any:
        """Return the computation of generation g: as many new sentences, prompted with sentences of g - 1."""

        def compute(folder: Path) -> dict[str, Any]:
            from fairloop.generation.requests import Example, plan_requests
            from fairloop.generation.writer import write_corpus

            shown = load_corpus(previous.folder / CORPUS_FILE)
            stage = f"generation-{generation}"
            requests = plan_requests(
                [Example(row["occupation"], row["text"]) for row in shown],
                [occupation.name for occupation in occupations()],
                sentences=self.study.sentences,
                examples=self.study.examples,
                group_size=self.study.prompt_group,
                seed=self.seed,
                stage=stage,
            )
            with console.progress(f"{self.label}: generation {generation} of {self.generations}") as on_progress:
                written = write_corpus(
                    self.generator,
                    requests,
                    seed=self.seed,
                    stage=stage,
                    max_attempts=self.study.max_attempts,
                    min_yield=self.study.min_yield,
                    on_progress=on_progress,
                )
            save_corpus(labelled(written.rows, generation), folder / CORPUS_FILE)
            stats = written.stats
            write_json(
                folder / WRITING_FILE,
                {"accepted": stats.accepted, "asked": stats.asked, "tokens": stats.tokens, "rejected": stats.reasons},
            )
            return {
                "tokens_per_second": stats.tokens / stats.seconds,
                "sentences_per_second": stats.accepted / stats.seconds,
            }

        return compute

    def measurer(self, generation: int, corpus: Stage) -> Any:
        """Return the computation of a generation's measures."""

        def compute(folder: Path) -> None:
            from fairloop.corpus.heldout import counterfactual_pairs
            from fairloop.metrics.measures import measure_corpus

            measured = measure_corpus(
                load_corpus(corpus.folder / CORPUS_FILE),
                self.embed,
                counterfactual_pairs(),
                seed=derive(self.seed, f"measures-{generation}"),
                resamples=self.study.resamples,
            )
            if generation > 0:
                measured.append(yield_of(corpus))
            write_measures(measured, folder)

        return compute

    @cached_property
    def generator(self) -> "InProcessGenerator":
        """The language model that writes."""
        from fairloop.generation.in_process import InProcessGenerator

        return InProcessGenerator.load(
            self.configuration.model, device=torch_device(self.configuration.trainer.accelerator)
        )

    @cached_property
    def embed(self) -> "Embed":
        """The sentence encoder of the measures; what every generation asks (anchors, test pairs) is computed once."""
        from fairloop.metrics.embedding import remembering
        from fairloop.plm.encoder import SentenceEncoder

        encoder = SentenceEncoder.load(self.study.encoder, device=torch_device(self.configuration.trainer.accelerator))
        return remembering(encoder.embed)


def labelled(rows: Sequence[dict[str, Any]], generation: int) -> "Dataset":
    """Return written sentences as a corpus: each annotated with gender and stereotype (design, section 4)."""
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


def yield_of(corpus: Stage) -> Measurement:
    """Return the share of asked-for sentences that were usable, with a Wilson interval over the asks."""
    from scipy.stats import binomtest

    record = json.loads((corpus.folder / WRITING_FILE).read_text())
    result = binomtest(record["accepted"], record["asked"])
    interval = result.proportion_ci(method="wilson")
    return Measurement("generation/yield", result.statistic, interval.low, interval.high, record["asked"])


def write_measures(measured: Sequence[Measurement], folder: Path) -> None:
    """Keep measurements as a stage's output; an undefined value is null."""
    from fairloop.tracking.results import number

    write_json(
        folder / MEASURES_FILE,
        [{**asdict(one), "value": number(one.value)} for one in measured],
    )


def read_measures(stage: Stage) -> list[Measurement]:
    """Return what `write_measures` kept."""
    rows = json.loads((stage.folder / MEASURES_FILE).read_text())
    return [Measurement(**{**row, "value": math.nan if row["value"] is None else row["value"]}) for row in rows]
