"""Pre-trained language models: find and load them, score tokens and sentences, embed sentences."""
