import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from fairloop.errors import UserError
from fairloop.training.classifier import encode
from fairloop.training.settings import ClassifierSettings, TrainerSettings
from tiny_models import ENDINGS, PEOPLE, tiny_encoder, tiny_generator
from trainings import classified

CPU = TrainerSettings(accelerator="cpu", precision="float32", threads=1)


def clusters(n=300, classes=3, width=6, seed=0):
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, n)
    centres = np.random.default_rng(1).normal(size=(classes, width)) * 2
    return (centres[labels] + random.normal(size=(n, width))).astype(np.float32) * 5 + 40, labels


def test_a_frozen_encoders_classifier_agrees_with_logistic_regression(tmp_path):
    (train, labels), (test, truth) = clusters(), clusters(seed=2)
    settings = ClassifierSettings(weight_decay=0.0, epochs=40, learning_rate=0.1)
    found = classified(train, labels, settings, CPU, tmp_path)
    probabilities = found.probabilities(test)
    reference = LogisticRegression(max_iter=2000).fit((train - 40) / 5, labels).predict_proba((test - 40) / 5)
    assert np.allclose(probabilities.sum(axis=1), 1)
    assert np.abs(probabilities - reference).mean() < 0.02
    assert (probabilities.argmax(axis=1) == truth).mean() > 0.9


def test_a_trained_encoder_learns_what_it_is_told(tmp_path):
    sentences = [f"the {who} said that he {what} ." for who in PEOPLE for what in ENDINGS]
    labels = [number for number in range(len(PEOPLE)) for _ in ENDINGS]
    model = tiny_encoder(tmp_path / "model")
    settings = ClassifierSettings(batch_size=10, epochs=12, learning_rate=3e-3)
    found = classified(sentences, labels, settings, CPU, tmp_path / "run", encoder=model)
    assert (found.probabilities(sentences).argmax(axis=1) == labels).mean() > 0.9
    one_by_one = np.concatenate([found.probabilities([sentence]) for sentence in sentences])
    assert np.allclose(one_by_one, found.probabilities(sentences), atol=1e-5)
    assert found.probabilities([]).shape == (0, 5)


def test_equal_seeds_give_equal_classifiers_and_others_do_not(tmp_path):
    train, labels = clusters()
    settings = ClassifierSettings(epochs=1)
    first, again, other = (
        classified(train, labels, settings, CPU, tmp_path / name, seed=seed).probabilities(train)
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("items", "labels", "line"),
    [
        (np.zeros((0, 3)), [], "there are no sentences to train a classifier on"),
        (np.zeros((3, 3)), [0, 1], "a classifier needs one label for each item: 3 items, 2 labels"),
        (np.zeros((3, 3)), [1, 1, 1], "a classifier needs at least two classes, and the 3 items have 1"),
        (np.zeros((3, 3)), [0, 1, 1], "batch_size=32: at most 3, the sentence vectors there are to train on"),
    ],
)
def test_bad_data_is_one_line(tmp_path, items, labels, line):
    with pytest.raises(UserError, match=f"^{line}$"):
        classified(items, labels, ClassifierSettings(), CPU, tmp_path)


# --- pairs, numbers, early stopping, what is trained ----------------------------------------------------------------

STORIES = [f"the {who} said that he {what} ." for who in PEOPLE for what in ENDINGS]
PAIRS = [(f"the {first}", f"a {second} .") for first in PEOPLE for second in PEOPLE]


def test_a_regression_agrees_with_least_squares(tmp_path):
    random = np.random.default_rng(0)
    items = random.normal(size=(200, 4)).astype(np.float32)
    numbers = 3 + items @ np.array([2.0, -1.0, 0.5, 0.0]) + random.normal(size=200) * 0.1
    settings = ClassifierSettings(target="number", weight_decay=0.0, epochs=60, learning_rate=0.05)
    found = classified(items, numbers.tolist(), settings, CPU, tmp_path).answers(items)[:, 0]
    design = np.column_stack([items, np.ones(200)])
    reference = design @ np.linalg.lstsq(design, numbers, rcond=None)[0]
    assert np.abs(found - reference).max() < 0.1


def test_pairs_are_told_from_their_sentences_and_batches_change_nothing(tmp_path):
    labels = [int(first.split()[1] == second.split()[1]) for first, second in PAIRS]
    model = tiny_encoder(tmp_path / "model")
    settings = ClassifierSettings(batch_size=25, epochs=1, max_steps=1)
    found = classified(PAIRS, labels, settings, CPU, tmp_path / "run", encoder=model)
    together = found.answers(PAIRS)
    assert np.allclose(together, np.concatenate([found.answers([pair]) for pair in PAIRS]), atol=1e-5)
    assert not np.allclose(together, found.answers([(second, first) for first, second in PAIRS]), atol=1e-3)


def test_the_second_sentence_has_its_own_token_type():
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = {word: number for number, word in enumerate(["[CLS]", "[SEP]", "[UNK]", "the", "a", "nurse", "doctor"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 1), ("[CLS]", 0))
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, sep_token="[SEP]", unk_token="[UNK]")
    (tokens,) = encode([("the nurse", "a doctor")], fast, 16)
    assert tokens.ids == [0, 3, 5, 1, 4, 6, 1]
    assert tokens.types == [0, 0, 0, 0, 1, 1, 1]
    (cut,) = encode([("the nurse", "a doctor")], fast, 6)
    assert len(cut.ids) == 6
    fast.sep_token = None
    assert encode([("the nurse", "a doctor")], fast, 16) == encode(["the nurse\na doctor"], fast, 16)


@pytest.mark.parametrize("family", [tiny_encoder, tiny_generator])
@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_pooling_is_that_of_the_model_by_itself(tmp_path, family, pooling):
    from transformers import AutoModel, AutoTokenizer

    path = family(tmp_path / "model")
    settings = ClassifierSettings(batch_size=10, epochs=1, weights="frozen", pooling=pooling)
    labels = [number % 2 for number in range(len(STORIES))]
    found = classified(STORIES, labels, settings, CPU, tmp_path / "run", encoder=path)
    model, tokenizer = AutoModel.from_pretrained(path).eval(), AutoTokenizer.from_pretrained(path)
    vectors = []
    with torch.inference_mode():
        for story in STORIES:  # one at a time: no padding
            hidden = model(**tokenizer(story, return_tensors="pt", return_token_type_ids=False)).last_hidden_state[0]
            vectors.append({"mean": hidden.mean(dim=0), "cls": hidden[0], "last": hidden[-1]}[pooling])
    stacked = torch.stack(vectors)
    scaled = (stacked - stacked.mean(dim=0)) / stacked.std(dim=0, unbiased=False).clamp(min=1e-6)
    with torch.inference_mode():
        expected = found.module.head(scaled).numpy()
    assert np.allclose(found.answers(STORIES), expected, atol=1e-4)
    trained = found.module.encoder.state_dict()
    assert all(torch.equal(trained[name], weight) for name, weight in model.state_dict().items())


def test_with_lora_only_the_update_and_the_linear_layer_are_trained(tmp_path):
    path = tiny_encoder(tmp_path / "model")
    settings = ClassifierSettings(batch_size=10, epochs=4, learning_rate=1e-2, weights="lora")
    labels = [number for number in range(len(PEOPLE)) for _ in ENDINGS]
    found = classified(STORIES, labels, settings, CPU, tmp_path / "run", encoder=path)
    trained = {name for name, weights in found.module.named_parameters() if weights.requires_grad}
    assert trained >= {"head.weight", "head.bias"}
    assert all("lora_" in name for name in trained - {"head.weight", "head.bias"})
    kept = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["state_dict"]
    assert set(kept) == trained
    assert not [name for name in trained if "pooler" in name]


def test_training_stops_after_epochs_without_a_better_measure_and_does_not_go_on(tmp_path):
    (train, labels), (test, truth) = clusters(), clusters(seed=2)
    settings = ClassifierSettings(epochs=50, keep="best", select=("accuracy",), patience=3)
    steps = []

    def again(folder):
        steps.clear()
        return classified(
            train,
            labels,
            settings,
            CPU,
            folder,
            validation=(test, truth),
            on_progress=lambda done, _: steps.append(done),
        )

    found = again(tmp_path)
    epochs = len(steps) / 10  # 300 items, 32 in a batch
    assert 4 <= epochs < 50
    assert epochs.is_integer()
    best = (found.answers(test).argmax(axis=1) == truth).mean()
    (state,) = [
        state
        for state in torch.load(tmp_path / "last.ckpt", weights_only=True)["callbacks"].values()
        if "best" in state
    ]
    assert state["waited"] == 3
    assert 1 - state["best"] == pytest.approx(best)
    resumed = again(tmp_path)
    assert steps == []
    assert np.array_equal(resumed.answers(test), found.answers(test))


def test_an_epoch_that_is_cut_short_is_not_compared_with_validated_ones(tmp_path):
    (train, labels), (test, truth) = clusters(), clusters(seed=2)
    settings = ClassifierSettings(epochs=50, max_steps=25, keep="best", select=("accuracy",))
    curves = []
    classified(
        train, labels, settings, CPU, tmp_path, validation=(test, truth),
        on_logged=lambda curve, step, _: curves.append((curve, step)),
    )  # fmt: skip
    assert [step for curve, step in curves if curve == "validation/s"] == [10, 20]
    assert torch.load(tmp_path / "best.ckpt", weights_only=True)["global_step"] in (10, 20)
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 25
