import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fairloop.errors import UserError
from fairloop.training.contrastive import ContrastiveTask, contrastive_data, info_nce, pool
from fairloop.training.settings import ContrastiveSettings, TrainerSettings
from tiny_models import pairs, tiny_encoder
from trainings import trained
from unit_vectors import alignment, uniformity

CPU = TrainerSettings(accelerator="cpu", precision="float32", threads=1)


def brute_force(vectors, texts, temperature):
    """InfoNCE written out sentence by sentence, in plain Python."""
    half, total = len(vectors) // 2, 0.0
    for anchor in range(len(vectors)):
        positive = (anchor + half) % len(vectors)

        def score(other, anchor=anchor):
            a, b = vectors[anchor], vectors[other]
            return math.exp(float(a @ b / a.norm() / b.norm()) / temperature)

        negatives = [n for n in range(len(vectors)) if texts[n] not in (texts[anchor], texts[positive])]
        total -= math.log(score(positive) / (score(positive) + sum(map(score, negatives))))
    return total


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(0, 1000), st.floats(0.05, 2))
def test_info_nce_equals_its_definition(half, seed, temperature):
    random = torch.Generator().manual_seed(seed)
    vectors = torch.randn(2 * half, 5, generator=random)
    kinds = torch.randint(0, 3, (half,), generator=random)
    texts = torch.cat([2 * kinds, 2 * kinds + 1])
    swapped = torch.rand(half, generator=random) < 0.5  # a text may be a source here and a variant there
    texts = torch.where(torch.cat([swapped, swapped]), texts ^ 1, texts)
    expected = brute_force(vectors, texts.tolist(), temperature)
    assert float(info_nce(vectors, texts, temperature)) == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_duplicates_are_not_each_others_negatives():
    vectors = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    alone = info_nce(vectors[[0, 1, 3, 4]], torch.tensor([0, 1, 3, 4]), 0.1)
    # The third pair repeats the first one's texts, the other way round.
    with_duplicate = info_nce(vectors, torch.tensor([0, 1, 3, 3, 4, 0]), 0.1)
    naive = info_nce(vectors, torch.arange(6), 0.1)
    (gradient,) = torch.autograd.grad(info_nce(vectors[[0, 2, 3, 5]], torch.tensor([0, 3, 3, 0]), 0.1), vectors)
    assert gradient.abs().max() < 1e-6  # nothing but duplicates: nothing to push apart
    assert float(with_duplicate.detach()) < float(naive.detach())
    assert float(alone.detach()) > 0


def test_alignment_and_uniformity_in_closed_form():
    east, north = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 3.0]])
    assert alignment(east, 5 * east) == 0
    assert alignment(east, north) == pytest.approx(2)
    assert alignment(east, -east) == pytest.approx(4)
    assert uniformity(torch.cat([east, -east])) == pytest.approx(-8)  # log exp(-2 * 4)
    three = torch.cat([east, -east, north])
    assert uniformity(three) == pytest.approx(math.log((math.exp(-8) + 2 * math.exp(-4)) / 3))


def test_pooling_ignores_padding():
    hidden = torch.arange(12.0).reshape(1, 4, 3)
    mask = torch.tensor([[1, 1, 0, 0]])
    assert torch.equal(pool(hidden, mask, "mean"), hidden[:, :2].mean(dim=1))
    assert torch.equal(pool(hidden, mask, "cls"), hidden[:, 0])


def embed(folder, sentences):
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    batch = tokenizer(sentences, padding=True, return_tensors="pt")
    with torch.inference_mode():
        hidden = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    return pool(hidden, batch["attention_mask"], "mean")


def pull_genders_apart(folder, strength=0.3):
    """Give the encoder's words he and she opposite directions, so that a sentence's vector tells its gender."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    direction = torch.randn(model.config.hidden_size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for word, sign in (("he", 1), ("she", -1)):
            model.embeddings.word_embeddings.weight[tokenizer.convert_tokens_to_ids(word)] += (
                sign * strength * direction
            )
    model.save_pretrained(folder)


def test_training_brings_pairs_together_and_spreads_the_rest(tmp_path):
    model = tiny_encoder(tmp_path / "model")
    pull_genders_apart(model)
    first, second = (list(side) for side in zip(*pairs(), strict=True))
    chosen = ContrastiveSettings(batch_size=10, epochs=15, learning_rate=1e-3)
    result = trained(ContrastiveTask(chosen, tuple(pairs())), model, CPU, tmp_path / "run")
    before, after = (
        (alignment(embed(f, first), embed(f, second)), uniformity(embed(f, first))) for f in (model, result.folder)
    )
    assert before[0] > 0.1
    assert after[0] < 0.6 * before[0], (before, after)
    assert after[1] < before[1] - 0.5, (before, after)


@pytest.mark.parametrize(
    "given", [[], pairs()[:1], pairs()[:1] * 5, [("the doctor", "the doctor")] * 3, [pairs()[0], pairs()[0][::-1]]]
)
def test_fewer_than_two_different_pairs_is_one_line(tmp_path, given):
    model = tiny_encoder(tmp_path / "model")
    with pytest.raises(UserError, match=r"^contrastive training needs at least two different pairs"):
        trained(ContrastiveTask(ContrastiveSettings(batch_size=2), tuple(given)), model, CPU, tmp_path / "run")


def test_pairs_that_swapping_left_alone_are_not_trained_on(tmp_path):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_encoder(tmp_path))
    data = contrastive_data(
        [*pairs(), ("the doctor", "the doctor")], tokenizer, ContrastiveSettings(batch_size=4), seed=0, stage="s"
    )
    assert len(data.training) == len(pairs())


def test_a_batch_larger_than_the_data_is_one_line(tmp_path):
    model = tiny_encoder(tmp_path / "model")
    with pytest.raises(UserError, match=r"^batch_size=64: at most 20, the pairs there are to train on$"):
        trained(ContrastiveTask(ContrastiveSettings(batch_size=64), tuple(pairs())), model, CPU, tmp_path / "run")
