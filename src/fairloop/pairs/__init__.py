"""Counterfactual pairs of sentences: written by a generator, from templates, from a corpus; verified and screened."""
