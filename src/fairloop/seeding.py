"""Random numbers that depend on (seed, stage, item) and on nothing that ran before."""

import hashlib

import numpy as np


def derive(seed: int, stage: str, *items: int | str) -> int:
    """Return a 63-bit seed for one item of one stage; equal arguments give equal seeds, on any machine."""
    text = "\x1f".join([str(seed), stage, *map(str, items)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def random_generator(seed: int, stage: str, *items: int | str) -> np.random.Generator:
    """Return NumPy's Philox generator, seeded with `derive(seed, stage, *items)`."""
    return np.random.Generator(np.random.Philox(derive(seed, stage, *items)))
