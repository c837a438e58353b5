"""The catalogue of every measure, and the type that carries one."""
