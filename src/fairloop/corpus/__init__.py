"""The corpus: its schema, the seed corpus, gender and stereotype labels, counterfactual swapping."""
