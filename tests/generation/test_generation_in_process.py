"""The batched decoder against `generate`, row by row, for every architecture."""

from collections import deque

import generation_models as stock
import pytest
import torch

from fairloop.errors import UserError
from fairloop.generation.in_process import InProcessGenerator
from fairloop.generation.requests import Attempt, Example, plan_requests
from fairloop.generation.settings import ModelSettings

CORPUS = [
    Example("nurse", "The nurse checked the charts before she went home."),
    Example("plumber", "Our plumber fixed the sink in an hour."),
    Example("judge", "A judge reads many files."),
    Example("florist", "The florist tied the roses, and he smiled."),
]
OCCUPATIONS = ["nurse", "truck driver", "judge", "civil engineer", "florist"]


def settings(**options):
    chosen = {"name": "tiny", "path": "tiny", "temperature": 0.0, "max_new_tokens": 12, "batch_size": 4}
    return ModelSettings(**{**chosen, **options})


def attempts(count, examples=3, seed=0, instruction=""):
    requests = plan_requests(
        CORPUS,
        OCCUPATIONS,
        sentences=count,
        examples=examples,
        group_size=3,
        seed=seed,
        stage="g",
        instruction=instruction,
    )
    return [Attempt.of(request, 0, seed, "g") for request in requests]


def texts(generator, wanted):
    return {done.attempt.request.item: (done.text, done.tokens) for done in generator.complete(deque(wanted))}


def reference(generator, attempt):
    """What `generate` writes for one prompt alone, ended where the generator ends a text."""
    ids = torch.tensor([generator.tokens_of([attempt])[0].ids])
    limit = generator.settings.max_new_tokens
    output = generator.model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=limit, min_new_tokens=None
    )
    written = []
    for token in output[0, ids.shape[1] :].tolist():
        written.append(token)
        done = generator.text_if_done(written)
        if done is not None:
            return done[0], len(written)
    raise AssertionError("generate stopped before the generator would have")


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_greedy_texts_equal_those_of_generate(tiny_model, tokenizer, batch_size):
    generator = InProcessGenerator(tiny_model, tokenizer, settings(batch_size=batch_size))
    wanted = attempts(10)
    lengths = [len(tokens.ids) for tokens in generator.tokens_of(wanted)]
    assert min(lengths) > 2 * stock.WINDOW
    assert len(set(lengths)) > 1
    expected = {attempt.request.item: reference(generator, attempt) for attempt in wanted}
    assert len({text for text, _ in expected.values()}) > 3
    assert texts(generator, wanted) == expected


def test_chat_models_too(tiny_model, chat_tokenizer):
    generator = InProcessGenerator(tiny_model, chat_tokenizer, settings(batch_size=3))
    wanted = attempts(6, instruction="Avoid stereotypes.")
    assert generator.chat
    assert all(tokens.shared > 100 for tokens in generator.tokens_of(wanted))
    assert texts(generator, wanted) == {attempt.request.item: reference(generator, attempt) for attempt in wanted}


def test_prompts_without_examples(tokenizer):
    generator = InProcessGenerator(stock.make_model("gemma3"), tokenizer, settings())
    wanted = attempts(5, examples=0)
    assert texts(generator, wanted) == {attempt.request.item: reference(generator, attempt) for attempt in wanted}


def sampling_generator(tokenizer, batch_size=4, **options):
    chosen = {"temperature": 1.0, "top_k": 20, "top_p": 0.95, "batch_size": batch_size, **options}
    return InProcessGenerator(stock.make_model("llama"), tokenizer, settings(**chosen))


@pytest.mark.parametrize("options", [{}, {"repetition_penalty": 1.4}])
def test_samples_depend_on_the_ask_alone(tokenizer, options):
    wanted = attempts(12)
    expected = texts(sampling_generator(tokenizer, 1, **options), wanted)
    assert texts(sampling_generator(tokenizer, 5, **options), wanted) == expected
    assert texts(sampling_generator(tokenizer, 64, **options), wanted[::-1]) == expected
    assert texts(sampling_generator(tokenizer, 4, **options), wanted[3:7]) == {
        item: text for item, text in expected.items() if 3 <= item < 7
    }


def test_a_second_run_repeats_the_first_in_texts_and_order(tokenizer):
    runs = [
        [(d.attempt, d.text) for d in sampling_generator(tokenizer).complete(deque(attempts(12)))] for _ in range(2)
    ]
    assert runs[0] == runs[1]


def test_another_seed_or_attempt_gives_other_texts(tokenizer):
    generator = sampling_generator(tokenizer)
    first = attempts(8)
    again = [Attempt.of(attempt.request, 1, 0, "g") for attempt in first]
    assert sum(texts(generator, first)[i] == texts(generator, again)[i] for i in range(8)) <= 2


def test_the_queue_may_grow_while_it_is_worked_off(tokenizer):
    generator, wanted = sampling_generator(tokenizer), attempts(9)
    queue = deque(wanted[:3])
    answered = []
    for done in generator.complete(queue):
        answered.append(done.attempt.request.item)
        if len(answered) <= 6:
            queue.append(wanted[len(answered) + 2])
    assert sorted(answered) == list(range(9))


def test_an_empty_queue_is_answered_at_once(tokenizer):
    assert list(sampling_generator(tokenizer).complete(deque())) == []


def test_more_groups_than_beginnings_are_kept(tokenizer, monkeypatch):
    monkeypatch.setattr("fairloop.generation.in_process._BEGINNINGS", 1)
    generator = InProcessGenerator(stock.make_model("gemma3"), tokenizer, settings(batch_size=2))
    wanted = attempts(9)
    assert texts(generator, wanted) == {attempt.request.item: reference(generator, attempt) for attempt in wanted}


def test_a_shared_beginning_goes_through_the_model_once(tokenizer):
    generator = InProcessGenerator(stock.make_model("llama"), tokenizer, settings(batch_size=3))
    tokens_seen = []
    generator.model.base_model.register_forward_pre_hook(
        lambda _, args, kwargs: tokens_seen.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    wanted = attempts(3)
    shared = generator.tokens_of(wanted)[0].shared
    list(generator.complete(deque(wanted)))
    assert sum(count >= shared for count in tokens_seen) == 1
    assert tokens_seen[0] == shared


def test_a_text_that_is_cut_off_says_so(tokenizer):
    generator = sampling_generator(tokenizer, max_new_tokens=2)
    done = list(generator.complete(deque(attempts(6))))
    assert {completion.finished for completion in done if completion.tokens == 2} >= {False}
    assert all(completion.tokens <= 2 for completion in done)


def test_chat_style_needs_a_template(tokenizer):
    with pytest.raises(UserError, match="chat template"):
        InProcessGenerator(stock.make_model("llama"), tokenizer, settings(style="chat"))


def test_a_chat_model_can_be_used_as_a_base_model(chat_tokenizer):
    generator = InProcessGenerator(stock.make_model("llama"), chat_tokenizer, settings(style="base"))
    assert not generator.chat
