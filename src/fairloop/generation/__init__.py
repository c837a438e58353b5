"""Generators: language models that write sentences, in this process or behind a server."""
