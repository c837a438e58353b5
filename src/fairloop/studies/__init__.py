"""The studies: each a short script of named stages that reads like its method section."""
