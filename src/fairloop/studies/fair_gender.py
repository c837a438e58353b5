"""Fair-Gender: debias a pre-trained language model (PLM) with pairs of sentences, and measure what that cost.

"Bridging the Fairness Gap: Enhancing Pre-trained Models with LLM-Generated Sentences" (arXiv 2501.06795).

    pairs           sentences about a target word with a gendered subject, and their counterparts
    screening       form, duplicates, toxicity and fluency
    filter          pairs that agree with what the PLM knows (the paper's alignment), and whose estimated effect on its
                    language is not harmful (ours)
    incorporation   the PLM is trained on them: L = L_b + λ·L_r; L_b holds the paper's causal estimate over neighbours
    evaluation      bias and language skill of the PLM before and after

The baselines run through the same stages, but for those they do not use. A stage is named by what decides it, and
shared by the cells of a store that want the same: another benchmark, or more resamples, trains nothing again.
"""

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairloop import console
from fairloop.benchmarks.registry import contents
from fairloop.config import Configuration
from fairloop.config.fair_gender import FairGenderSettings
from fairloop.debias.base import DebiasData
from fairloop.debias.registry import method
from fairloop.debias.settings import PairMethodSettings
from fairloop.errors import UserError
from fairloop.files import digest_file, files_below, write_json, write_text
from fairloop.lexicon import neutral_sentences
from fairloop.measures.catalogue import BEFORE
from fairloop.measures.measurement import Measurement
from fairloop.pairs.pair import PairRow, coverage, kept, load_pairs, pair_counts, reasons, save_pairs
from fairloop.pairs.sentence_files import texts_of
from fairloop.pairs.settings import PairSettings
from fairloop.seeding import random_generator
from fairloop.studies.measures import read_measures
from fairloop.studies.measuring import OUTCOME_FILE, measure_plm
from fairloop.studies.script import Script
from fairloop.tracking.results import number
from fairloop.tracking.stages import Stage
from fairloop.tracking.store import Cell
from fairloop.tracking.wandb_run import Tracker
from fairloop.training.settings import BudgetSettings

if TYPE_CHECKING:
    from fairloop.benchmarks.settings import BenchmarkSettings
    from fairloop.pairs.screen import Fluency
    from fairloop.plm.model import LanguageModel
    from fairloop.plm.settings import PlmSettings

PAIRS_FILE = "pairs.parquet"
WRITING_FILE = "writing.json"
MODEL_FOLDER = "model"
CARD_FILE = "README.md"

# The versions of what the stages do, part of what names a shared stage: raise one when a change of the code changes
# what such a stage puts out, together with the study's `version`.
VERSIONS = {"pairs": 3, "screening": 2, "filter": 2, "incorporation": 1, "measuring": 3}


def run(configuration: Configuration, cell: Cell, tracker: Tracker) -> None:
    """Run one cell of the study; finished stages are read instead of computed.

    Args:
        configuration: the cell's resolved configuration.
        cell: its folder in the run store, held by this process.
        tracker: where pairs, measures and the model are logged.

    Raises:
        UserError: too few pairs are left to learn from; the line says what took them.
        Fault: the generator's yield stays under its floor, or a training failed.
    """
    study = FairGender(configuration, cell, tracker)
    pairs = study.filter(study.screen(study.write())) if study.method.uses_pairs else None
    before = study.measure("before", configuration.local_plm, ())
    after = before
    model: Stage | None = None
    if study.method.changes_model:
        trained = study.incorporate(pairs)
        after = study.measure("after", study.debiased(trained), (trained,))
        model = study.publish(trained, pairs, before, after)
    study.report(pairs, before, after, model)


class FairGender(Script):
    """The stages of the study for one cell; models are loaded when the first stage needs them."""

    versions = VERSIONS

    def __init__(self, configuration: Configuration, cell: Cell, tracker: Tracker) -> None:
        """Take the resolved configuration, the cell held by this process, and where it is logged."""
        super().__init__(configuration, cell, tracker)
        self.study = configuration.study_as(FairGenderSettings)
        self.benchmarks = self.study.measured_by(configuration)
        self.method = method(configuration.debias)
        self.plm = configuration.local_plm
        self.label = f"{self.method.name} on {self.plm.name}, seed {self.seed}"

    @property
    def settings(self) -> PairMethodSettings:
        """The settings of a method that learns from pairs; only for such a method."""
        debias = self.configuration.debias
        if not isinstance(debias, PairMethodSettings):
            raise TypeError(f"{debias.name} does not learn from pairs")
        return debias

    # --- pairs ------------------------------------------------------------------------------------------------------

    def write(self) -> Stage:
        """Return the pairs as written by the generator, filled from templates or swapped from given sentences."""
        source, chosen = self.settings.source, self.settings.deciding()
        decides = {key: chosen[key] for key in PairSettings.model_fields}
        if source == "swap":
            decides["swap_file"] = self.choices["files"]["debias.swap_file"]
        return self.stage("pairs", self._write, "pairs", *(["model"] if source == "llm" else []), **decides)

    def _write(self, folder: Path) -> dict[str, Any]:
        from fairloop.pairs.sources import gather_pairs
        from fairloop.plm.model import LanguageModel

        LanguageModel.load(self.plm)  # a PLM that cannot be measured is refused before a generator has written for it
        generator = self.generator if self.settings.source == "llm" else None
        gathered = gather_pairs(
            self.settings, seed=self.seed, generator=generator, progress=lambda what: self.progress(f"pairs, {what}")
        )
        save_pairs(gathered.rows, folder / PAIRS_FILE)
        written = {"pairs": len(gathered.rows), "asked": gathered.asked, "replaced": gathered.replaced}
        write_json(folder / WRITING_FILE, {**written, "rejected": dict(gathered.rejected)})
        return {"seconds_of_the_generator": gathered.seconds}

    # --- screening --------------------------------------------------------------------------------------------------

    def screen(self, pairs: Stage) -> Stage:
        """Return the pairs with their scores, those that fail a test marked with the reason."""
        screen = self.settings.screen
        if not screen.enabled:
            return pairs
        judge = {"plm": ["plm"], "generator": ["model"], "none": []}[screen.fluency]
        decides: dict[str, Any] = {"screen": screen.deciding()}
        if screen.toxicity == "classifier":
            decides["toxicity"] = self.choices["weights"]["debias.screen.toxicity_model"]
        compute = partial(self._screen, pairs)
        return self.stage("screening", compute, "screening", *judge, inputs=[pairs], **decides)

    def _screen(self, pairs: Stage, folder: Path) -> None:
        from fairloop.pairs.screen import screen_pairs
        from fairloop.pairs.toxicity import toxicity_scorer

        screen = self.settings.screen
        with self.progress("screening") as on_progress:
            rows = screen_pairs(
                load_pairs(pairs.folder / PAIRS_FILE),
                screen,
                toxicity=toxicity_scorer(screen, device=self.device),
                fluency=self._fluency(on_progress),
            )
        save_pairs(rows, folder / PAIRS_FILE)

    def _fluency(self, on_progress: console.OnProgress) -> "Fluency | None":
        """The measure of fluency, by the language model that is to judge it."""
        from fairloop.pairs.screen import fluency_of
        from fairloop.plm.memory import FolderMemory

        if self.settings.screen.fluency == "none":
            return None
        return fluency_of(self._judge(), on_progress=on_progress, memory=FolderMemory(self.cell.scratch()))

    def _judge(self) -> "LanguageModel":
        from fairloop.plm.model import LanguageModel

        if self.settings.screen.fluency == "plm":
            return LanguageModel.load(self.plm)
        from fairloop.generation.in_process import InProcessGenerator

        assert isinstance(self.generator, InProcessGenerator)  # noqa: S101 - the configuration refuses a server here
        return LanguageModel(
            self.generator.model, self.generator.tokenizer, "causal", name=self.configuration.model.name
        )

    # --- filter -----------------------------------------------------------------------------------------------------

    def filter(self, screened: Stage) -> Stage:
        """Return the pairs with alignment and effect, unaligned and harmful ones marked; as they are for baselines."""
        chosen = screened
        if self.method.filters_pairs:
            decides = {**self.method.filter_settings(), "neutral": self.neutral_settings}
            chosen = self.stage(
                "filter", partial(self._filter, screened), "filter", "plm", inputs=[screened], **decides
            )
        self._require_enough(load_pairs(chosen.folder / PAIRS_FILE))
        return chosen

    def _filter(self, screened: Stage, folder: Path) -> None:
        rows = load_pairs(screened.folder / PAIRS_FILE)
        with self.training("filter", folder) as training:
            rows = self.method.filter(self.plm, rows, self.neutral[1], training)
        save_pairs(rows, folder / PAIRS_FILE)

    def _require_enough(self, rows: Sequence[PairRow]) -> None:
        settings, left = self.settings, len(kept(rows))
        needed = settings.batch_size if isinstance(settings, BudgetSettings) else 1
        if left < needed:
            took = ", ".join(f"{count} {reason}" for reason, count in reasons(rows).items()) or "none was dropped"
            raise UserError(
                f"debias.pairs={settings.pairs}: {left} of {len(rows)} pairs are left, and a batch takes"
                f" {needed}; dropped: {took}"
            )

    # --- incorporation ----------------------------------------------------------------------------------------------

    def incorporate(self, pairs: Stage | None) -> Stage:
        """Return the debiased model."""
        inputs = [pairs] if pairs is not None else []
        compute, keys = partial(self._incorporate, pairs), ("debias", "plm")
        own = {f"debias.{key}": key for key in type(self.configuration.debias).model_fields if key != "swap_file"}
        files = {own[key]: name for key, name in self.choices.get("files", {}).items() if key in own}
        decides: dict[str, Any] = {**files, "neutral": self.neutral_settings}
        return self.stage("incorporation", compute, "incorporation", *keys, inputs=inputs, **decides)

    def _incorporate(self, pairs: Stage | None, folder: Path) -> None:
        chosen = kept(load_pairs(pairs.folder / PAIRS_FILE)) if pairs is not None else []
        learned, held_out = self.neutral
        target = folder / MODEL_FOLDER
        target.mkdir()
        with self.training("incorporation", folder) as training:
            self.method.debias(self.plm, DebiasData(chosen, learned, held_out), target, training)

    def debiased(self, trained: Stage) -> "PlmSettings":
        """The debiased model as a PLM to be measured."""
        return self.plm.model_copy(update={"path": str(trained.folder / MODEL_FOLDER), "revision": None})

    # --- evaluation -------------------------------------------------------------------------------------------------

    def measure(self, when: str, plm: "PlmSettings", inputs: Sequence[Stage]) -> dict[str, Stage]:
        """Return each benchmark's measures of a PLM, before or after; shared by all cells that want the same."""
        return {name: self._measured(settings, when, plm, inputs) for name, settings in self.benchmarks.items()}

    def _measured(
        self, benchmark: "BenchmarkSettings", when: str, plm: "PlmSettings", inputs: Sequence[Stage]
    ) -> Stage:
        name = f"{when}-{benchmark.name}"
        compute = partial(measure_plm, self, plm, benchmark, f"{benchmark.name} {when}")
        decides = {**benchmark.deciding(), **contents(benchmark)}
        return self.stage(name, compute, "measuring", "plm", inputs=inputs, benchmark=decides)

    # --- result -----------------------------------------------------------------------------------------------------

    def publish(self, trained: Stage, pairs: Stage | None, before: dict[str, Stage], after: dict[str, Stage]) -> Stage:
        """Return the model with its card: what `from_pretrained` is given."""
        inputs = [trained, *([pairs] if pairs is not None else []), *before.values(), *after.values()]

        def compute(folder: Path) -> None:
            source = trained.folder / MODEL_FOLDER
            for path in files_below(source):
                if path.name != CARD_FILE:
                    _link(path, folder / MODEL_FOLDER / path.relative_to(source))
            write_text(folder / MODEL_FOLDER / CARD_FILE, self._card(source, pairs, before, after))

        return self.cell.stage("result", compute, inputs=inputs)

    def _card(self, model: Path, pairs: Stage | None, before: dict[str, Stage], after: dict[str, Stage]) -> str:
        from fairloop.debias.card import Score, with_results

        values = [
            {one.metric: number(one.value) for stage in stages.values() for one in read_measures(stage)}
            for stages in (before, after)
        ]
        scores = [Score(metric, values[0].get(metric), value) for metric, value in values[1].items()]
        data = self._data_lines(pairs) if pairs is not None else ["No pairs were used."]
        return with_results((model / CARD_FILE).read_text(encoding="utf-8"), data, scores)

    def _data_lines(self, pairs: Stage) -> list[str]:
        rows = load_pairs(pairs.folder / PAIRS_FILE)
        chosen = kept(rows)
        covered = coverage(chosen)
        writer = f", written by {self.configuration.model.path}" if self.settings.source == "llm" else ""
        return [
            f"{len(chosen)} pairs of sentences that differ only in gendered words (source "
            f"`{self.settings.source}`{writer}), about {len(covered.targets)} targets with "
            f"{len(covered.attributes)} pairs of gendered words.",
            *(f"{count} of {len(rows)} were dropped: {reason}." for reason, count in reasons(rows).items()),
            f"{len(self.neutral[0])} neutral sentences were learned from, {len(self.neutral[1])} evaluated meanwhile.",
        ]

    def report(
        self,
        pairs: Stage | None,
        before: dict[str, Stage],
        after: dict[str, Stage],
        model: Stage | None,
    ) -> None:
        """Write the cell's results and log them: those of the untouched PLM have their names with `before/`."""
        measured = [[one for stage in stages.values() for one in read_measures(stage)] for stages in (before, after)]
        both = [*_renamed(measured[0]), *measured[1]]
        table = pairs.folder / PAIRS_FILE if pairs is not None else None
        rows = [_flat(row) for row in load_pairs(table)] if table is not None else []
        self.tracker.use_model(self.plm.path)
        self.tracker.log_scores(both, {"pairs": rows})
        if table is not None:
            self.tracker.log_dataset("pairs", table)
        if model is not None:
            seen = {"pairs_sha256": pairs.outputs[PAIRS_FILE]} if pairs is not None else {}
            made_from = [table] if table is not None else []
            self.tracker.log_checkpoint("model", model.folder / MODEL_FOLDER, seen, made_from=made_from)
            console.say(f"the debiased model: {model.folder / MODEL_FOLDER}")
        for stage in (*before.values(), *after.values()):
            _say_skipped(stage)
        counted = pair_counts(load_pairs(table)) if table is not None else []
        self.cell.write_results({None: [*both[: len(measured[0])], *counted, *measured[1]]})

    # --- what the stages share --------------------------------------------------------------------------------------

    @cached_property
    def neutral(self) -> tuple[list[str], list[str]]:
        """Neutral sentences to learn from, and those that are evaluated during the training."""
        path = self.study.neutral
        held_in = list(neutral_sentences("heldin") if path is None else texts_of(path, "study.neutral"))
        order = random_generator(self.seed, "neutral-watched").permutation(len(held_in)).tolist()
        held_out = max(1, round(self.study.watched * len(held_in)))
        return [held_in[n] for n in order[held_out:]], [held_in[n] for n in order[:held_out]]

    @property
    def neutral_settings(self) -> dict[str, Any]:
        """What decides these sentences."""
        path = self.study.neutral
        return {"watched": self.study.watched, "file": path and digest_file(Path(path))}


def _flat(row: PairRow) -> dict[str, Any]:
    """Return a row as one level of columns."""
    columns = asdict(row)
    return {**columns.pop("pair"), **columns}


def _renamed(measured: Sequence[Measurement]) -> list[Measurement]:
    return [replace(one, metric=BEFORE + one.metric) for one in measured]


def _say_skipped(stage: Stage) -> None:
    for line in json.loads((stage.folder / OUTCOME_FILE).read_text())["notes"]:
        console.say(f"{stage.name}: {line}")


def _link(source: Path, target: Path) -> None:
    """Give a finished stage's file a second name; a copy where the file system has no links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
