import hashlib
import re
from functools import cache

import numpy as np
import pytest


@cache
def _word_vector(word):
    seed = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "big")
    return np.random.default_rng(seed).normal(size=64)


@pytest.fixture
def embed():
    """A small deterministic encoder: the mean of one random vector per word."""

    def bag_of_words(texts):
        rows = [[_word_vector(word) for word in re.findall(r"\w+", text.lower())] for text in texts]
        return np.array([np.mean(row, axis=0) for row in rows]).reshape(len(texts), 64).astype(np.float32)

    return bag_of_words
