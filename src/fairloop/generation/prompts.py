"""Prompts for base models (a list to continue) and for chat models (their chat template).

A chat model is shown its examples as earlier turns of the conversation, or as a list in one message (`PromptForm`).

Example sentences are data written by a model. They are put into a prompt by concatenation, as one line each without
control characters, never through `str.format` or as a template.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fairloop.errors import plain
from fairloop.generation.requests import Form, Request
from fairloop.generation.settings import PromptForm
from fairloop.lexicon import with_article

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_TITLE = "The given words are used in example sentences."
_GIVEN, _ANSWER = "Word", "Sentence"


@dataclass(frozen=True)
class Prompt:
    """A prompt in two pieces: what its whole group shares, and the rest. The prompt is `shared + rest`.

    `special` says whether the tokenizer has to add its special tokens (a chat template already holds them).
    """

    shared: str
    rest: str
    special: bool


def base_prompt(request: Request) -> Prompt:
    """Build a list of words with example sentences that breaks off where the wanted sentence begins.

    Of several forms tried with Gemma 3 270M this one had most sentences name their occupation.
    """
    form = request.form
    title, given, answer = (form.title, form.given, form.answer) if form else (_TITLE, _GIVEN, _ANSWER)
    title = f"{title} {plain(request.instruction)}" if request.instruction else title
    return Prompt(
        f"{title}\n\n{_entries(request, given, answer)}",
        f"{given}: {plain(request.occupation)}\n{answer}:",
        special=True,
    )


def _entries(request: Request, given: str, answer: str) -> str:
    """Return the examples as entries of two lines, each with an empty line behind it."""
    return "".join(
        f"{given}: {plain(example.occupation)}\n{answer}: {plain(example.text)}\n\n" for example in request.examples
    )


def chat_prompt(request: Request, tokenizer: "PreTrainedTokenizerBase", prompt_form: PromptForm = "turns") -> Prompt:
    """Build the conversation and put it through the model's chat template, up to where the answer begins.

    The instruction is a system message; a template without that role gets it at the head of the first message.
    """
    turns, question = _turns(request, prompt_form)
    text = _through_template(turns, plain(request.instruction), tokenizer)
    shared, found, tail = text.rpartition(question)
    return Prompt(shared, found + tail, special=False)


def chat_messages(request: Request, *, system_role: bool, prompt_form: PromptForm = "turns") -> list[dict[str, str]]:
    """Return the messages that a chat model is asked by, as a server takes them.

    Args:
        request: what to write.
        system_role: whether the instruction is a message of its own, or stands at the head of the user's first.
        prompt_form: how the examples are shown.
    """
    return _messages(_turns(request, prompt_form)[0], plain(request.instruction), system_role=system_role)


def _messages(turns: Sequence[str], instruction: str, *, system_role: bool) -> list[dict[str, str]]:
    """Return what user and assistant say in turn, the user first and last, as messages."""
    first, *others = turns
    if instruction and not system_role:
        first = f"{instruction}\n\n{first}"
    said = [
        {"role": ("user", "assistant")[number % 2], "content": text} for number, text in enumerate([first, *others])
    ]
    return [{"role": "system", "content": instruction}, *said] if instruction and system_role else said


def _turns(request: Request, prompt_form: PromptForm) -> tuple[list[str], str]:
    """Return what is said in turn, and the end of it that differs within a group."""
    if prompt_form == "list":
        message, question = _form_message(request, request.form) if request.form else _corpus_message(request)
        return [message], question
    ask = _form_turn if request.form else _corpus_turn
    turns = [part for example in request.examples for part in (ask(request, example.occupation), plain(example.text))]
    question = ask(request, request.occupation)
    turns.append(question)
    if request.form:
        turns[0] = f"{request.form.task}\n\n{turns[0]}"
    return turns, question


def _corpus_turn(request: Request, occupation: str) -> str:
    """Return what the user asks for in a turn.

    Of several wordings tried with small chat models this one had most sentences name their occupation:
    asked for a sentence about an insurance agent, small models write about "the agent", or "she".
    """
    words = plain(occupation)
    return f'Write one sentence with the {"words" if " " in words else "word"} "{words}".'


def _form_turn(request: Request, given: str) -> str:
    form = request.form
    return f"{form.question}\n{form.given}: {plain(given)}" if form else ""


def _corpus_message(request: Request) -> tuple[str, str]:
    """Return the message of a recursion's sentence, and the last part of it, which names the occupation."""
    task = "Here are sentences about people at work, each about another occupation:"
    lines = "".join(f"\n- {plain(example.text)}" for example in request.examples)
    question = (
        f"Write one new sentence of the same kind about {with_article(plain(request.occupation))} at work. "
        "Answer with the sentence alone."
    )
    return f"{task}\n{lines}\n\n{question}" if lines else question, question


def _form_message(request: Request, form: Form) -> tuple[str, str]:
    """Return the user's message for a request with a form, and the last part of it, which holds what is given."""
    question = f"{form.question}\n{form.given}: {plain(request.occupation)}"
    return f"{form.task}\n\n{_entries(request, form.given, form.answer)}{question}", question


def _through_template(turns: Sequence[str], instruction: str, tokenizer: "PreTrainedTokenizerBase") -> str:
    from jinja2.exceptions import TemplateError

    if instruction:
        split = _messages(turns, instruction, system_role=True)
        try:
            text = tokenizer.apply_chat_template(split, tokenize=False, add_generation_prompt=True)
            if instruction in text:
                return str(text)
        except TemplateError:
            pass
    folded = _messages(turns, instruction, system_role=False)
    return str(tokenizer.apply_chat_template(folded, tokenize=False, add_generation_prompt=True))


@dataclass(frozen=True)
class Tokens:
    """Token ids of a prompt; the first `shared` of them are common to its group."""

    ids: tuple[int, ...]
    shared: int


def tokenize(prompts: Sequence[Prompt], tokenizer: "PreTrainedTokenizerBase") -> list[Tokens]:
    """Turn prompts into token ids, exactly as tokenizing each whole prompt does.

    A token can reach over the border between the shared piece and the rest; the shared tokens end before it.
    """
    beginnings: dict[tuple[str, bool], list[int]] = {}
    tokens = []
    for prompt in prompts:
        key = (prompt.shared, prompt.special)
        if key not in beginnings:
            beginnings[key] = list(tokenizer(prompt.shared, add_special_tokens=prompt.special)["input_ids"])
        ids = tuple(tokenizer(prompt.shared + prompt.rest, add_special_tokens=prompt.special)["input_ids"])
        shared = 0
        for ours, theirs in zip(ids, beginnings[key], strict=False):
            if ours != theirs:
                break
            shared += 1
        # The last token of a prompt is fed together with the sampled ones, so it never counts as shared.
        tokens.append(Tokens(ids, min(shared, len(ids) - 1)))
    return tokens
