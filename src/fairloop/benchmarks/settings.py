"""What the settings of every benchmark (config group `benchmark`) have in common."""

from pydantic import Field

from fairloop.settings import Settings, incidental
from fairloop.statistics.bootstrap import RESAMPLES


class BenchmarkSettings(Settings):
    """Settings of one benchmark; each benchmark adds its own in its own file."""

    name: str = Field(description="The benchmark: the name of its file in fairloop/benchmarks")
    data: str | None = incidental(
        None,
        description="Folder with the publisher's files, or one with a folder per benchmark; null: cache, publisher",
    )
    verify: bool = Field(True, description="Refuse data whose checksum is not the publisher's")


class ResampledSettings(BenchmarkSettings):
    """Settings of a benchmark whose intervals are from resamples."""

    resamples: int = Field(RESAMPLES, ge=1, le=100_000, description="Bootstrap resamples of each 95% interval")
