"""Pairs from a generator: scripted ones whose answers are known, and a random model that never gives a valid one."""

import re
from contextlib import contextmanager

import pytest

from fairloop.corpus.counterfactual import swap_gender
from fairloop.corpus.words import gendered_spans
from fairloop.errors import Fault
from fairloop.generation.prompts import base_prompt, chat_prompt
from fairloop.generation.requests import Completion, Example, Request
from fairloop.generation.writer import ENOUGH_ASKS
from fairloop.lexicon import Target, attributes
from fairloop.pairs.coverage_plan import Plan, plan_pairs
from fairloop.pairs.llm import COUNTERPARTS, SENTENCES, unsuitable, write_pairs
from fairloop.pairs.pair import coverage, kept
from fairloop.pairs.settings import PairSettings
from fairloop.pairs.sources import gather_pairs


class Scripted:
    """Answers with what a function makes of the ask; keeps what it was asked."""

    def __init__(self, answer):
        self.answer, self.asks = answer, []

    def complete(self, queue):
        while queue:
            ask = queue.popleft()
            self.asks.append(ask)
            yield Completion(ask, self.answer(ask), 7, True)


def sentence(ask, number=None):
    subject, target = ask.request.occupation.split("; ")
    number = ask.request.item if number is None else number
    if target == "her":  # the request does not say whether as "him" or "his": both, and neither is followed by a noun
        return f"In story number {number}, {subject} thought of her and of her hat."
    return f"In story number {number}, {subject} thought of the word {target} {'hat' if target == 'his' else 'again'}."


def obedient(ask):
    return sentence(ask) if ask.request.form == SENTENCES else swap_gender(ask.request.occupation)


def settings(**more):
    return PairSettings(**({"source": "llm", "pairs": 40} | more))


def test_every_planned_pair_is_written_and_verified():
    generator = Scripted(obedient)
    gathered = write_pairs(generator, settings(), seed=1)
    assert (len(gathered.rows), gathered.asked, gathered.replaced) == (40, 40, 0)
    assert len(generator.asks) == 80
    for plan, row in zip(plan_pairs(40, ("occupation", "trait", "activity"), seed=1), gathered.rows, strict=True):
        pair = row.pair
        assert (pair.item, pair.target, pair.attribute) == (plan.item, plan.target.name, plan.attribute.name)
        for side, text in (("male", pair.male), ("female", pair.female)):
            word = plan.attribute.male if side == "male" else plan.attribute.female
            assert re.search(rf"\b{word if plan.refers_back else plan.attribute.subject(side)}\b", text)
            if plan.refers_back:
                assert text.index(pair.target) < gendered_spans(text)[0].start
    assert coverage(kept(gathered.rows)).counts.max() == 1
    assert {ask.request.form for ask in generator.asks[40:]} == set(COUNTERPARTS.values())
    for ask in generator.asks[40:]:
        given = "man" if ask.request.form == COUNTERPARTS["male"] else "woman"
        assert ask.request.form.given.lower() == given


def test_a_counterpart_that_differs_otherwise_is_replaced():
    def careless(ask):
        good = obedient(ask)
        return good if ask.request.form == SENTENCES or ask.request.item % 2 else good.replace("story", "tale")

    gathered = write_pairs(Scripted(careless), settings(), seed=1)
    assert gathered.replaced == 20
    assert [row.replaced for row in gathered.rows] == [item % 2 == 0 for item in range(40)]
    honest = write_pairs(Scripted(obedient), settings(), seed=1)
    assert [row.pair for row in gathered.rows] == [row.pair for row in honest.rows]


def test_without_the_second_prompt_nothing_is_asked_for_it():
    generator = Scripted(obedient)
    gathered = write_pairs(generator, settings(counterpart="swap"), seed=1)
    assert len(generator.asks) == 40
    assert gathered.replaced == 0


def test_unusable_answers_are_asked_again_a_bounded_number_of_times():
    def slow(ask):
        if ask.request.form != SENTENCES:
            return swap_gender(ask.request.occupation)
        if ask.request.item == 3:
            return "The weather is fine today."
        return sentence(ask) if ask.number >= 1 else sentence(ask).replace("thought", "met a florist and thought")

    gathered = write_pairs(Scripted(slow), settings(attempts=4), seed=1)
    assert [row.pair.item for row in gathered.rows] == [item for item in range(40) if item != 3]
    assert gathered.rejected == {"contains what is held out": 39, "no gendered word": 4}
    assert gathered.asked == 39 * 2 + 4
    assert gathered.yield_ == pytest.approx(39 / 82)


def test_the_progress_of_both_prompts_is_shown_to_the_end():
    def careless(ask):
        if ask.request.form != SENTENCES:
            return swap_gender(ask.request.occupation)
        return "The weather is fine today." if ask.request.item == 3 else sentence(ask)

    seen = {}

    @contextmanager
    def progress(what):
        steps = seen.setdefault(what, [])
        yield lambda *step: steps.append(step)

    write_pairs(Scripted(careless), settings(), seed=1, progress=progress)
    assert seen == {
        "sentences": [(done, 40) for done in range(1, 41)],
        "counterparts": [(done, 39) for done in range(1, 40)],
    }


@pytest.mark.parametrize("pairs", [5, 400])
def test_a_generator_that_never_gives_a_valid_sentence_is_stopped(pairs):
    generator = Scripted(lambda ask: "The weather is fine today.")
    with pytest.raises(Fault, match=r"yield is 0\.000 after \d+ answers, under the floor of 0\.1: .*no gendered word"):
        write_pairs(generator, settings(pairs=pairs, min_yield=0.1, attempts=6), seed=1)
    assert len(generator.asks) <= max(6 * 5, ENOUGH_ASKS)


def test_copies_of_examples_and_of_each_other_are_refused():
    def copier(ask):
        if ask.request.form != SENTENCES:
            return swap_gender(ask.request.occupation)
        return sentence(ask, number=1) if ask.number else swap_gender(ask.request.examples[0].text)

    generator = Scripted(copier)
    gathered = write_pairs(generator, settings(pairs=12), seed=2)
    assert len({row.pair.male for row in gathered.rows}) == len(gathered.rows) == 12
    assert sum(gathered.rejected.values()) == 12


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("My father is a nurse.", None),
        ("My father, whom he loves, is a nurse.", None),
        ("A nurse is here.", "no gendered word"),
        ("My mother is a nurse.", "both genders, or the other one"),
        ("My father and his wife see a nurse.", "both genders, or the other one"),
        ("He is a nurse.", "without the attribute word"),
        ("My father is a doctor.", "without the target word"),
        ("My father is a nurse and knows a nurse.", "names its target twice"),
        ("My father is a nurse and knows two pilots.", "contains what is held out"),
    ],
)
def test_what_makes_a_sentence_unsuitable(text, reason):
    father = next(attribute for attribute in attributes("pairs") if attribute.male == "father")
    assert unsuitable(text, Plan(0, Target("nurse", "occupation"), father, "male", 0)) == reason


def test_prompts_share_a_beginning_within_their_group_and_kind():
    generator = Scripted(obedient)
    write_pairs(generator, settings(pairs=100, group_size=8), seed=1)
    beginnings = {}
    for ask in generator.asks[:100]:
        beginnings.setdefault(ask.request.group, set()).add(base_prompt(ask.request).shared)
        assert len(ask.request.examples) == 5
        genders = {any(f" {word} " in f" {e.text.lower()} " for word in ("he", "his")) for e in ask.request.examples}
        assert genders == {True, False}
    assert all(len(shared) == 1 for shared in beginnings.values())
    assert len(beginnings) >= 100 // 8


REQUEST = Request(0, 0, "my mother; nurse", (Example("he; chef", "He is a chef."),), form=SENTENCES)


def test_the_prompt_of_a_base_model_is_a_list_to_continue():
    prompt = base_prompt(REQUEST)
    assert prompt.shared == f"{SENTENCES.title}\n\nPerson and words: he; chef\nSentence: He is a chef.\n\n"
    assert prompt.rest == "Person and words: my mother; nurse\nSentence:"


@pytest.mark.parametrize("prompt_form", ["turns", "list"])
def test_the_prompt_of_a_chat_model_ends_with_what_is_given(prompt_form):
    class Tokenizer:
        def apply_chat_template(self, messages, **_):
            return "".join(f"<{m['role']}>{m['content']}</>" for m in messages) + "<assistant>"

    prompt = chat_prompt(REQUEST, Tokenizer(), prompt_form)
    shown = {
        "turns": f"{SENTENCES.question}\nPerson and words: he; chef</><assistant>He is a chef.</>",
        "list": "Person and words: he; chef\nSentence: He is a chef.",
    }
    assert prompt.shared.startswith(f"<user>{SENTENCES.task}\n\n{shown[prompt_form]}")
    assert prompt.rest == f"{SENTENCES.question}\nPerson and words: my mother; nurse</><assistant>"
    other = chat_prompt(Request(1, 0, "he; {x}", REQUEST.examples, form=SENTENCES), Tokenizer(), prompt_form)
    assert other.shared == prompt.shared
    assert "{x}" in other.rest


def test_a_random_model_ends_with_its_yield(tmp_path):
    from fairloop.generation.in_process import InProcessGenerator
    from fairloop.generation.settings import ModelSettings
    from tiny_models import tiny_generator

    path = str(tiny_generator(tmp_path / "model"))
    generator = InProcessGenerator.load(ModelSettings(name="tiny", path=path, max_new_tokens=8, style="base"))
    with pytest.raises(Fault, match=r"yield is 0\.000 after 18 answers"):
        gather_pairs(settings(pairs=6, attempts=3, examples=1), seed=0, generator=generator)
