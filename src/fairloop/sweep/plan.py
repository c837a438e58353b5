"""What a command has before it: its cells and what the store says of each."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from fairloop import console
from fairloop.sweep.jobs import Job
from fairloop.tracking.store import Status
from fairloop.words import counted

MOST_LISTED = 20


@dataclass(frozen=True)
class Plan:
    """The cells of a command, each once, with its status when the command began."""

    jobs: tuple[Job, ...]
    statuses: tuple[Status, ...]

    @classmethod
    def of(cls, jobs: Sequence[Job]) -> "Plan":
        """Look every cell up; nothing is written and nothing is waited for."""
        return cls(tuple(jobs), tuple(job.status() for job in jobs))

    def having(self, *states: str) -> list[Job]:
        """Return the cells that were in one of these states."""
        return [job for job, status in zip(self.jobs, self.statuses, strict=True) if status.state in states]

    @cached_property
    def missing(self) -> list[Job]:
        """The cells that this command works on."""
        left = ("complete", "failed") if not self._retries else ("complete",)
        return [job for job, status in zip(self.jobs, self.statuses, strict=True) if status.state not in left]

    @cached_property
    def given_up(self) -> list[tuple[Job, Status]]:
        """The cells that failed before and are not tried again (`retry_failed=false`)."""
        if self._retries:
            return []
        return [pair for pair in zip(self.jobs, self.statuses, strict=True) if pair[1].state == "failed"]

    @property
    def _retries(self) -> bool:
        return self.jobs[0].configuration.retry_failed

    def say(self) -> None:
        """Print how many cells are complete, to do, failed and interrupted, and those that are left failed."""
        count = Counter(status.state for status in self.statuses)
        cells = counted(len(self.jobs), "cell")
        parts = [f"{count['complete']} complete", f"{count['absent']} to do"]
        if count["failed"]:
            parts.append(f"{count['failed']} failed ({'tried again' if self._retries else 'not tried again'})")
        if count["interrupted"]:
            parts.append(f"{count['interrupted']} interrupted (going on)")
        if count["running"]:
            parts.append(f"{count['running']} at work in another process")
        console.say(f"{cells} in {self.jobs[0].configuration.runs_dir}: {', '.join(parts)}")
        numerics = Counter("; ".join(status.numerics) for status in self.statuses if status.numerics)
        if len(numerics) > 1:
            found = "; ".join(f"{count} with {what}" for what, count in numerics.most_common())
            console.say(
                f"the complete cells were not computed alike, equal in distribution but not to the byte: {found}"
            )
        for job, status in self.given_up[:MOST_LISTED]:
            console.say(
                f"failed, not tried again (retry_failed=false): {job.cell.study}/{job.cell.key}: {status.reason}"
            )
        if len(self.given_up) > MOST_LISTED:
            console.say(f"and {len(self.given_up) - MOST_LISTED} more that failed")
