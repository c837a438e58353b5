"""A W&B report and a saved view of a sweep: grouped by mitigation, generations on the x axis, headline metrics."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fairloop.catalogue import catalogue
from fairloop.errors import Fault, UserError
from fairloop.measures.catalogue import Declared, Subject
from fairloop.packages import needs
from fairloop.tracking.wandb_service import in_one_line
from fairloop.tracking.wandb_sweep import JOB_TYPE

if TYPE_CHECKING:
    import wandb_workspaces.reports.v2 as reports
    import wandb_workspaces.workspaces as workspaces

MOST_RUNS = 100
"""Runs that a panel shows; W&B's own default is ten."""


@dataclass(frozen=True)
class Layout:
    """How the runs of a study are compared.

    Attributes:
        group: the key of the runs' config by which they are grouped.
        subject: what the metrics that are shown are of.
        over: the metric on the x axis; empty for bars of the runs' final values.
        prefix: what the same metrics are called after a mitigation's change; empty where there is none.
    """

    group: str
    subject: Subject
    over: str = ""
    prefix: str = ""

    @property
    def metrics(self) -> list[Declared]:
        """The headline metrics."""
        return catalogue().headlines(self.subject)


LAYOUTS = {
    "recursion": Layout("strategies", "corpus", "generation", "mitigated/"),
    "fair_gender": Layout("debias_name", "plm", "generation"),
    "evaluate": Layout("plm_name", "plm"),
}
"""The studies whose sweeps are compared."""


def sweep_view(project: str, study: str, group: str | None = None) -> "workspaces.Workspace":
    """Return the view of a sweep, not saved yet.

    Args:
        project: `ENTITY/PROJECT`.
        study: a study of `LAYOUTS`.
        group: the sweep; None for all runs of the study.
    """
    import wandb_workspaces.workspaces as workspaces

    layout = LAYOUTS[study]
    entity, name = project.split("/")
    sections = [workspaces.Section("Headline metrics", panels=_panels(layout), is_open=True, pinned=True)]
    if layout.prefix:
        after = _panels(layout, layout.prefix)
        sections.append(workspaces.Section("After the mitigation's change", panels=after, is_open=True))
    chosen = [f"summary:{row.pattern}" for row in layout.metrics]
    return workspaces.Workspace(
        entity=entity,
        project=name,
        name=f"Fairloop {study}: {group or 'all runs'}",
        sections=sections,
        settings=workspaces.WorkspaceSettings(x_axis=layout.over or "Step", max_runs=MOST_RUNS),
        runset_settings=workspaces.RunsetSettings(
            filters=_filters(study, group),
            groupby=[workspaces.Config(layout.group)],
            pinned_columns=[f"config:{layout.group}.value", "config:seed.value", "run:state", *chosen],
        ),
    )


def sweep_report(project: str, study: str, group: str | None = None) -> "reports.Report":
    """Return the report of a sweep, not saved yet; arguments as of `sweep_view`."""
    import wandb_workspaces.reports.v2 as reports

    layout = LAYOUTS[study]
    entity, name = project.split("/")
    cells = reports.Runset(
        entity=entity,
        project=name,
        name="cells",
        filters=_filters(study, group),
        groupby=[f"config.{layout.group}"],
    )
    sweep = reports.Runset(entity=entity, project=name, name="sweep", filters=_filters(JOB_TYPE, group))
    blocks = [
        reports.H1("Headline metrics"),
        reports.P(f"Runs are grouped by {layout.group}: the mean of each group, and its range from least to most."),
        reports.UnorderedList([f"{row.title} ({row.pattern}): {in_words(row)}" for row in layout.metrics]),
        reports.PanelGrid(runsets=[cells], panels=_panels(layout)),
    ]
    if layout.prefix:
        blocks += [
            reports.H1("After the mitigation's change to the corpus"),
            reports.PanelGrid(runsets=[cells], panels=_panels(layout, layout.prefix)),
        ]
    table = reports.WeavePanelSummaryTable(table_name="cells", layout=_wide())
    blocks += [
        reports.H1("All cells"),
        reports.P("The sweep's own run: every cell with its choices, its status and its headline metrics."),
        reports.PanelGrid(runsets=[sweep], panels=[table]),
        reports.H1("What differs between the runs"),
        reports.PanelGrid(runsets=[cells], panels=[reports.RunComparer(diff_only="split", layout=_wide())]),
    ]
    title = f"Fairloop {study}: {group or 'all runs'}"
    return reports.Report(project=name, entity=entity, title=title[:128], blocks=blocks, width="fluid")


def save(project: str, study: str, group: str | None, *, view: bool, report: bool) -> list[str]:
    """Save the view, the report or both to the service and return their addresses.

    Raises:
        UserError: the extra `sweep` is not installed, or there is no key.
        Fault: the service cannot be reached, or refuses.
    """
    from fairloop.report.wandb.read import check_project, check_service

    check_project(project)
    if study not in LAYOUTS:
        raise UserError.of("study", study, f"one of {', '.join(LAYOUTS)}")
    check_service()
    try:
        made = [sweep_view(project, study, group).save()] if view else []
        made += [sweep_report(project, study, group).save()] if report else []
        return [str(one.url) for one in made]
    except ImportError as error:
        raise UserError(f"fairloop-wandb {needs('sweep', 'wandb-workspaces')}") from error
    except Exception as error:  # W&B raises errors of many kinds, its own and its transport's
        raise Fault(f"Weights & Biases, {project}: {in_one_line(error)}") from error


def in_words(row: Declared) -> str:
    """Return which way is better, as a reader is told."""
    if row.goal == "ideal":
        return f"the closer to {row.ideal:g} the better"
    return {"minimize": "less is better", "maximize": "more is better"}.get(row.goal, "neither way is better")


def _filters(job_type: str, group: str | None) -> str:
    """Return the filter of runs in W&B's own words."""
    chosen = [f"Metric('JobType') = {job_type!r}"]
    if group is not None:
        chosen.append(f"Metric('Group') = {group!r}")
    return " and ".join(chosen)


def _panels(layout: Layout, prefix: str = "") -> "Sequence[reports.LinePlot | reports.BarPlot]":
    import wandb_workspaces.reports.v2 as reports

    panels: list[reports.LinePlot | reports.BarPlot] = []
    for place, row in enumerate(layout.metrics):
        where = reports.Layout(x=8 * (place % 3), y=6 * (place // 3), w=8, h=6)
        shared = {
            "title": f"{row.title} ({in_words(row)})",
            "groupby": reports.Config(layout.group),
            "groupby_aggfunc": "mean",
            "groupby_rangefunc": "minmax",
            "max_runs_to_show": MOST_RUNS,
            "layout": where,
        }
        metric = prefix + row.pattern
        if layout.over:
            panels.append(reports.LinePlot(x=layout.over, y=[metric], title_x=layout.over, **shared))
        else:
            panels.append(reports.BarPlot(metrics=[metric], **shared))
    return panels


def _wide() -> "reports.Layout":
    import wandb_workspaces.reports.v2 as reports

    return reports.Layout(w=24, h=12)
