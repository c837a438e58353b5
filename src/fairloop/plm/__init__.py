"""Pre-trained language models: located, loaded, and used to score and embed sentences."""
