"""The command `fairloop-wandb`: a report and saved views of a sweep on Weights & Biases."""

from collections.abc import Sequence

from fairloop import console
from fairloop.console import Parser, entry
from fairloop.errors import UserError


@entry("fairloop-wandb")
def command(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    from fairloop.report.wandb.report import LAYOUTS, save

    parser = Parser(
        prog="fairloop-wandb", description="Save a report and views of a sweep to its Weights & Biases project."
    )
    parser.add_argument("project", metavar="ENTITY/PROJECT", help="where the runs are")
    parser.add_argument("--sweep", metavar="NAME", help="the runs' sweep (tracking.sweep); default: all runs")
    parser.add_argument("--study", choices=tuple(LAYOUTS), default="recursion", help="what the runs are (recursion)")
    parser.add_argument(
        "--level",
        action="append",
        default=[],
        metavar="NAME",
        help="study=recursion: an initial bias to compare the mitigations at, as high or 0.45; again for more of them; "
        "default: each that the runs have",
    )
    parser.add_argument("--report", action="store_true", help="save the report; both without --report and --view")
    parser.add_argument("--view", action="store_true", help="save the views of the project's workspace")
    options = parser.parse_args(arguments)
    if options.level and options.study != "recursion":
        raise UserError.of("--level", options.level[0], "goes with --study recursion")
    both = not (options.report or options.view)
    addresses = save(
        options.project,
        options.study,
        options.sweep,
        options.level,
        view=options.view or both,
        report=options.report or both,
    )
    for address in addresses:
        console.say(address)
    return 0
