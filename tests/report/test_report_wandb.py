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
from fairloop.report.wandb.command import command
from fairloop.report.wandb.read import read_project
from fairloop.report.wandb.report import LAYOUTS, sweep_report, sweep_view
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
    group: str = "sweep-1"
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
        return [run for run in chosen if run.group == filters.get("group", run.group)]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Three finished cells of one sweep, one of another, one that crashed, the sweep's own run, a stranger's."""
    import wandb

    local = tmp_path / "local"
    cells = [make_cell(local, level=level, seed=1, mitigation=("augment",)) for level in (0.1, 0.3, 0.6)]
    other = make_cell(local, level=0.1, seed=2)
    runs = [Run(cell.name, {"cell": cell.name}, [Artifact(cell), Artifact(cell, "dataset")]) for cell in cells]
    runs.append(Run(other.name, {"cell": other.name}, [Artifact(other)], group="sweep-2"))
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


def test_a_group_is_read_alone_and_nothing_is_fetched_twice(project, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = read_project("lab/fairloop", "sweep-1")
    assert found.folder == Path("runs-from-wandb/lab/fairloop/sweep-1")
    assert sorted(cell.level for cell in found.cells) == [0.1, 0.3, 0.6]
    read_project("lab/fairloop", "sweep-1")
    fetched = [run.artifacts[0].downloads for run in Api.runs_there if run.artifacts]
    assert fetched == [1, 1, 1, 0, 0]
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


# --- the report and the view


def panels_of(view):
    (runset,) = view["spec"]["section"]["runSets"]
    return runset, [panel for one in view["spec"]["section"]["panelBankConfig"]["sections"] for panel in one["panels"]]


def test_the_view_is_grouped_by_mitigation_with_generations_on_the_x_axis():
    view = sweep_view("lab/fairloop", "recursion", 'it\'s "mine"')._spec
    runset, panels = panels_of(view)
    assert (view["entity"], view["project"]) == ("lab", "fairloop")
    assert runset["grouping"] == [{"section": "config", "name": "strategies.value"}]
    chosen = {(one["key"]["name"], one["op"], one["value"]) for one in runset["filters"]["filters"]}
    assert chosen == {("jobType", "=", "recursion"), ("group", "=", 'it\'s "mine"')}
    assert view["spec"]["section"]["settings"]["xAxis"] == "generation"
    assert {panel["config"]["xAxis"] for panel in panels} == {"generation"}
    metrics = [metric for panel in panels for metric in panel["config"]["metrics"]]
    headline = ["rule/net_stereotype_rate", "embedding/effect_size", "downstream/bias", "generation/yield"]
    assert {*headline, *(f"mitigated/{name}" for name in headline)} <= set(metrics)
    assert len(metrics) == len(set(metrics))
    titles = {panel["config"]["metrics"][0]: panel["config"]["chartTitle"] for panel in panels}
    assert titles["downstream/bias"] == "downstream bias (the closer to 0 the better)"
    assert {panel["config"]["groupBy"] for panel in panels} == {"strategies.value"}


@pytest.mark.parametrize(
    ("study", "group", "kind"),
    [("fair_gender", "debias_name", "Run History Line Plot"), ("evaluate", "plm_name", "Bar Chart")],
)
def test_other_studies_compare_benchmarks(study, group, kind):
    runset, panels = panels_of(sweep_view("lab/fairloop", study)._spec)
    assert runset["grouping"] == [{"section": "config", "name": f"{group}.value"}]
    metrics = [panel["config"]["metrics"][0] for panel in panels]
    assert {"seat/mean_abs_effect_size", "stereoset/overall/icat", "crows_pairs/overall/score"} <= set(metrics)
    assert {panel["viewType"] for panel in panels} == {
        "Run History Line Plot" if study == "fair_gender" else "Bar Chart"
    }


@pytest.fixture
def service(monkeypatch, tmp_path):
    with serving() as one:
        monkeypatch.setenv("WANDB_BASE_URL", one.address)
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        yield one


def test_the_command_saves_both_and_prints_their_addresses(service, tmp_path):
    """In a process of its own, for W&B reads its address once."""
    arguments = ["lab/fairloop", "--group", "sweep-1"]
    code = f"import sys; from fairloop.report.wandb.command import command; sys.exit(command({arguments!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    view, report = service.views
    first, second = done.stdout.split()
    assert first.startswith(f"{service.address}/lab/fairloop?nw=")
    assert second.startswith(f"{service.address}/lab/fairloop/reports/Fairloop-recursion:-sweep-1--")
    assert (view["type"], view["displayName"]) == ("project-view", "Fairloop recursion: sweep-1")
    assert report["type"] == "runs"
    grids = [block for block in report["spec"]["blocks"] if block["type"] == "panel-grid"]
    chosen = [
        {one["key"]["name"]: one["value"] for one in grid["metadata"]["runSets"][0]["filters"]["filters"]}
        for grid in grids
    ]
    cells = {"jobType": "recursion", "group": "sweep-1"}
    assert chosen == [cells, cells, {"jobType": "sweep", "group": "sweep-1"}, cells]
    panels = grids[0]["metadata"]["panelBankSectionConfig"]["panels"]
    assert [panel["config"]["xAxis"] for panel in panels] == ["generation"] * len(LAYOUTS["recursion"].metrics)
    assert grids[0]["metadata"]["runSets"][0]["grouping"] == [{"section": "config", "name": "strategies.value"}]


def test_a_report_needs_no_network_until_it_is_saved():
    words = repr(sweep_report("lab/fairloop", "recursion", "sweep-1"))
    assert "the closer to 0 the better" in words


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
