"""Fairloop: gender bias in recursively generated text, and debiased pre-trained language models."""

__version__ = "0.1.0"
