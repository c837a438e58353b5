"""Sweeps: plan the cells of a command, hand what is missing to a launcher or a search, and show them all at the end."""
