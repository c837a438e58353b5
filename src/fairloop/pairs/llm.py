"""Pairs written by a language model with two prompts: a sentence about a target, then its counterpart.

Fair-Gender (arXiv 2501.06795): the first prompt makes varied sentences about a target word with a gendered subject, or
about a person whom the target names and to whom a pronoun refers back; the second one makes the same sentence about
the other gender. What comes out of either is checked before it is taken: an
answer to the first that does not do as asked is asked for again; an answer to the second that differs from its
sentence in more than gendered words is replaced by the swapped one (`verification.counterpart_of`).
"""

from collections import Counter
from collections.abc import Container, Sequence
from itertools import product

from fairloop.corpus.counterfactual import swap_gender
from fairloop.corpus.words import gendered_spans
from fairloop.generation.generator import Generator
from fairloop.generation.requests import Example, Form, Request
from fairloop.generation.screening import Rejection, misshapen, normal_form
from fairloop.generation.writer import Screen, write_corpus
from fairloop.lexicon import PairExample, attributes, pair_examples
from fairloop.lexicon.gendered import Side
from fairloop.pairs.coverage_plan import Plan, plan_pairs
from fairloop.pairs.gathered import Gathered, Progress, unshown
from fairloop.pairs.pair import Pair, PairRow
from fairloop.pairs.settings import PairSettings
from fairloop.pairs.verification import (
    HELD_OUT,
    TARGET_TWICE,
    counterpart_of,
    find_phrase,
    held_out_in,
    in_order,
    sides,
)
from fairloop.seeding import random_generator

PEOPLE = ("neighbor", "guest", "student", "visitor")  # whom a trait or an activity is said of
SENTENCES = Form(
    title="Each sentence is about the given person and contains the given words exactly as they are.",
    given="Person and words",
    answer="Sentence",
    task="Write varied, natural sentences. Each is about the given person and contains the given words.",
    question=(
        "Write one new sentence, unlike the ones above, about this person; use these words exactly as they are. "
        "Answer with the sentence alone."
    ),
)
COUNTERPARTS: dict[Side, Form] = {
    "male": Form(
        title="The same sentences about a man and about a woman. Nothing else changes.",
        given="Man",
        answer="Woman",
        task="Rewrite sentences about a man as sentences about a woman. Only gendered words change.",
        question="Rewrite this sentence. Change nothing but gendered words. Answer with the sentence alone.",
    ),
    "female": Form(
        title="The same sentences about a woman and about a man. Nothing else changes.",
        given="Woman",
        answer="Man",
        task="Rewrite sentences about a woman as sentences about a man. Only gendered words change.",
        question="Rewrite this sentence. Change nothing but gendered words. Answer with the sentence alone.",
    ),
}


def write_pairs(generator: Generator, settings: PairSettings, *, seed: int, progress: Progress = unshown) -> Gathered:
    """Have pairs written, spread evenly over targets and attributes.

    A pair for which no usable sentence comes in `settings.attempts` answers is left out.

    Raises:
        Fault: the yield of the first prompt lies under `settings.min_yield`.
    """
    plans = {plan.item: plan for plan in plan_pairs(settings.pairs, settings.kinds, seed=seed)}
    with progress("sentences") as on_progress:
        first = write_corpus(
            generator,
            _sentence_requests(list(plans.values()), settings, seed),
            seed=seed,
            stage="pairs sentences",
            max_attempts=2,
            min_yield=settings.min_yield,
            give_up_after=settings.attempts,
            screen=_screen_for(plans),
            on_progress=on_progress,
        )
    written = {row["item"]: plans[row["item"]] for row in first.rows}
    texts: dict[int, str] = {row["item"]: row["text"] for row in first.rows}
    proposed, seconds = _counterparts(generator, written, texts, settings, seed, progress)
    rows = [_row(plan, texts[item], proposed.get(item)) for item, plan in written.items()]
    return Gathered(rows, Counter(first.stats.reasons), first.stats.asked, first.stats.seconds + seconds)


def _row(plan: Plan, text: str, proposed: str | None) -> PairRow:
    found = counterpart_of(text, proposed)
    if found is None:
        raise ValueError(f"accepted without a gendered word: {text!r}")
    male, female = in_order(text, found.text, plan.side)
    start, end = find_phrase(male, plan.target.name)[0]
    pair = Pair(plan.item, male, female, male[start:end], plan.target.kind, plan.attribute.name, "llm")
    return PairRow(pair, replaced=found.replaced)


# --- the first prompt -----------------------------------------------------------------------------------------------


def _sentence_requests(plans: Sequence[Plan], settings: PairSettings, seed: int) -> list[Request]:
    """Return one request for each plan; those of a group share their examples and are about one kind of target."""
    requests = []
    group = 0
    for kind, refers_back in product(settings.kinds, (False, True)):
        ours = [plan for plan in plans if plan.target.kind == kind and plan.refers_back == refers_back]
        for start in range(0, len(ours), settings.group_size):
            examples = _examples(pair_examples(kind, refers_back=refers_back), settings.examples, seed, group)
            requests += [
                Request(plan.item, group, _given(plan), examples, form=SENTENCES)
                for plan in ours[start : start + settings.group_size]
            ]
            group += 1
    return sorted(requests, key=lambda request: request.item)


def _given(plan: Plan) -> str:
    """Return person and words: "my father; nurse", or "the nurse; himself"."""
    target = plan.target.name
    if not plan.refers_back:
        return f"{plan.attribute.subject(plan.side)}; {target}"
    somebody = PEOPLE[plan.item % len(PEOPLE)]
    persons = {
        "occupation": f"the {target}",
        "trait": f"the {target} {somebody}",
        "activity": f"the {somebody} who likes {target}",
    }
    word = plan.attribute.male if plan.side == "male" else plan.attribute.female
    return f"{persons[plan.target.kind]}; {word}"


def _examples(pool: Sequence[PairExample], count: int, seed: int, group: int) -> tuple[Example, ...]:
    """Draw examples without replacement; about a man and a woman in turn, so that no gender is the rule."""
    draw = random_generator(seed, "pairs sentences", "examples", group)
    chosen = [pool[index] for index in draw.permutation(len(pool))[:count].tolist()]
    first = int(draw.integers(2))
    # "his" alone would be swapped to "hers"
    female = {attribute.male: attribute.female for attribute in attributes("pairs")}
    examples = []
    for number, example in enumerate(chosen):
        word, text = example.word, example.text
        if (number + first) % 2:
            word, text = female[word] if example.person else swap_gender(word), swap_gender(text)
        given = f"{example.person}; {word}" if example.person else f"{word}; {example.target}"
        examples.append(Example(given, text))
    return tuple(examples)


def _screen_for(plans: dict[int, Plan]) -> Screen:
    def screen(text: str, finished: bool, request: Request, seen: Container[str]) -> str | None:
        wrong = misshapen(text, finished) or unsuitable(text, plans[request.item])
        if wrong is not None:
            return wrong
        form = normal_form(text)
        shown = {normal_form(example.text) for example in request.examples}
        copies = shown | {normal_form(swap_gender(example.text)) for example in request.examples}
        if form in seen or normal_form(swap_gender(text)) in seen or form in copies:
            return Rejection.COPIED
        return None

    return screen


def unsuitable(text: str, plan: Plan) -> str | None:
    """Return why a sentence does not do what was planned, or None if it does."""
    genders = set(sides(text))
    if not genders:
        return "no gendered word"
    if genders != {plan.side}:
        return "both genders, or the other one"
    word, partner = plan.attribute.male, plan.attribute.female
    if plan.side == "female":
        word, partner = partner, word
    # the partner tells "her" (him) from "her" (his)
    if not find_phrase(text, word) or not find_phrase(swap_gender(text), partner):
        return "without the attribute word"
    mentions = find_phrase(text, plan.target.name)
    if not mentions:
        return "without the target word"
    if len(mentions) > 1:
        return TARGET_TWICE
    if plan.refers_back and gendered_spans(text)[0].start < mentions[0][0]:
        return "a gendered word before the target"
    if held_out_in(text) is not None:
        return HELD_OUT
    return None


# --- the second prompt ----------------------------------------------------------------------------------------------


def _counterparts(
    generator: Generator,
    plans: dict[int, Plan],
    texts: dict[int, str],
    settings: PairSettings,
    seed: int,
    progress: Progress,
) -> tuple[dict[int, str], float]:
    """Return what the generator answers to the second prompt, once for each sentence, by item, and its wall time."""
    if settings.counterpart == "swap":
        return {}, 0.0
    requests = []
    for number, side in enumerate(COUNTERPARTS):
        pool = [
            example
            for kind, refers_back in product(settings.kinds, (False, True))
            for example in pair_examples(kind, refers_back=refers_back)
        ]
        draw = random_generator(seed, "pairs counterparts", "examples", number)
        chosen = [pool[index].text for index in draw.permutation(len(pool))[: settings.counterpart_examples].tolist()]
        shown = [in_order(text, swap_gender(text), side) for text in chosen]
        examples = tuple(Example(given, answer) for given, answer in shown)
        requests += [
            Request(item, number, texts[item], examples, form=COUNTERPARTS[side])
            for item, plan in plans.items()
            if plan.side == side
        ]
    # every answer is taken as it is: one that does not hold is replaced (`verification.counterpart_of`)
    with progress("counterparts") as on_progress:
        answered = write_corpus(
            generator,
            requests,
            seed=seed,
            stage="pairs counterparts",
            screen=lambda *_: None,
            on_progress=on_progress,
        )
    return {row["item"]: row["text"] for row in answered.rows}, answered.stats.seconds
