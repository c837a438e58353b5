"""The two ways in which Fairloop ends early, and the exit status of each.

A user's mistake ends a command with status 2 and one line that names the key, the value and what is
allowed; a fault of the surroundings (a full disk, a damaged file, no network) ends it with status 1.
"""

import unicodedata

LONGEST_SHOWN = 200
"""Characters of the value that was given, in the line of a mistake in a configuration."""

LONGEST = 2000
"""Characters of the one line; of a longer one the middle is left out."""


_STEERING = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode's categories of what a terminal acts on or cannot show: control, format, surrogates, line separators."""


def printable(text: str) -> str:
    """Return one line of printable characters alone: all others are spelled out, and a very long one is cut."""
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} … {text[-LONGEST // 4 :]}"
    return "".join(one if one.isprintable() else _escape(one) for one in text)


def spelled_out(text: str) -> str:
    """Return a text in which control and format characters, but line feeds and tabs, are escapes such as `\\x1b`."""
    if text.isprintable():
        return text
    return "".join(
        _escape(one) if unicodedata.category(one) in _STEERING and one not in "\n\t" else one for one in text
    )


def plain(text: str) -> str:
    """Return `text` as one line: control and format characters removed, white space collapsed."""
    if text.isprintable():  # nothing to remove, as in nearly every sentence: sixty times as fast
        return " ".join(text.split())
    kept = (" " if char.isspace() else char for char in text if char.isspace() or unicodedata.category(char)[0] != "C")
    return " ".join("".join(kept).split())


def _escape(one: str) -> str:
    return one.encode("unicode_escape").decode()


def shown(value: object) -> str:
    """Return a value that was given as it stands in the line of a mistake: `null`, and not endlessly long."""
    if isinstance(value, int) and value.bit_length() > 1000:
        return f"a whole number of about {value.bit_length() * 3 // 10} digits"
    try:
        text = "null" if value is None else str(value)
    except ValueError:  # Python writes no number of more than 4300 digits
        return "something with a number of thousands of digits"
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 3]}..."


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
        return cls(f"{key}={value if isinstance(value, str) else shown(value)}: {allowed}")


def first_line(error: object, otherwise: str = "") -> str:
    """Return the first line of another library's error, or `otherwise` if it says nothing."""
    return next(iter(str(error).strip().splitlines()), otherwise)
