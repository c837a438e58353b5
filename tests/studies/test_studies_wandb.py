"""A real offline W&B run of every study, read back from its transaction log: metrics, tables, artifacts, lineage."""

import csv
import hashlib
import itertools
import json
import os
from pathlib import Path

import pytest
from test_studies_fair_gender import SMALL as FAIR_GENDER
from test_studies_fair_gender import plm  # noqa: F401 (a fixture)
from test_studies_metric_calibration import SMALL as CALIBRATION
from wandb_reader import ended_run

from fairloop import composition
from fairloop.app import Job
from fairloop.generation.requests import Completion
from fairloop.studies.recursion import Recursion
from fairloop.studies.runner import report_finished, run_cell
from fairloop.tracking import wandb_run
from tiny_models import tiny_encoder, tiny_generator

OFFLINE = (
    "tracking=offline",
    "tracking.sweep=sweep-1",
    "tracking.system_metrics=false",
    "trainer.threads=1",
    "trainer.accelerator=cpu",
)


@pytest.fixture(scope="module", autouse=True)
def no_account(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wandb")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            patch.delenv(name)
        for name in ("WANDB_CONFIG_DIR", "WANDB_DATA_DIR", "WANDB_CACHE_DIR"):
            patch.setenv(name, str(folder / name))
        yield


def run(runs_dir: Path, *chosen: str) -> Path:
    """Run a cell in this process and return its folder."""
    job = job_of(runs_dir, *chosen)
    run_cell(job.configuration, job.cell, chosen)
    assert job.cell.complete
    return job.cell.folder


def job_of(runs_dir: Path, *chosen: str) -> Job:
    lines = [line for line in chosen if line.partition("=")[0] not in {one.partition("=")[0] for one in OFFLINE}]
    with composition.composer():
        return Job.of(composition.validate(composition.compose_config([*lines, *OFFLINE, f"runs_dir={runs_dir}"])))


def measures(cell: Path) -> list[dict[str, str]]:
    with (cell / "metrics.csv").open() as stream:
        return list(csv.DictReader(stream))


def check_run(cell: Path):
    """What holds for every study; returns the run."""
    logged = ended_run(cell)
    study = cell.parent.name
    assert (logged.run_id, logged.config["cell"], logged.project) == (cell.name, cell.name, "fairloop")
    assert (logged.config["sweep"], logged.job_type, logged.exit_code) == ("sweep-1", study, 0)
    assert study in logged.tags
    assert len(logged.tags) == len(set(logged.tags))
    assert logged.group == logged.config["condition"]
    assert logged.name == f"{logged.group} seed {logged.config['seed']}"
    assert len(logged.config["code"]["commit"]) == 40
    assert "requirements.txt" in logged.files
    assert logged.summary["status"] == "complete"
    for artifact in logged.artifacts:
        if artifact["type"] not in ("dataset", "model", "scores"):
            continue
        files = {name: Path(path) for name, path in artifact["files"].items()}
        assert all(path.is_relative_to(cell.parents[1]) for path in files.values())
        sums = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
        canonical = json.dumps(sums, sort_keys=True, separators=(",", ":"))
        whole = hashlib.sha256(canonical.encode()).hexdigest()
        assert artifact["metadata"]["sha256"] in (whole, *sums.values())
    scores = logged.artifact(f"scores-{cell.name}")
    assert (scores["type"], scores["used"]) == ("scores", False)
    assert {name: Path(path) for name, path in scores["files"].items()} == {
        name: cell / name for name in ("config.yaml", "deciding.json", "metrics.csv", "result.json")
    }
    return logged


def made_from(logged, name: str, alias: str = "latest") -> dict[str, str]:
    """What an artifact says it was made from, each digest checked against that artifact's own."""
    found = logged.artifact(name, alias)["metadata"]["made_from"]
    for label, digest in found.items():
        assert logged.artifact(*label.rsplit(":", 1))["metadata"]["sha256"] == digest
    return found


def check_measures(logged, cell: Path, steps: bool) -> None:
    """Every defined measure of the cell is in the history, where it belongs; in the table with interval and n."""
    rows = {row.get("generation"): row for row in logged.history if "generation" in row or "items" in row}
    in_table = logged.measures()
    for line in measures(cell):
        generation = int(line["generation"]) if steps else None
        said = in_table[line["metric"], generation]
        for column in ("value", "low", "high", "n"):
            assert (said[column] is None) == (line[column] == "")
            if line[column]:
                assert said[column] == pytest.approx(float(line[column]))
        if line["value"]:
            assert rows[generation][line["metric"]] == pytest.approx(float(line["value"]))
            assert logged.step_metrics[line["metric"]] == ("generation" if steps else "")


# --- recursion


class Scripted:
    """Writes a sentence for every ask, sometimes a stereotypical one; no model is asked."""

    def complete(self, queue):
        while queue:
            ask = queue.popleft()
            who = ("he", "she", "he")[ask.request.item % 3]
            text = f"The {ask.request.occupation} said that {who} wrote the number {ask.seed} on a wall."
            yield Completion(ask, text, 9, True)


def test_recursion(tmp_path, monkeypatch):
    monkeypatch.setattr(Recursion, "adapted_generator", lambda *_: Scripted())
    cell = run(
        tmp_path / "runs",
        "study.sentences=24", "study.generations=2", "study.examples=2", "study.prompt_group=4", "study.resamples=100",
        f"model.path={tiny_generator(tmp_path / 'generator')}", f"study.encoder={tiny_encoder(tmp_path / 'encoder')}",
        "mitigation=[augment,finetune]", "mitigation.finetune.weights=full", "mitigation.finetune.max_steps=3",
    )  # fmt: skip
    logged = check_run(cell)
    check_measures(logged, cell, steps=True)
    assert logged.config["strategies"] == "augment+finetune"
    assert logged.config["initial_bias_name"] == "medium"
    assert "initial_bias:medium" in logged.tags
    logged_keys = {
        name for row in logged.history for name in row if not name.startswith(("_", "train/", "validation/"))
    }
    tables = {"generation", "sentences", "rejected", "measures"}
    assert logged_keys - logged.hidden - tables == {line["metric"] for line in measures(cell) if line["value"]}
    assert logged.goals["mitigated/downstream/bias/distance"] == "minimize"
    assert logged.goals["downstream/accuracy"] == "maximize"
    generations = [row for row in logged.history if "generation" in row]
    last = generations[2]
    rate = "rule/net_stereotype_rate"
    assert logged.summary[rate] == last[rate]
    assert not [name for name in logged.summary if "@" in name]
    assert last[f"{rate}/distance"] == abs(last[rate])
    for generation, row in enumerate(generations):
        table = logged.table(row)
        assert len(table["data"]) == 24
        assert {line[table["columns"].index("generation")] for line in table["data"]} == {generation}

    # the loss curve of each generation's fine-tuning, with its learning rate, against its own steps
    for stage in ("finetune-1", "finetune-2"):
        curve = [row for row in logged.history if f"train/{stage}/step" in row]
        assert [row[f"train/{stage}/step"] for row in curve] == [1, 2, 3]
        assert all(row[f"train/{stage}/loss"] > 0 for row in curve)
        assert [row[f"train/{stage}/learning_rate"] for row in curve] == [
            pytest.approx(2e-4 * n / 3) for n in (3, 2, 1)
        ]
        assert logged.step_metrics[f"train/{stage}/*"] == f"train/{stage}/step"

    # corpus -> the mitigation's corpus -> checkpoint -> corpus of the next generation -> scores
    def label(name: str, generation: int) -> str:
        return f"{name}-{cell.name}:generation-{generation}"

    everything = set()
    for generation in range(3):
        before = {label("mitigated-corpus", generation - 1)} if generation else set()
        weights = {label("generator", generation)} if generation else set()
        alias = f"generation-{generation}"
        assert set(made_from(logged, f"corpus-{cell.name}", alias)) == before | weights
        assert set(made_from(logged, f"mitigated-corpus-{cell.name}", alias)) == {label("corpus", generation)}
        if generation:
            assert set(made_from(logged, f"generator-{cell.name}", alias)) == before
            metadata = logged.artifact(f"generator-{cell.name}", alias)["metadata"]
            assert metadata["corpus_sha256"] in metadata["made_from"].values()
        everything |= weights | {label("corpus", generation), label("mitigated-corpus", generation)}
    assert set(made_from(logged, f"scores-{cell.name}")) == everything
    used = {one["type"]: one["used"] and one["made"] for one in logged.artifacts}
    assert used["dataset"]
    assert used["model"]


# --- fair_gender, and evaluate of what it made


def test_fair_gender_and_an_evaluation_of_its_model(plm, tmp_path, monkeypatch):  # noqa: F811
    cell = run(tmp_path / "runs", *FAIR_GENDER, f"plm.path={plm}")
    logged = check_run(cell)
    result = json.loads((cell / "result.json").read_text())
    (scored,) = [row for row in logged.history if "lpbs/gap" in row]
    assert not [row for row in logged.history if "generation" in row]
    curve = [row for row in logged.history if "train/fair-gender/step" in row]
    assert [row["train/fair-gender/step"] for row in curve] == [1, 2, 3, 4]
    for row in curve:  # L = L_b + lambda * L_r, L_r = KL + mu * language
        loss, bias, rest, kl, language, rate = (
            row[f"train/fair-gender/{name}"] for name in ("loss", "L_b", "L_r", "kl", "language", "learning_rate")
        )
        assert loss == pytest.approx(bias + 0.02 * rest, rel=1e-5)
        assert rest == pytest.approx(kl + 0.05 * language, rel=1e-5)
        assert 0 < rate < 1.001e-3
    for prefix in ("before/", ""):
        for metric in ("lpbs/gap", "lpbs/gap/distance", "perplexity/pseudo_perplexity"):
            plain = metric.removesuffix("/distance")
            value = result[prefix + plain]
            assert scored[prefix + metric] == pytest.approx(value if metric == plain else abs(value))
            assert (logged.measures()[prefix + plain, None]["value"]) == value
    assert (logged.config["ablation_name"], "ablation:template" in logged.tags) == ("template", True)
    assert logged.goals["lpbs/gap/distance"] == logged.goals["perplexity/pseudo_perplexity"] == "minimize"
    assert logged.summary["lpbs/gap"] == pytest.approx(result["lpbs/gap"])
    pairs = logged.table(scored, "pairs")
    assert len(pairs["data"]) == result["pairs/written"]
    assert {"male", "female", "dropped", "effect"} <= set(pairs["columns"])

    # pairs -> debiased model -> scores
    assert made_from(logged, f"pairs-{cell.name}") == {}
    assert set(made_from(logged, f"model-{cell.name}")) == {f"pairs-{cell.name}:latest"}
    both = {f"pairs-{cell.name}:latest", f"model-{cell.name}:latest"}
    assert set(made_from(logged, f"scores-{cell.name}")) == both
    model = logged.artifact(f"model-{cell.name}")
    assert {"config.json", "model.safetensors", "README.md"} <= set(model["files"])
    assert (model["used"], logged.artifact(f"pairs-{cell.name}")["used"]) == (True, True)

    (folder,) = cell.glob("stages/*-result/model")
    evaluated = run(
        tmp_path / "runs",
        "study=evaluate",
        "plm=minilm",
        f"plm.path={folder}",
        "benchmark=lpbs",
        "benchmark.resamples=100",
    )
    check_evaluation(evaluated, model)
    check_asked_again(cell, monkeypatch, plm)


def check_asked_again(cell: Path, monkeypatch, plm) -> None:  # noqa: F811
    """A finished cell that an agent of a W&B sweep asks for: its run is what it would be if it had been computed."""
    before = {path: path.stat().st_mtime_ns for path in cell.rglob("*") if path.is_file() and "wandb" not in path.parts}
    first = ended_run(cell)
    monkeypatch.setenv("WANDB_SWEEP_ID", "abc12345")
    monkeypatch.setenv("WANDB_RUN_ID", "zz11")
    monkeypatch.setattr(wandb_run, "_agents_cell", [])
    job = job_of(cell.parents[1], *FAIR_GENDER, f"plm.path={plm}")
    assert job.cell.folder == cell
    report_finished(job.configuration, job.cell, ["seed=0"])
    (folder,) = cell.glob("wandb/offline-run-*-zz11")
    again = ended_run(folder)
    assert (again.run_id, again.config.pop("command")) == ("zz11", "fairloop seed=0")
    first.config.pop("command")
    for what in ("name", "group", "tags", "job_type", "config", "step_metrics", "goals", "hidden"):
        assert getattr(again, what) == getattr(first, what), what
    rows = [[{**row, "_runtime": 0, "_timestamp": 0} for row in run.history] for run in (first, again)]
    for (mine, other), key in itertools.product(zip(*map(_by_keys, rows), strict=True), ("pairs", "measures")):
        assert mine.keys() == other.keys()
        if key in mine:
            assert first.table(mine, key) == again.table(other, key)
    own = ("dataset", "model", "scores")
    names = [{one["name"] for one in run.artifacts if one["type"] in own} for run in (first, again)]
    assert names[0] == names[1]
    assert {path: path.stat().st_mtime_ns for path in before} == before


def _by_keys(rows: list[dict]) -> list[dict]:
    return sorted(rows, key=lambda row: (sorted(row), row.get("train/fair-gender/step", 0)))


def check_evaluation(cell: Path, model: dict) -> None:
    """An evaluation's run, and that it takes the other run's model as its input."""
    logged = check_run(cell)
    check_measures(logged, cell, steps=False)
    (row,) = [row for row in logged.history if "items" in row]
    items = logged.table(row, "items")
    assert len(items["data"]) > 10
    assert "occupation" in items["columns"]
    assert logged.goals["lpbs/gap/distance"] == "minimize"
    used = logged.artifact(model["name"])
    assert (used["type"], used["used"], used["made"]) == ("model", True, False)
    assert used["metadata"]["sha256"] == model["metadata"]["sha256"]
    assert set(made_from(logged, f"scores-{cell.name}")) == {f"{model['name']}:latest"}
    weights = logged.artifact(f"scores-{cell.name}")["metadata"]["weights"]
    assert set(weights) == {"plm.path"}


# --- metric_calibration


def test_metric_calibration(tmp_path):
    small = [line for line in CALIBRATION if not line.startswith(("study.sizes", "study.replicates", "study.augment"))]
    cell = run(
        tmp_path / "runs", *small, "study.sizes=[20]", "study.replicates=[2]", "study.augment_rates=[]",
        "study.metrics=[rule_based]",
        f"study.encoder={tiny_encoder(tmp_path / 'encoder')}",
    )  # fmt: skip
    logged = check_run(cell)
    (row,) = [row for row in logged.history if "calibration/curve" in row]
    for name in ("curve", "summary"):
        assert logged.table(row, f"calibration/{name}")["data"]
    assert row["calibration/figure"]["_type"] == "image-file"
    result = json.loads((cell / "result.json").read_text())
    slope = "calibration/rule/net_stereotype_rate/n20/slope"
    assert logged.summary[slope] == result[slope]
    assert made_from(logged, f"scores-{cell.name}") == {}
