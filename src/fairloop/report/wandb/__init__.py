"""Weights & Biases: a project read back as a run store, and the report and view of a sweep made there."""
