"""The recursion's stages, with a generator in which no model is asked."""

import json

import pytest

from fairloop import composition
from fairloop.app import Job
from fairloop.corpus.table import load_corpus
from fairloop.generation.requests import Completion
from fairloop.studies.recursion import Recursion
from fairloop.studies.runner import run_cell
from tiny_models import tiny_generator


class Forgetful:
    """Writes a sentence for every ask, but misspells one occupation from generation 2 on."""

    def __init__(self) -> None:
        self.forgets = ""
        self.asked = 0

    def complete(self, queue):
        while queue:
            ask = queue.popleft()
            occupation = ask.request.occupation
            if "generation-2" in self.stage:
                self.forgets = self.forgets or occupation
            self.asked += occupation == self.forgets
            named = "machineist" if occupation == self.forgets else occupation
            yield Completion(ask, f"The {named} said that he wrote the number {ask.seed} on a wall.", 9, True)


@pytest.fixture
def forgetful(monkeypatch):
    generator = Forgetful()
    write = Recursion.write_generation

    def write_generation(self, generation, *given):
        generator.stage = f"generation-{generation}"
        return write(self, generation, *given)

    monkeypatch.setattr(Recursion, "generator", generator)
    monkeypatch.setattr(Recursion, "write_generation", write_generation)
    return generator


def test_a_sentence_that_the_generator_cannot_write_is_left_out_and_named(tmp_path, forgetful, capsys):
    with composition.composer():
        job = Job.of(
            composition.validate(
                composition.compose_config(
                    ["study.sentences=24", "study.generations=3", "study.examples=2", "study.metrics=[rule_based]",
                     "study.max_attempts=2", "study.min_yield=0.1", "tracking=none", "trainer.accelerator=cpu",
                     "study.resamples=100", f"model.path={tiny_generator(tmp_path / 'generator')}",
                     f"runs_dir={tmp_path / 'runs'}"]
                )
            )
        )  # fmt: skip
    run_cell(job.configuration, job.cell, ())
    assert job.cell.complete
    kept = {}
    for folder in sorted(job.cell.folder.glob("stages/*-generation-?")):
        rows = load_corpus(folder / "corpus.parquet")
        left_out = json.loads((folder / "writing.json").read_text()).get("left_out", [])
        kept[folder.name[-1]] = (len(rows), left_out)
    missing = kept["2"][1]
    assert missing
    assert set(missing) == {forgetful.forgets}
    assert kept == {"1": (24, []), "2": (24 - len(missing), missing), "3": (24, [])}  # whose plan has other occupations
    assert forgetful.asked == 16 * len(missing)
    said = capsys.readouterr().err
    assert f"generation 2: left out, for none of 16 answers was usable: {forgetful.forgets}" in said
