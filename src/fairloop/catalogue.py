"""The catalogue of every measure that Fairloop takes, gathered from where each is computed."""

from functools import cache

from fairloop.benchmarks.registry import benchmarks
from fairloop.corpus import label_errors
from fairloop.generation import measures as writing
from fairloop.measures.catalogue import Catalogue, gathered
from fairloop.metrics import calibration
from fairloop.metrics.registry import metrics
from fairloop.pairs import pair


@cache
def catalogue() -> Catalogue:
    """Return the catalogue: corpus metrics, what writing a corpus took, benchmarks, pairs, and calibrations."""
    return gathered(
        *(("corpus", metric.measures) for metric in metrics().values()),
        ("corpus", writing.MEASURES),
        *(("plm", benchmark.declared) for benchmark in benchmarks().values()),
        ("", label_errors.MEASURES),
        ("", pair.MEASURES),
        ("", calibration.MEASURES),
    )
