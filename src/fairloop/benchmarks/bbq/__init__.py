"""BBQ (Parrish et al. 2022)."""

from fairloop.benchmarks.bbq.benchmark import BENCHMARK

__all__ = ["BENCHMARK"]
