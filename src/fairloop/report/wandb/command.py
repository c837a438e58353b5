"""The command `fairloop-wandb`: a report and a saved view of a sweep on Weights & Biases."""

from collections.abc import Sequence

from fairloop import console
from fairloop.console import Parser, entry


@entry("fairloop-wandb")
def command(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    from fairloop.report.wandb.report import LAYOUTS, save

    parser = Parser(
        prog="fairloop-wandb", description="Save a report and a view of a sweep to its Weights & Biases project."
    )
    parser.add_argument("project", metavar="ENTITY/PROJECT", help="where the runs are")
    parser.add_argument("--group", metavar="SWEEP", help="the runs' group (tracking.group); default: all runs")
    parser.add_argument("--study", choices=tuple(LAYOUTS), default="recursion", help="what the runs are (recursion)")
    parser.add_argument("--report", action="store_true", help="save the report; both without --report and --view")
    parser.add_argument("--view", action="store_true", help="save the view of the project's workspace")
    options = parser.parse_args(arguments)
    both = not (options.report or options.view)
    addresses = save(
        options.project, options.study, options.group, view=options.view or both, report=options.report or both
    )
    for address in addresses:
        console.say(address)
    return 0
