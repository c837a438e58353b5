"""The two ways in which Fairloop ends early, and the exit status of each.

A user's mistake ends a command with status 2 and one line that names the key, the value and what is
allowed; a fault of the surroundings (a full disk, a damaged file, no network) ends it with status 1.
"""

LONGEST = 2000
"""Characters of the one line; of a longer one the middle is left out."""


def printable(text: str) -> str:
    """Return a text that a terminal takes for text: control characters are spelled out, a very long one is cut."""
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} … {text[-LONGEST // 4 :]}"
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


class FairloopError(Exception):
    """One line for the user, and the exit status of the command."""

    exit_status = 1

    def __init__(self, message: str) -> None:
        super().__init__(printable(" ".join(message.split())))


class Fault(FairloopError):
    """Something outside the configuration went wrong: the same command may work later."""

    exit_status = 1


class UserError(FairloopError):
    """A mistake in the command or the configuration: the same command will fail again."""

    exit_status = 2

    @classmethod
    def of(cls, key: str, value: object, allowed: str) -> "UserError":
        """Build the line that names the key, the value given and what is allowed."""
        return cls(f"{key}={value}: {allowed}")


def first_line(error: object, otherwise: str = "") -> str:
    """Return the first line of another library's error, or `otherwise` if it says nothing."""
    return next(iter(str(error).strip().splitlines()), otherwise)
