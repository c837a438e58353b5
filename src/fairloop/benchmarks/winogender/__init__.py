"""WinoGender (Rudinger et al. 2018)."""

from fairloop.benchmarks.winogender.benchmark import BENCHMARK

__all__ = ["BENCHMARK"]
