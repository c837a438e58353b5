"""W&B reports and saved views of a sweep: one section and one view for each comparison.

Runs are grouped by their condition (`fairloop.naming`), so that a line or a bar is the mean of runs that differ in the
seed alone, and its band the standard error of that mean: never a mean over levels, models or variants.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fairloop.catalogue import catalogue
from fairloop.errors import Fault, UserError
from fairloop.measures.catalogue import Declared, Subject
from fairloop.naming import ABLATED, FULL
from fairloop.packages import needs
from fairloop.tracking.wandb_service import in_one_line
from fairloop.tracking.wandb_sweep import JOB_TYPE

if TYPE_CHECKING:
    import wandb_workspaces.reports.v2 as reports
    import wandb_workspaces.workspaces as workspaces

MOST_RUNS = 100
"""Runs that a panel shows; W&B's own default is ten."""

CONDITION = "condition"
"""The key of a run's config that holds everything but the seed."""


@dataclass(frozen=True)
class Layout:
    """How the runs of a study are shown.

    Attributes:
        subject: what the metrics that are shown are of.
        columns: keys of the runs' config that stand beside them.
        over: the metric on the x axis; empty for bars of the runs' final values.
        apart: the key of the config whose values are compared each for itself; empty for all runs together.
        prefix: what the same metrics are called after a mitigation's change, or before a debiasing; empty for neither.
    """

    subject: Subject
    columns: tuple[str, ...]
    over: str = ""
    apart: str = ""
    prefix: str = ""

    @property
    def metrics(self) -> list[Declared]:
        """The headline metrics."""
        return catalogue().headlines(self.subject)


LAYOUTS = {
    "recursion": Layout(
        "corpus",
        ("model_name", "initial_bias_name", "strategies"),
        over="generation",
        apart="initial_bias_name",
        prefix="mitigated/",
    ),
    "fair_gender": Layout("plm", ("plm_name", "debias_name", "ablation_name"), prefix="before/"),
    "evaluate": Layout("plm", ("plm_name", "benchmark_name")),
}
"""The studies whose sweeps are compared."""


@dataclass(frozen=True)
class Comparison:
    """One question about a study's runs: a section of the report, and a saved view.

    Attributes:
        study: a study of `LAYOUTS`.
        title: the question, in few words.
        chosen: which runs, as a condition in W&B's own words beside those of study and sweep; empty for all of them.
        sweep: the sweep (`tracking.sweep`); None for all runs of the study.
    """

    study: str
    title: str
    chosen: str = ""
    sweep: str | None = None

    @property
    def layout(self) -> Layout:
        """How its runs are shown."""
        return LAYOUTS[self.study]

    @property
    def filters(self) -> str:
        """The filter of its runs."""
        return " and ".join(filter(None, [_filters(self.study, self.sweep), self.chosen]))

    @property
    def name(self) -> str:
        """What the saved view is called."""
        return f"Fairloop: {self.title}" + (f" ({self.sweep})" if self.sweep else "")


def comparisons(study: str, sweep: str | None = None, apart: Iterable[str] = ()) -> list[Comparison]:
    """Return the comparisons of a study's runs.

    Args:
        study: a study of `LAYOUTS`.
        sweep: the sweep; None for all runs of the study.
        apart: for `recursion` the names of the initial levels, each of which is compared for itself.
    """
    if study == "recursion":
        of_level = "Config('initial_bias_name') = {!r}"
        return [Comparison(study, f"mitigations at initial bias {one}", of_level.format(one), sweep) for one in apart]
    if study == "fair_gender":
        method, whole = f"Config('debias_name') {{}} {ABLATED!r}", f"Config('ablation_name') = {FULL!r}"
        return [
            Comparison(study, "what each component of Fair-Gender buys", method.format("="), sweep),
            Comparison(study, "debias methods", f"({method.format('!=')} or {whole})", sweep),
        ]
    return [Comparison(study, "PLMs on benchmarks", "", sweep)]


def view_of(project: str, comparison: Comparison) -> "workspaces.Workspace":
    """Return the view of a comparison, not saved yet; `project`: `ENTITY/PROJECT`."""
    import wandb_workspaces.workspaces as workspaces

    layout = comparison.layout
    entity, name = project.split("/")
    sections = [
        workspaces.Section(title, panels=panels, is_open=True, pinned=place == 0)
        for place, (title, panels) in enumerate(_sections(layout))
    ]
    columns = [*(f"config:{key}.value" for key in layout.columns), "config:seed.value", "run:state"]
    return workspaces.Workspace(
        entity=entity,
        project=name,
        name=comparison.name,
        sections=sections,
        settings=workspaces.WorkspaceSettings(x_axis=layout.over or "Step", max_runs=MOST_RUNS),
        runset_settings=workspaces.RunsetSettings(
            filters=comparison.filters,
            groupby=[workspaces.Config(CONDITION)],
            pinned_columns=[*columns, *(f"summary:{row.pattern}" for row in layout.metrics)],
        ),
    )


def report_of(
    project: str, study: str, sweep: str | None = None, compared: Sequence[Comparison] = ()
) -> "reports.Report":
    """Return the report of a study's runs, not saved yet: a section for each comparison, and the table of all cells."""
    import wandb_workspaces.reports.v2 as reports

    entity, name = project.split("/")
    layout = LAYOUTS[study]

    def runset(title: str, filters: str, *groups: str) -> reports.Runset:
        return reports.Runset(entity=entity, project=name, name=title, filters=filters, groupby=list(groups))

    blocks: list[object] = [
        reports.P(
            "Runs are grouped by their condition: everything but the seed. A line or a bar is the mean over seeds, its "
            "band the standard error of that mean."
        ),
        reports.UnorderedList([f"{row.title} ({row.pattern}): {in_words(row)}" for row in layout.metrics]),
    ]
    for one in compared:
        runs = runset(one.title, one.filters, f"config.{CONDITION}")
        blocks.append(reports.H1(one.title[:1].upper() + one.title[1:]))
        for title, panels in _sections(layout):
            blocks += [reports.H2(title), reports.PanelGrid(runsets=[runs], panels=panels)]
    table = reports.WeavePanelSummaryTable(table_name="cells", layout=_wide())
    blocks += [
        reports.H1("All cells"),
        reports.P("The sweep's own run: every cell with its choices, its status and its headline metrics."),
        reports.PanelGrid(runsets=[runset("sweep", _filters(JOB_TYPE, sweep))], panels=[table]),
        reports.H1("What differs between the runs"),
        reports.PanelGrid(
            runsets=[runset("cells", _filters(study, sweep), f"config.{CONDITION}")],
            panels=[reports.RunComparer(diff_only="split", layout=_wide())],
        ),
    ]
    title = f"Fairloop {study}: {sweep or 'all runs'}"
    return reports.Report(project=name, entity=entity, title=title[:128], blocks=blocks, width="fluid")


def save(
    project: str, study: str, sweep: str | None, apart: Sequence[str] = (), *, view: bool, report: bool
) -> list[str]:
    """Save the views, the report or both to the service and return their addresses.

    Args:
        project: `ENTITY/PROJECT`.
        study: a study of `LAYOUTS`.
        sweep: the sweep; None for all runs of the study.
        apart: as of `comparisons`; empty for every level that the project's runs have.
        view: whether to save the views.
        report: whether to save the report.

    Raises:
        UserError: the extra `sweep` is not installed, there is no key, or the project has no such runs.
        Fault: the service cannot be reached, or refuses.
    """
    from fairloop.report.wandb.read import check_project, check_service

    check_project(project)
    if study not in LAYOUTS:
        raise UserError.of("study", study, f"one of {', '.join(LAYOUTS)}")
    check_service()
    try:
        key = LAYOUTS[study].apart
        compared = comparisons(study, sweep, apart or (_values(project, study, sweep, key) if key else ()))
        if not compared:
            which = f"study={study}" + (f" and sweep={sweep}" if sweep else "")
            raise UserError(f"Weights & Biases: {project} has no run of {which}")
        made = [view_of(project, one).save() for one in compared] if view else []
        made += [report_of(project, study, sweep, compared).save()] if report else []
        return [str(one.url) for one in made]
    except UserError:
        raise
    except ImportError as error:
        raise UserError(f"fairloop-wandb {needs('sweep', 'wandb-workspaces')}") from error
    except Exception as error:  # W&B raises errors of many kinds, its own and its transport's
        raise Fault(f"Weights & Biases, {project}: {in_one_line(error)}") from error


def in_words(row: Declared) -> str:
    """Return which way is better, as a reader is told."""
    if row.goal == "ideal":
        return f"the closer to {row.ideal:g} the better"
    return {"minimize": "less is better", "maximize": "more is better"}.get(row.goal, "neither way is better")


def _values(project: str, study: str, sweep: str | None, key: str) -> list[str]:
    """Return the values that a key of the config has among a project's runs, in order."""
    import wandb

    filters = {"jobType": study, **({"config.sweep": sweep} if sweep else {})}
    runs = wandb.Api().runs(project, filters=filters, lazy=False)
    return sorted({str(run.config[key]) for run in runs if key in run.config})


def _filters(job_type: str, sweep: str | None) -> str:
    """Return the filter of runs in W&B's own words."""
    chosen = [f"Metric('JobType') = {job_type!r}"]
    if sweep is not None:
        chosen.append(f"Config('sweep') = {sweep!r}")
    return " and ".join(chosen)


def _sections(layout: Layout) -> "list[tuple[str, list[reports.LinePlot | reports.BarPlot]]]":
    """Return the panels of a layout with their titles: lines over generations, or bars of before and after."""
    if not layout.over:
        prefixes = (layout.prefix, "") if layout.prefix else ("",)
        return [("Headline metrics" + (" before and after" if layout.prefix else ""), _panels(layout, prefixes))]
    after = [("After the mitigation's change", _panels(layout, (layout.prefix,)))] if layout.prefix else []
    return [("Headline metrics", _panels(layout, ("",))), *after]


def _panels(layout: Layout, prefixes: Sequence[str]) -> "list[reports.LinePlot | reports.BarPlot]":
    import wandb_workspaces.reports.v2 as reports

    panels: list[reports.LinePlot | reports.BarPlot] = []
    for place, row in enumerate(layout.metrics):
        shared = {
            "title": f"{row.title} ({in_words(row)})",
            "groupby": reports.Config(CONDITION),
            "groupby_aggfunc": "mean",
            "groupby_rangefunc": "stderr",
            "max_runs_to_show": MOST_RUNS,
            "layout": reports.Layout(x=8 * (place % 3), y=6 * (place // 3), w=8, h=6),
        }
        metrics = [prefix + row.pattern for prefix in prefixes]
        if layout.over:
            panels.append(reports.LinePlot(x=layout.over, y=metrics, title_x=layout.over, **shared))
        else:
            panels.append(reports.BarPlot(metrics=metrics, max_bars_to_show=MOST_RUNS, **shared))
    return panels


def _wide() -> "reports.Layout":
    import wandb_workspaces.reports.v2 as reports

    return reports.Layout(w=24, h=12)
