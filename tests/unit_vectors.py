"""How close paired vectors are, and how evenly vectors are spread: what contrastive training is about."""

from torch import Tensor, pdist
from torch.nn import functional


def alignment(first: Tensor, second: Tensor) -> float:
    """Return the mean squared distance of paired unit vectors [n, d]; 0 if pairs coincide (Wang & Isola 2020)."""
    difference = functional.normalize(first.double(), dim=1) - functional.normalize(second.double(), dim=1)
    return float(difference.pow(2).sum(dim=1).mean())


def uniformity(vectors: Tensor) -> float:
    """Return log mean exp(−2‖x − y‖²) over pairs of unit vectors; lower is more evenly spread (Wang & Isola 2020)."""
    distances = pdist(functional.normalize(vectors.double(), dim=1))
    return float(distances.pow(2).mul(-2).exp().mean().log())
