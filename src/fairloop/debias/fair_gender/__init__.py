"""Fair-Gender (arXiv 2501.06795): a filter of pairs, and their incorporation into a language model."""
