"""Pairs of a Fair-Gender cell, for inspection."""
