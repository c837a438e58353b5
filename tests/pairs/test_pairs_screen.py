"""The screening of pairs: each test against an independent one, and no work where there is none to do."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairloop.errors import UserError
from fairloop.lexicon import neutral_sentences, toxic_terms
from fairloop.pairs.duplicates import similarities
from fairloop.pairs.pair import Pair, PairRow, reasons
from fairloop.pairs.screen import fluency_of, screen_pairs
from fairloop.pairs.settings import ScreenSettings
from fairloop.pairs.toxicity import ToxicityClassifier, toxic_term_in, toxicity_scorer, wordlist_toxicity


def rows_of(*texts):
    return [
        PairRow(
            Pair(item, text, text.replace("He", "She").replace("his", "her"), "nurse", "occupation", "he/she", "swap")
        )
        for item, text in enumerate(texts)
    ]


def jaccard(first, second):
    """Of word trigrams, the plain way."""

    def grams(text):
        words = "".join(c if c.isalnum() else " " for c in text.lower()).split()
        return {" ".join(words[i : i + 3]) for i in range(max(1, len(words) - 2))}

    one, other = grams(first), grams(second)
    return len(one & other) / len(one | other)


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=9).map(" ".join), max_size=25),
    threshold=st.sampled_from([0.3, 0.5, 0.7, 1.0]),
)
def test_similarities_equal_comparing_each_with_each(texts, threshold):
    earlier, expected = [], []
    for text in texts:
        best = max((jaccard(text, other) for other in earlier), default=0.0)
        expected.append(best)
        if best < threshold:
            earlier.append(text)
    assert similarities(texts, threshold) == pytest.approx(expected)


def test_form_and_duplicates():
    rows = rows_of(
        "He is a nurse at the old hospital in town.",
        "He is a nurse at the old hospital in town.",
        "He is a nurse at the old hospital in Rome.",
        "He is.",
        "He is a nurse, and he is a nurse, and he is a nurse.",
        "He est infirmier dans une clinique.",
        "He is a nurse " + "and so on " * 15 + "here.",
    )
    screened = screen_pairs(rows, ScreenSettings(toxicity="none", fluency="none"))
    assert [row.dropped for row in screened] == [
        "",
        "duplicate",
        "near-duplicate",
        "too short or too long",
        "repeats itself",
        "not English",
        "too short or too long",
    ]
    assert [row.similarity for row in screened] == pytest.approx([0.0, 1.0, 7 / 9, None, None, None, None])
    assert [row.pair for row in screened] == [row.pair for row in rows]
    loose = ScreenSettings(toxicity="none", fluency="none", near_duplicates=1.0, english=False, shortest=2)
    assert reasons(screen_pairs(rows, loose)) == {"duplicate": 1, "repeats itself": 1, "too short or too long": 1}


def test_what_was_dropped_before_stays_and_nothing_is_computed_for_it():
    asked = []

    def score(sentences):
        asked.extend(sentences)
        return np.zeros(len(sentences))

    rows = rows_of("He is a nurse.", "He is a tired nurse at night.")
    rows[0] = PairRow(rows[0].pair, dropped="before")
    screened = screen_pairs(rows, ScreenSettings(), toxicity=score)
    assert screened[0] == rows[0]
    assert asked == [rows[1].pair.male, rows[1].pair.female]
    asked.clear()
    assert screen_pairs(rows, ScreenSettings(enabled=False), toxicity=score, fluency=score) == rows
    screen_pairs(rows, ScreenSettings(toxicity="none", fluency="none"), toxicity=score, fluency=score)
    assert asked == []
    assert screen_pairs([], ScreenSettings(), toxicity=score, fluency=score) == []


def test_fluency_is_held_against_neutral_sentences_and_treats_both_genders_alike():
    values = {"He is a nurse.": -9.0, "She is a nurse.": -1.0, "He is a tall chef.": -4.9, "She is a tall chef.": -5.2}
    neutral = list(neutral_sentences("heldin"))

    def fluency(sentences):
        return np.array([-3.0 + 0.01 * (neutral.index(s) % 3 - 1) if s in neutral else values[s] for s in sentences])

    rows = rows_of("He is a nurse.", "He is a tall chef.")
    for pair in (False, True):
        if pair:
            rows = [
                PairRow(Pair(r.pair.item, r.pair.female, r.pair.male, "nurse", "occupation", "he/she", "swap"))
                for r in rows
            ]
        screened = screen_pairs(rows, ScreenSettings(toxicity="none", max_perplexity_ratio=math.e**2), fluency=fluency)
        assert [row.fluency for row in screened] == pytest.approx([-5.0, -5.05])
        assert [row.dropped for row in screened] == ["", "not fluent"]


def test_the_word_list():
    assert toxic_term_in("What an IDIOT he is.") == "idiot"
    assert toxic_term_in("Go  to\nhell, he said.") == "go  to\nhell"
    assert toxic_term_in("He lives in Scunthorpe and likes classic grass.") is None
    assert wordlist_toxicity(["He is shy.", "He is a moron."]).tolist() == [0.0, 1.0]
    terms = toxic_terms()
    assert len(set(terms)) == len(terms) >= 80
    assert all(toxic_term_in(f"He said {term} again.") is not None for term in terms)
    innocent = [*neutral_sentences("heldin"), *neutral_sentences("heldout")]
    assert not wordlist_toxicity(innocent).any()
    screened = screen_pairs(
        rows_of("He is a kind nurse.", "He is a stupid nurse."),
        ScreenSettings(fluency="none"),
        toxicity=wordlist_toxicity,
    )
    assert [(row.toxicity, row.dropped) for row in screened] == [(0.0, ""), (1.0, "toxic")]


def test_which_scorer_the_settings_choose():
    assert toxicity_scorer(ScreenSettings()) is wordlist_toxicity
    assert toxicity_scorer(ScreenSettings(toxicity="none")) is None
    assert toxicity_scorer(ScreenSettings(enabled=False, toxicity="classifier", toxicity_model="x")) is None
    with pytest.raises(ValueError, match="toxicity_model"):
        ScreenSettings(toxicity="classifier")
    with pytest.raises(ValueError, match="shortest"):
        ScreenSettings(shortest=9, longest=8)


@pytest.fixture
def classifier(tmp_path):
    """Write a random classifier with three labels; returns a function of its problem type and labels."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    from tiny_models import write_tokenizer

    def build(problem_type, labels):
        folder = tmp_path / "classifier"
        write_tokenizer(folder)
        config = BertConfig(
            vocab_size=80,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=32,
            initializer_range=0.5,
            pad_token_id=0,
            problem_type=problem_type,
            id2label=dict(enumerate(labels)),
            label2id={label: number for number, label in enumerate(labels)},
        )
        torch.manual_seed(3)
        BertForSequenceClassification(config).save_pretrained(folder)
        return str(folder)

    return build


@pytest.mark.parametrize("problem_type", ["multi_label_classification", "single_label_classification"])
def test_a_classifier_in_batches_equals_one_sentence_at_a_time(classifier, problem_type):
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    path = classifier(problem_type, ["obscene", "Toxic", "insult"])
    sentences = [
        "the nurse said that he will be there",
        "she wrote",
        "a " * 60,
        "the doctor checked the chart with care .",
    ]
    scorer = ToxicityClassifier(path, batch_tokens=40)
    model, tokenizer = (
        AutoModelForSequenceClassification.from_pretrained(path).eval(),
        AutoTokenizer.from_pretrained(path),
    )
    expected = []
    for sentence in sentences:
        ids = torch.tensor([tokenizer(sentence)["input_ids"][:32]])
        logits = model(ids).logits[0].double()
        spread = (
            1 / (1 + torch.exp(-logits))
            if problem_type.startswith("multi")
            else torch.exp(logits) / torch.exp(logits).sum()
        )
        expected.append(spread[1].item())
    assert scorer(sentences) == pytest.approx(expected, abs=1e-5)
    assert np.ptp(expected) > 0.01
    assert len(scorer([])) == 0


def test_the_toxic_label_must_be_known(classifier):
    path = classifier("single_label_classification", ["neutral", "bad"])
    with pytest.raises(UserError, match=r"debias\.screen\.toxicity_label=null: choose one of neutral, bad"):
        ToxicityClassifier(path)
    assert ToxicityClassifier(path, "BAD").label == 1
    with pytest.raises(UserError, match="toxicity_label=worse"):
        ToxicityClassifier(path, "worse")


def test_fluency_of_a_model_is_its_mean_log_probability(tmp_path):
    import torch

    from fairloop.plm.model import LanguageModel
    from fairloop.plm.settings import PlmSettings
    from tiny_models import tiny_generator

    path = str(tiny_generator(tmp_path / "model"))
    plm = LanguageModel.load(PlmSettings(name="tiny", path=path, device="cpu"))
    sentences = ["the nurse said that he will be there", "she wrote a report"]
    found = fluency_of(plm)(sentences)
    # A tokenizer without a start token of its own predicts each later token from the tokens before it alone.
    for value, sentence in zip(found, sentences, strict=True):
        ids = torch.tensor([plm.tokenizer.encode(sentence, add_special_tokens=False)])
        with torch.no_grad():
            inside = torch.log_softmax(plm.models[0](ids).logits[0].double(), -1)
            first = torch.log_softmax(plm.models[0](torch.tensor([[plm.start_id]])).logits[0, 0].double(), -1)[
                ids[0, 0]
            ]
        total = first + sum(inside[place, ids[0, place + 1]] for place in range(ids.shape[1] - 1))
        assert value == pytest.approx(float(total) / ids.shape[1], abs=1e-5)
