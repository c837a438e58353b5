"""MABEL's losses (He et al. 2022) on entailment pairs, or on counterfactual pairs in their place."""
