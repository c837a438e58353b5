"""MABEL's losses (He et al. 2022) on counterfactual pairs."""
