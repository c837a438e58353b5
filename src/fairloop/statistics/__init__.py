"""Intervals, tests and estimates: bootstrap, permutation, the fixed point of a recursion, corrections."""
