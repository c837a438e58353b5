"""Pre-trained language models that are measured: loading, token and sentence scores, sentence embeddings."""
