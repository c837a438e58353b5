"""One process of a training on several devices: `python -m fairloop.training.worker job.json`, started by `launch`."""

import json
import os
import sys
from pathlib import Path
from typing import Any

from fairloop.errors import FairloopError


def main() -> int:
    """Run the job; report progress, loss curves and errors to the starter as lines of JSON."""
    from fairloop.training.job import TrainingJob
    from fairloop.training.train import work

    reports = sys.stdout
    sys.stdout = sys.stderr  # whatever a library prints is no report

    def report(*values: Any) -> None:
        print(json.dumps(values), file=reports, flush=True)

    try:
        work(
            TrainingJob.read(
                Path(sys.argv[1]),
                on_progress=lambda done, total: report("progress", done, total),
                on_logged=lambda curve, step, values: report("logged", curve, step, values),
            )
        )
    except FairloopError as error:
        report(type(error).__name__, str(error))
        print(error, file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    # A worker that failed leaves at once: tearing the process group down would wait for the others.
    os._exit(status) if status else sys.exit(0)
