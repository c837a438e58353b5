"""A sweep on Weights & Biases: read back as a run store, and shown as a report and a saved view."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from report_store import make_cell
from wandb_service import serving

from fairloop.errors import Fault, UserError
from fairloop.report.read import read_runs
from fairloop.report.wandb import read as wandb_read
from fairloop.report.wandb import report
from fairloop.report.wandb.command import command
from fairloop.report.wandb.read import check_project, read_project
from fairloop.report.wandb.report import LAYOUTS, comparisons, report_of, view_of
from fairloop.report.write import write_report


@pytest.fixture(autouse=True)
def no_key(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))


# --- a project's runs as a run store


@dataclass
class Artifact:
    """Stands in for an artifact of the service: its files are those of a local cell."""

    source: Path
    type: str = "scores"
    digest: str = "d1"
    downloads: int = 0

    @property
    def metadata(self):
        return {"study": self.source.parent.name, "cell": self.source.name}

    def download(self, root):
        self.downloads += 1
        Path(root).mkdir(parents=True, exist_ok=True)
        for name in ("config.yaml", "metrics.csv", "result.json"):
            shutil.copyfile(self.source / name, Path(root, name))


@dataclass
class Run:
    """Stands in for a run of the service."""

    id: str
    config: dict
    artifacts: list = field(default_factory=list)
    state: str = "finished"
    sweep: str = "sweep-1"
    group: str = "gemma none level low"
    job_type: str = "recursion"

    def logged_artifacts(self):
        return iter(self.artifacts)


class Api:
    """Stands in for `wandb.Api`: the project lab/fairloop."""

    runs_there: list = []  # noqa: RUF012

    def runs(self, path, filters, order, lazy):
        if path != "lab/fairloop":
            raise ValueError(f"Could not find project {path}\nor no access")
        assert (filters["jobType"], order, lazy) == ({"$ne": "sweep"}, "+created_at", False)
        chosen = [run for run in self.runs_there if run.job_type != "sweep"]
        if "$or" not in filters:
            return chosen
        by_sweep, by_group = filters["$or"]
        return [run for run in chosen if run.sweep == by_sweep["config.sweep"] or run.group == by_group["group"]]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Three finished cells of one sweep, one of another, one that crashed, the sweep's own run, a stranger's."""
    import wandb

    local = tmp_path / "local"
    cells = [make_cell(local, level=level, seed=1, mitigation=("augment",)) for level in (0.1, 0.3, 0.6)]
    other = make_cell(local, level=0.1, seed=2)
    runs = [Run(cell.name, {"cell": cell.name}, [Artifact(cell), Artifact(cell, "dataset")]) for cell in cells]
    runs.append(Run(other.name, {"cell": other.name}, [Artifact(other)], sweep="", group="sweep-2"))
    runs.append(Run("0123456789abcdef", {"cell": "0123456789abcdef", "study": {"name": "recursion"}}, [], "crashed"))
    runs.append(Run("sweep-1", {"cells": []}, job_type="sweep"))
    runs.append(Run("stranger", {"lr": 0.1}))
    runs.append(Run("hostile", {"cell": "../../../etc"}, [Artifact(other)]))
    monkeypatch.setattr(Api, "runs_there", runs)
    monkeypatch.setattr(wandb, "Api", Api)
    monkeypatch.setattr(wandb_read, "reason_to_stay_offline", lambda mode: None)
    return local


def plain(cells):
    return {cell.name: (cell.study, cell.config, cell.measures, cell.result) for cell in cells}


def test_a_project_reads_as_its_run_store(project, tmp_path):
    found = read_project("lab/fairloop", folder=tmp_path / "copy")
    assert plain(found.cells) == plain(read_runs(project).cells)
    assert len(found.cells) == 4
    (crashed,) = found.unusable
    assert crashed.folder == tmp_path / "copy" / "recursion" / "0123456789abcdef"
    assert crashed.reason == "failed: its run 0123456789abcdef is crashed and has no artifact of type scores"
    assert write_report(tmp_path / "copy").page.is_file()


def test_a_sweep_is_read_alone_and_nothing_is_fetched_twice(project, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = read_project("lab/fairloop", "sweep-1")
    assert found.folder == Path("runs-from-wandb/lab/fairloop/sweep-1")
    assert sorted(cell.level for cell in found.cells) == [0.1, 0.3, 0.6]
    read_project("lab/fairloop", "sweep-1")
    fetched = [run.artifacts[0].downloads for run in Api.runs_there if run.artifacts]
    assert fetched == [1, 1, 1, 0, 0]
    assert [cell.level for cell in read_project("lab/fairloop", "sweep-2").cells] == [0.1]  # by the group of its runs
    Api.runs_there[0].artifacts[0].digest = "d2"  # the cell was computed again
    read_project("lab/fairloop", "sweep-1")
    assert Api.runs_there[0].artifacts[0].downloads == 2


def test_mistakes_and_faults_are_one_line(project, monkeypatch):
    with pytest.raises(UserError, match=r"^project=fairloop: .*ENTITY/PROJECT"):
        read_project("fairloop")
    with pytest.raises(Fault, match=r"^Weights & Biases, lab/other: Could not find project lab/other or no access$"):
        read_project("lab/other")
    monkeypatch.setattr(wandb_read, "reason_to_stay_offline", lambda mode: "https://x cannot be reached")
    with pytest.raises(Fault, match=r"^Weights & Biases: https://x cannot be reached$"):
        read_project("lab/fairloop")


# --- the report and the views


def view(study, title, sweep=None, levels=("high",)):
    (found,) = [one for one in comparisons(study, sweep, levels) if one.title == title]
    built = view_of("lab/fairloop", found)._spec
    (runset,) = built["spec"]["section"]["runSets"]
    sections = built["spec"]["section"]["panelBankConfig"]["sections"]
    return built, runset, [panel["config"] for one in sections for panel in one["panels"]]


def chosen(runset):
    """The filter of a runset: key, comparison and value of each part that all of its runs fulfil."""
    parts = runset["filters"]["filters"]
    return {(one["key"]["section"], one["key"]["name"], one["op"], one["value"]) for one in parts if "key" in one}


def test_mitigations_at_one_initial_bias_are_one_view_over_seeds_alone():
    title = "mitigations at initial bias high"
    built, runset, panels = view("recursion", title, 'it\'s "mine"')
    assert (built["entity"], built["project"]) == ("lab", "fairloop")
    assert chosen(runset) == {
        ("run", "jobType", "=", "recursion"),
        ("config", "sweep", "=", 'it\'s "mine"'),
        ("config", "initial_bias_name", "=", "high"),
    }
    check_over_seeds_alone(runset, panels)
    assert built["spec"]["section"]["settings"]["xAxis"] == "generation"
    assert {panel["xAxis"] for panel in panels} == {"generation"}
    metrics = [metric for panel in panels for metric in panel["metrics"]]
    headline = ["rule/net_stereotype_rate", "embedding/effect_size", "downstream/bias", "generation/yield"]
    assert {*headline, *(f"mitigated/{name}" for name in headline)} <= set(metrics)
    assert len(metrics) == len(set(metrics))
    titles = {panel["metrics"][0]: panel["chartTitle"] for panel in panels}
    assert titles["downstream/bias"] == "downstream bias (the closer to 0 the better)"


def check_over_seeds_alone(runset, panels):
    """Runs are averaged within one condition, which is all but the seed, and the band is the mean's standard error."""
    assert runset["grouping"] == [{"section": "config", "name": "condition.value"}]
    assert {panel["groupBy"] for panel in panels} == {"condition.value"}
    assert {(panel["groupAgg"], panel["groupArea"]) for panel in panels} == {("mean", "stderr")}


def test_what_each_component_buys_is_one_view_of_variants_before_and_after():
    _, runset, panels = view("fair_gender", "what each component of Fair-Gender buys")
    assert chosen(runset) == {
        ("run", "jobType", "=", "fair_gender"),
        ("config", "debias_name", "=", "fair_gender"),
    }
    check_over_seeds_alone(runset, panels)
    metrics = [panel["metrics"] for panel in panels]
    assert ["before/stereoset/overall/icat", "stereoset/overall/icat"] in metrics
    assert not [one for one in metrics if "generation" in one]


def test_debias_methods_are_compared_without_the_ablated_variants():
    _, runset, panels = view("fair_gender", "debias methods")
    (either,) = [one for one in runset["filters"]["filters"] if "key" not in one]
    parts = [(one["key"]["name"], one["op"], one["value"], one.get("connector")) for one in either["filters"]]
    assert parts == [("debias_name", "!=", "fair_gender", None), ("ablation_name", "=", "full", "OR")]
    check_over_seeds_alone(runset, panels)


def test_evaluations_are_bars():
    built, runset, panels = view("evaluate", "PLMs on benchmarks")
    check_over_seeds_alone(runset, panels)
    metrics = [panel["metrics"] for panel in panels]
    assert ["crows_pairs/overall/score"] in metrics
    sections = built["spec"]["section"]["panelBankConfig"]["sections"]
    assert {panel["viewType"] for one in sections for panel in one["panels"]} == {"Bar Chart"}


@pytest.fixture
def service(monkeypatch, tmp_path):
    with serving() as one:
        monkeypatch.setenv("WANDB_BASE_URL", one.address)
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        yield one


def test_the_command_saves_a_view_and_a_section_for_each_level_and_prints_their_addresses(service, tmp_path):
    """In a process of its own, for W&B reads its address once."""
    for level, sweep in (("low", "sweep-1"), ("high", "sweep-1"), ("high", "sweep-1"), ("medium", "other")):
        service.listed.append({"jobType": "recursion", "config": {"initial_bias_name": level, "sweep": sweep}})
    arguments = ["lab/fairloop", "--sweep", "sweep-1"]
    code = f"import sys; from fairloop.report.wandb.command import command; sys.exit(command({arguments!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    *views, saved = service.views
    *addresses, of_report = done.stdout.split()
    assert all(one.startswith(f"{service.address}/lab/fairloop?nw=") for one in addresses)
    assert of_report.startswith(f"{service.address}/lab/fairloop/reports/Fairloop-recursion:-sweep-1--")
    titles = [f"Fairloop: mitigations at initial bias {level} (sweep-1)" for level in ("high", "low")]
    assert [(one["type"], one["displayName"]) for one in views] == [("project-view", title) for title in titles]
    assert saved["type"] == "runs"
    blocks = saved["spec"]["blocks"]
    headings = [one["children"][0]["text"] for one in blocks if one["type"] == "heading" and one["level"] == 1]
    assert headings[:2] == ["Mitigations at initial bias high", "Mitigations at initial bias low"]
    grids = [block["metadata"] for block in blocks if block["type"] == "panel-grid"]
    filters = [{one["key"]["name"]: one["value"] for one in grid["runSets"][0]["filters"]["filters"]} for grid in grids]
    cells = {"jobType": "recursion", "sweep": "sweep-1"}
    sections = [{**cells, "initial_bias_name": level} for level in ("high", "high", "low", "low")]
    assert filters == [*sections, {"jobType": "sweep", "sweep": "sweep-1"}, cells]
    for grid in grids[:4]:
        panels = [panel["config"] for panel in grid["panelBankSectionConfig"]["panels"]]
        assert [panel["xAxis"] for panel in panels] == ["generation"] * len(LAYOUTS["recursion"].metrics)
        check_over_seeds_alone(grid["runSets"][0], panels)


def test_a_project_without_such_runs_is_one_line(project, capsys, monkeypatch):
    monkeypatch.setattr(report, "_values", lambda *_: [])
    assert command(["lab/fairloop", "--sweep", "nothing"]) == 2
    said = "fairloop-wandb: Weights & Biases: lab/fairloop has no run of study=recursion and sweep=nothing\n"
    assert capsys.readouterr().err == said
    assert command(["lab/fairloop", "--study", "evaluate", "--level", "high"]) == 2
    assert capsys.readouterr().err == "fairloop-wandb: --level=high: goes with --study recursion\n"


def test_a_report_needs_no_network_until_it_is_saved():
    built = report_of("lab/fairloop", "recursion", "sweep-1", comparisons("recursion", "sweep-1", ["high"]))
    words = repr(built)
    assert "the closer to 0 the better" in words
    assert "Mitigations at initial bias high" in words


def test_without_key_or_network_the_command_says_so_in_one_line(capsys, monkeypatch):
    assert command(["lab/fairloop"]) == 2
    assert capsys.readouterr().err == (
        "fairloop-wandb: Weights & Biases: no API key; run `wandb login` or set WANDB_API_KEY\n"
    )
    assert command(["fairloop"]) == 2
    assert capsys.readouterr().err.startswith("fairloop-wandb: project=fairloop: ")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    assert command(["lab/fairloop", "--view"]) == 1
    assert capsys.readouterr().err == "fairloop-wandb: Weights & Biases: http://127.0.0.1:9 cannot be reached\n"


@pytest.mark.parametrize("name", ["../..", "a/..", "./a", "a/b/c", "a/", "/b", "a", "a/b\x1b", "a/b\n", "a\x00/b"])
def test_no_name_of_a_project_leads_out_of_a_folder(name):
    with pytest.raises(UserError, match="ENTITY/PROJECT"):
        check_project(name)
