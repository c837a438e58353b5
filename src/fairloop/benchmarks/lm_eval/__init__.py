"""Fairloop's own measures of a causal model as tasks of the lm-evaluation-harness (`fairloop-data --lm-eval`)."""
