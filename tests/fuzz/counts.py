"""How many inputs each target was given in this process."""

from collections import Counter

tried: Counter[str] = Counter()
