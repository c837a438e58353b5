"""Two cells or two sweeps against each other."""
