"""The fixtures of these tests; what else they share is in `generation_models`, which is one module under any path."""

from generation_models import *  # noqa: F403
