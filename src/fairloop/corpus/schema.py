"""The columns of every corpus, and the values of its labels."""

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Features

Gender = Literal["male", "female", "mixed", "none"]

GENDERS: tuple[Gender, ...] = ("male", "female", "mixed", "none")

# text: the sentence. occupation: whom it is about. gender and stereotype: γ and σ of docs/methods.md, section 1.
# item: the sentence's number in its generation. group: sentences whose prompts share examples (in the seed: the
# item itself), the unit of the bootstrap. attempt: how often the item was asked for before this text was accepted.
COLUMNS: dict[str, str] = {
    "text": "string",
    "occupation": "string",
    "gender": "string",
    "stereotype": "int8",
    "generation": "int16",
    "source": "string",
    "item": "int32",
    "group": "int32",
    "attempt": "int16",
}


def features() -> "Features":
    """Return the declared features of a corpus as `datasets.Features`."""
    from datasets import Features, Value

    return Features({name: Value(kind) for name, kind in COLUMNS.items()})


def arrow_schema() -> "pa.Schema":
    """Return the same columns as an Arrow schema without metadata: what a corpus file contains."""
    import pyarrow as pa

    return pa.schema([(name, getattr(pa, kind)()) for name, kind in COLUMNS.items()])
