"""Recursion: conditions, where their bias settles, and what each mitigation changes."""
