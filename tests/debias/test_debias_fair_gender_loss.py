"""Each term of Fair-Gender's loss against brute force, where gradients flow, symmetry, and what must not matter."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon

from fairloop.debias.fair_gender.batches import fair_gender_data
from fairloop.debias.fair_gender.loss import FairGenderModule, jensen_shannon
from fairloop.debias.fair_gender.settings import MethodSettings
from fairloop.debias.fair_gender.tokens import Tokens, in_place_of
from fairloop.errors import Fault, UserError
from fairloop.seeding import derive, random_generator
from incorporations import NEUTRAL, training_pairs
from tiny_models import tiny_generator, tiny_masked_lm

SETTINGS = MethodSettings(batch_size=4, lambda_r=0.7, text_weight=1.0, mask_share=0.3, predicted="target")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {
        "masked": tiny_masked_lm(folder / "masked"),
        "causal": tiny_generator(folder / "causal"),
    }


def load(folders, kind):
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

    auto = AutoModelForMaskedLM if kind == "masked" else AutoModelForCausalLM
    model = auto.from_pretrained(folders[kind]).eval()
    with torch.no_grad():  # a random Llama's predictions are all alike
        model.get_output_embeddings().weight *= 8 if kind == "causal" else 1
    return model, AutoTokenizer.from_pretrained(folders[kind])


def build(folders, kind, pairs=None, settings=SETTINGS, seed=3):
    """A module whose trained model has moved away from the frozen one, its data, and the model itself.

    A masked one is asked both questions if nothing else is said.
    """
    if settings is SETTINGS and kind == "masked":
        settings = SETTINGS.model_copy(update={"predicted": "both"})
    model, tokenizer = load(folders, kind)
    frozen, _ = load(folders, kind)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    tokens = Tokens(tokenizer, kind, settings.max_length)
    data = fair_gender_data(pairs or training_pairs(), NEUTRAL, tokens, settings, seed=seed, stage="s")
    module = FairGenderModule(model, frozen, tokens, settings, seed=seed, stage="s", total_steps=1)
    return module, data, tokenizer


def batch_of(data, *numbers):
    return data.collate([data.training[number] for number in numbers])


# by brute force: one unpadded input at a time, logits of the whole sequence, loops over tokens


def probabilities(model, ids):
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).logits[0].double().softmax(dim=-1).numpy()


def prediction(model, tokenizer, kind, pair, side):
    ids = [tokenizer(text)["input_ids"] for text in (pair.male, pair.female)]
    target = tokenizer.convert_tokens_to_ids(pair.target)
    place = ids[0].index(target)
    if kind == "masked":
        ids[side][place] = tokenizer.mask_token_id
        return probabilities(model, ids[side])[place]
    if ids[0][:place] == ids[1][:place]:  # the target comes first: the word behind the first gendered one
        place = next(n for n, (a, b) in enumerate(zip(*ids, strict=True)) if a != b) + 1
    return probabilities(model, ids[side])[place - 1]


def choice(model, tokenizer, pair, side, blind):
    """Probabilities of the sentence's own gendered word and of its counterpart's, of the two."""
    ids = [tokenizer(text)["input_ids"] for text in (pair.male, pair.female)]
    gendered = [n for n, (a, b) in enumerate(zip(*ids, strict=True)) if a != b]
    words = [ids[side][gendered[0]], ids[1 - side][gendered[0]]]
    target = ids[0].index(tokenizer.convert_tokens_to_ids(pair.target))
    for place in [*gendered, *([target] if blind else [])]:
        ids[side][place] = tokenizer.mask_token_id
    if blind and pair.neutral:
        ids[side][target] = tokenizer.convert_tokens_to_ids(pair.neutral)
    two = probabilities(model, ids[side])[gendered[0]][words]
    return two / two.sum()


def mixed(pairs, number, answer):
    """The neighbour-weighted answer."""
    return sum(w * answer(pairs[k]) for k, w in zip(pairs[number].neighbours, pairs[number].mixture, strict=True))


def brute_target(model, tokenizer, kind, pairs, number):
    sides = [mixed(pairs, number, lambda pair, s=s: prediction(model, tokenizer, kind, pair, s)) for s in (0, 1)]
    return jensenshannon(*sides) ** 2


def brute_attribute(model, tokenizer, kind, pairs, number):
    assert kind == "masked"
    found = []
    for side in (0, 1):
        seen, blind = (
            mixed(pairs, number, lambda pair, s=side, b=b: choice(model, tokenizer, pair, s, b)) for b in (False, True)
        )
        found.append(jensenshannon(seen, blind) ** 2)
    return np.mean(found)


def asked(tokenizer, kind, text, seed, step=0):
    """The input of a text, and which of its tokens are predicted from which place."""
    ids = tokenizer(text)["input_ids"]
    if kind == "causal":
        return ids, [(place - 1, place) for place in range(1, len(ids))]
    draw = random_generator(seed, "s", "mask", step, derive(0, "text", *ids))
    hidden = draw.choice(np.arange(len(ids)), size=max(1, round(0.3 * len(ids))), replace=False)
    return [tokenizer.mask_token_id if n in hidden else token for n, token in enumerate(ids)], [(n, n) for n in hidden]


def brute_language(model, tokenizer, kind, text, seed=3):
    ids = tokenizer(text)["input_ids"]
    given, predicted = asked(tokenizer, kind, text, seed)
    p = probabilities(model, given)
    return np.mean([-math.log(p[place][ids[token]]) for place, token in predicted])


def brute_drift(model, frozen, tokenizer, kind, text, seed=3):
    given, predicted = asked(tokenizer, kind, text, seed)
    p, q = probabilities(frozen, given), probabilities(model, given)
    return np.mean([np.sum(p[place] * np.log(p[place] / q[place])) for place, _ in predicted])


QUESTIONS = {"target": [brute_target], "attribute": [brute_attribute], "both": [brute_target, brute_attribute]}


@pytest.mark.parametrize(
    ("kind", "predicted"), [("masked", "target"), ("masked", "attribute"), ("masked", "both"), ("causal", "target")]
)
def test_every_term_and_the_whole_loss_equal_brute_force(folders, kind, predicted):
    module, data, tokenizer = build(folders, kind, settings=SETTINGS.model_copy(update={"predicted": predicted}))
    pairs, numbers = training_pairs(), (2, 7, 3)
    batch = batch_of(data, *numbers)
    bias = module.bias_losses(batch)
    expected = [sum(brute(module.model, tokenizer, kind, pairs, n) for brute in QUESTIONS[predicted]) for n in numbers]
    assert bias.tolist() == pytest.approx(expected, rel=1e-4, abs=1e-7)  # float32 against float64
    assert min(expected) > 2e-5

    texts = [getattr(pairs[n], side) for side in ("male", "female") for n in numbers]
    language = module.language_losses(batch, "text", 0)
    assert language.tolist() == pytest.approx(
        [brute_language(module.model, tokenizer, kind, text) for text in texts], rel=1e-4
    )
    neutral = [NEUTRAL[data.training[n].neutral[0]] for n in numbers]
    drifts = module.drifts(batch, 0)
    assert drifts.tolist() == pytest.approx(
        [brute_drift(module.model, module.frozen, tokenizer, kind, text) for text in neutral], rel=1e-3
    )
    assert min(drifts.tolist()) > 1e-4

    total, count = module.loss_parts(batch)
    whole = sum(
        pairs[n].weight * expected[row] + 0.7 * ((language[row] + language[row + 3]).item() / 2 + drifts[row].item())
        for row, n in enumerate(numbers)
    )
    assert (total.item(), int(count)) == (pytest.approx(whole, rel=1e-4), 3)


def test_the_sentences_own_loss_has_a_weight_and_costs_nothing_without(folders, monkeypatch):
    totals = []
    for weight in (0.0, 0.5, 1.0):
        module, data, _ = build(folders, "masked", settings=SETTINGS.model_copy(update={"text_weight": weight}))
        batch = batch_of(data, 2, 7, 3)
        totals.append(module.loss_parts(batch)[0].item())
    language = float(module.language_losses(batch, "text", 0).sum()) / 2
    assert np.diff(totals) == pytest.approx([0.7 * 0.5 * language] * 2, rel=1e-3)
    module, data, _ = build(folders, "masked", settings=SETTINGS.model_copy(update={"text_weight": 0.0}))
    monkeypatch.setattr(module, "language_losses", lambda *_: pytest.fail("computed for nothing"))
    module.loss_parts(batch)


def test_equal_inputs_go_through_the_model_once(folders, monkeypatch):
    """Without their gendered words both sentences of a pair are the same: 2 of 3 questions are asked half as often."""
    module, data, _ = build(folders, "masked", settings=SETTINGS.model_copy(update={"predicted": "both"}))
    batch = batch_of(data, 2, 7, 3)
    own, rows = batch["mixture"].shape
    seen = []
    logits = module.logits
    monkeypatch.setattr(module, "logits", lambda ids, mask, wanted: seen.append(ids) or logits(ids, mask, wanted))
    module.bias_losses(batch)
    asked = [len(ids) for ids in seen]
    assert asked[0] == 4 * own  # not 6: two sides of three questions
    assert 2 * (rows - own) <= asked[1] <= 4 * (rows - own)  # two pairs may even share their neutral question
    assert all(len(set(map(tuple, ids.tolist()))) == len(ids) for ids in seen)


def test_another_word_stands_for_the_target_with_its_article():
    assert in_place_of("She is an architect.", "architect", "person") == "She is a person."
    assert in_place_of("An Architect saw her.", "architect", "person") == "A person saw her."
    assert in_place_of("Than nurses, few know her.", "nurses", "people") == "Than people, few know her."
    with pytest.raises(Fault):
        in_place_of("She is a nurse.", "architect", "person")


def test_jensen_shannon_of_known_distributions():
    p = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.75, 0.25]])
    q = torch.tensor([[0.0, 1.0], [0.5, 0.5], [0.25, 0.75]])
    closed = math.log(2) + 0.75 * math.log(0.75) + 0.25 * math.log(0.25)
    assert jensen_shannon(p, q).tolist() == pytest.approx([math.log(2), 0.0, closed], abs=1e-6)
    logits = torch.tensor([[200.0, 0.0]], requires_grad=True)  # softmax underflows to an exact zero
    jensen_shannon(logits.softmax(-1), torch.tensor([[0.0, 1.0]])).sum().backward()
    assert torch.isfinite(logits.grad).all()


# gradients


def test_gradients_flow_into_the_trained_model_alone_and_not_through_neighbours(folders):
    module, data, _ = build(folders, "masked")
    batch = batch_of(data, 2, 7)
    module.loss_parts(batch)[0].backward()
    assert all(parameter.grad is None for parameter in module.frozen.parameters())
    assert all(parameter.grad is not None for parameter in module.model.parameters() if parameter.requires_grad)

    # L_b's gradient is that of the pair's own prediction, the neighbours' being constants: by finite differences.
    weight = module.model.bert.encoder.layer[1].output.dense.weight
    direction = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    module.zero_grad()
    module.bias_losses(batch).sum().backward()
    found = float((weight.grad * direction).sum())
    constant, at_start = module._constant, {}

    def remembered(batch, names, chosen):
        key = tuple(chosen.tolist())
        if key not in at_start:
            at_start[key] = constant(batch, names, chosen)
        return at_start[key]

    def bias_at(distance, neighbours_move):
        with torch.no_grad():
            module._constant = constant if neighbours_move else remembered
            weight.add_(distance * direction)
            value = float(module.bias_losses(batch).double().sum())
            weight.sub_(distance * direction)
        return value

    bias_at(0.0, False)
    by_itself, together = ((bias_at(1e-2, moves) - bias_at(-1e-2, moves)) / 2e-2 for moves in (False, True))
    assert found == pytest.approx(by_itself, rel=0.02)
    assert abs(found - together) > 0.1 * abs(found)


def test_without_the_regulariser_there_is_no_frozen_model_and_no_neutral_text(folders):
    settings = SETTINGS.model_copy(update={"lambda_r": 0.0})
    model, tokenizer = load(folders, "masked")
    tokens = Tokens(tokenizer, "masked", 64)
    data = fair_gender_data(training_pairs(), (), tokens, settings, seed=3, stage="s")
    module = FairGenderModule(model, None, tokens, settings, seed=3, stage="s", total_steps=1)
    batch = batch_of(data, 1, 2)
    assert not [name for name in batch if name.startswith("neutral")]
    total, _ = module.loss_parts(batch)
    assert float(total) == pytest.approx(float((batch["weights"] * module.bias_losses(batch)).sum()))


# what must not matter


@pytest.mark.parametrize("kind", ["masked", "causal"])
def test_male_and_female_may_change_places(folders, kind):
    swapped = [replace(pair, male=pair.female, female=pair.male) for pair in training_pairs()]
    losses = []
    for pairs in (training_pairs(), swapped):
        module, data, _ = build(folders, kind, pairs)
        loss = module.loss_parts(batch_of(data, 0, 1, 5))[0]
        loss.backward()
        losses.append([float(loss), *(float(p.grad.norm()) for p in module.model.parameters() if p.grad is not None)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("kind", ["masked", "causal"])
def test_a_batch_is_the_sum_of_its_items(folders, kind):
    module, data, _ = build(folders, kind)
    whole = float(module.loss_parts(batch_of(data, 4, 0, 9, 2))[0])
    assert whole == pytest.approx(sum(float(module.loss_parts(batch_of(data, n))[0]) for n in (4, 0, 9, 2)), rel=1e-4)


@pytest.mark.parametrize("kind", ["masked", "causal"])
def test_a_neighbour_gets_no_gradient_whether_it_is_in_the_batch_or_not(folders, kind):
    module, data, _ = build(folders, kind)
    numbers = (4, 0, 9)  # 9 has both others for neighbours, 0 has 4
    assert {0, 4} & {*training_pairs()[9].neighbours}

    def gradients(*batches):
        module.zero_grad()
        for batch in batches:
            module.bias_losses(batch).sum().backward()
        return {name: p.grad.clone() for name, p in module.model.named_parameters() if p.grad is not None}

    together, apart = gradients(batch_of(data, *numbers)), gradients(*(batch_of(data, n) for n in numbers))
    largest = max(float(gradient.abs().max()) for gradient in apart.values())
    for name, gradient in apart.items():
        torch.testing.assert_close(together[name], gradient, rtol=1e-3, atol=1e-4 * largest, msg=name)


def test_parts_of_a_batch_accumulate_to_its_gradient():
    from fairloop.training.data import BatchLoader, BatchOrder

    order = BatchOrder([1] * 15, 8, seed=0, stage="s")

    def collate(items):
        return {"sum": torch.tensor(float(sum(items)))}

    whole = [float(batch["sum"]) for batch in BatchLoader(range(15), order, collate)]
    loader = BatchLoader(range(15), order, collate, parts=3)
    parts = list(loader)
    assert (len(parts), len(loader), loader.state_dict()) == (6, 6, {"step": 6})
    sizes = [len(batch) for batch in order.epoch(0)]
    for number, (total, size) in enumerate(zip(whole, sizes, strict=True)):
        three = parts[3 * number : 3 * number + 3]
        assert sum(float(part["sum"] / part["count"]) for part in three) / 3 == pytest.approx(total / size)
    resumed = BatchLoader(range(15), order, collate, parts=3)
    resumed.load_state_dict({"step": 4})
    assert [float(batch["sum"]) for batch in resumed] == [float(batch["sum"]) for batch in parts[4:]]


# where a causal model is read


def test_a_causal_model_is_read_where_the_sentences_already_differ(folders):
    _, tokenizer = load(folders, "causal")
    tokens = Tokens(tokenizer, "causal", 64)

    def read(male, female, target):
        sides = tokens.pair(male, female, target)
        return [
            (tokenizer.convert_ids_to_tokens(side.asked[side.place]), tokenizer.convert_ids_to_tokens([side.answer])[0])
            for side in sides
        ]

    assert read("he will be a nurse", "she will be a nurse", "nurse") == [("a", "nurse"), ("a", "nurse")]
    assert read("the nurse said he will be there", "the nurse said she will be there", "nurse") == [
        ("he", "will"), ("she", "will"),
    ]  # fmt: skip
    end = tokens.pair("the nurse read to his father", "the nurse read to her mother", "nurse")
    assert [tokenizer.convert_ids_to_tokens(side.asked[side.place]) for side in end] == ["father", "mother"]
    assert [side.answer for side in end] == [-1, -1]


# bad input


def test_bad_input_is_one_line(folders):
    tokenizer = load(folders, "masked")[1]
    tokens = Tokens(tokenizer, "masked", 64)
    with pytest.raises(Fault, match=r"^a pair's target does not stand in its sentence: 'pilot' in 'the nurse"):
        tokens.pair("the nurse and he", "the nurse and she", "pilot")
    with pytest.raises(Fault, match=r"target does not stand in its sentence: 'nur'"):
        tokens.pair("the nurse and he", "the nurse and she", "nur")
    short = Tokens(tokenizer, "masked", 4)
    with pytest.raises(Fault, match=r"^a pair's target is cut off after 4 tokens: 'nurse'"):
        short.pair("he will be there with a nurse", "she will be there with a nurse", "nurse")
    with pytest.raises(UserError, match=r"^plm: a masked language model .* its tokenizer has none$"):
        Tokens(load(folders, "causal")[1], "masked", 64)
    for pairs, neutral, line in (
        ([], NEUTRAL, r"^there are no pairs to train on$"),
        (training_pairs(3), NEUTRAL, r"^batch_size=4: at most 3, the pairs there are to train on$"),
        (training_pairs(), (), r"^there are no neutral sentences, which the regulariser \(lambda_r\) needs$"),
    ):
        with pytest.raises(UserError, match=line):
            fair_gender_data(pairs, neutral, tokens, SETTINGS, seed=0, stage="s")
