"""How many inputs each target was given in this process."""

from collections import Counter


class Tried(Counter[str]):
    """Inputs by target; `latest` is the target of the last input, which is the failing one where a property fails."""

    latest = ""

    def __setitem__(self, name: str, number: int) -> None:
        self.latest = name
        super().__setitem__(name, number)


tried = Tried()
