"""What every generator offers, wherever its model runs."""

from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from fairloop.generation.requests import Attempt, Completion
from fairloop.generation.server_settings import ServerSettings
from fairloop.generation.settings import ModelSettings


class Generator(Protocol):
    """Writes a text for every attempt in a queue that may grow while it is worked off."""

    def complete(self, queue: deque[Attempt]) -> Iterator[Completion]:
        """Take attempts from `queue` and yield completions, in any order, until it is empty and all are answered.

        The caller may append to `queue` between two completions: a rejected text is asked for again that way.
        The text of an attempt depends on the attempt and on the generator's settings alone. Of two equal texts the one
        that is yielded first is kept. A server's answers arrive by chance: it yields them in the order of the queue, so
        that a second run keeps the same ones.
        """
        ...


def open_generator(
    settings: ModelSettings | ServerSettings, accelerator: str, scratch: Callable[[], Path] | None = None
) -> Generator:
    """Return the generator that the config group `model` describes; for one in this process the model is loaded.

    Args:
        settings: a model in this process, or one behind a server.
        accelerator: `cpu`, `gpu` or `auto`: where a model in this process runs.
        scratch: returns the running stage's folder that survives a kill: a server's answers are kept there.

    Raises:
        UserError: no such model or device, or the environment variable of a server's key is not set.
        Fault: no network, no access, or damaged files.
    """
    if isinstance(settings, ServerSettings):
        from fairloop.generation.server import ServerGenerator

        return ServerGenerator(settings, scratch)
    from fairloop.generation.in_process import InProcessGenerator
    from fairloop.plm.locate import torch_device

    return InProcessGenerator.load(settings, torch_device(accelerator))
