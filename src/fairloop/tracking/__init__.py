"""The run store, in which a killed study goes on where it stopped, and Weights & Biases."""
