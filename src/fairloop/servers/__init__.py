"""Asking a server that speaks OpenAI's HTTP schema: where it is, how it is reached, what it understands."""
