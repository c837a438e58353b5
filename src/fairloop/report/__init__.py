"""Comparison tables, figures and the HTML page. Reads the run store, needs no study and no torch."""
