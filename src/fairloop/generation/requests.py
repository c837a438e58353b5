"""What a generator is asked, one sentence about one occupation with examples to go by, and what it answers."""

from collections.abc import Sequence
from dataclasses import dataclass

from fairloop.errors import UserError
from fairloop.seeding import derive, random_generator
from fairloop.words import counted


@dataclass(frozen=True)
class Example:
    """A sentence of the previous generation, as a prompt shows it."""

    occupation: str
    text: str


@dataclass(frozen=True)
class Form:
    """How requests are worded that are not for a recursion's corpus.

    A base model sees the title and a list of entries of two lines, "given: ..." and "answer: ...", the last one of
    which it completes. A chat model sees the task, the same entries, and the question with what is given.
    """

    title: str
    given: str
    answer: str
    task: str
    question: str


@dataclass(frozen=True)
class Request:
    """One sentence to write.

    Attributes:
        item: the number of the sentence in the new corpus.
        group: requests of one group share their examples.
        occupation: what the sentence has to be about; with a form, what is given.
        examples: k sentences, in the order in which the prompt shows them.
        instruction: an extra instruction for the writer, or empty.
        form: another wording of the prompt; None asks for a sentence about an occupation at work.
    """

    item: int
    group: int
    occupation: str
    examples: tuple[Example, ...]
    instruction: str = ""
    form: Form | None = None


@dataclass(frozen=True)
class Attempt:
    """One attempt at a request; `seed` fixes its random numbers."""

    request: Request
    number: int
    seed: int

    @classmethod
    def of(cls, request: Request, number: int, seed: int, stage: str) -> "Attempt":
        """Build an attempt whose random numbers depend on (seed, stage, item, number) only."""
        return cls(request, number, derive(seed, stage, request.item, number))


def plan_requests(
    corpus: Sequence[Example],
    occupations: Sequence[str],
    *,
    sentences: int,
    examples: int,
    group_size: int,
    seed: int,
    stage: str,
    instruction: str = "",
) -> list[Request]:
    """Plan one generation: who is written about, and which examples each prompt shows.

    Occupations are balanced (their counts differ by at most one) and shuffled. Each group of `group_size` successive
    requests shares `examples` sentences, drawn without replacement from the corpus; groups draw independently.

    Args:
        corpus: the previous generation.
        occupations: names; which of them come once more when the numbers do not divide is drawn too.
        sentences: N, how many requests.
        examples: k, sentences per prompt; 0 is allowed.
        group_size: requests per group.
        seed: of the cell.
        stage: of the cell.
        instruction: see `Request`.

    Raises:
        UserError: more examples asked for than the corpus holds, or no occupations.
    """
    if examples > len(corpus):
        raise UserError.of("examples", examples, f"the corpus has only {counted(len(corpus), 'sentence')}")
    if not occupations:
        raise UserError("there are no occupations to write about")
    order = random_generator(seed, stage, "occupations")
    names: list[str] = []
    while len(names) < sentences:
        names.extend(occupations[i] for i in order.permutation(len(occupations)))
    requests = []
    for item, name in enumerate(names[:sentences]):
        group = item // group_size
        if item % group_size == 0:
            draw = random_generator(seed, stage, "examples", group)
            shown = tuple(corpus[i] for i in draw.choice(len(corpus), size=examples, replace=False))
        requests.append(Request(item, group, name, shown, instruction))
    return requests


@dataclass(frozen=True)
class Completion:
    """What a generator wrote for one attempt.

    Attributes:
        attempt: what it answers.
        text: the text as written, without the prompt.
        tokens: how many tokens were sampled for it, the stopping one included.
        finished: False when the text was cut off at the token limit.
        prompt_tokens: how many tokens the prompt had, where a server says so: what is paid for.
    """

    attempt: Attempt
    text: str
    tokens: int
    finished: bool
    prompt_tokens: int = 0
