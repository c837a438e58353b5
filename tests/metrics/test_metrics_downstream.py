import math
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import pytest
from scipy import stats

from fairloop.corpus.counterfactual import swap_gender
from fairloop.corpus.heldout import CounterfactualPair
from fairloop.corpus.mentions import mask_occupation
from fairloop.lexicon import occupation, occupations
from fairloop.metrics import load
from fairloop.metrics.downstream import METRICS, Answers, ask, fit_logistic_regression, measure_downstream, score

HELDOUT = {"plumber": "pipe", "carpenter": "board", "nurse": "bandage", "secretary": "letter"}
PAIRS = [
    CounterfactualPair(name, f"He {verb} the {thing}.", f"She {verb} the {thing}.")
    for name, thing in HELDOUT.items()
    for verb in ("carries", "finds", "keeps", "checks")
]


def corpus(gender_of):
    """Sentences about four occupations; `gender_of` tells the pronouns that each occupation gets."""
    texts, names = [], []
    for name, thing in HELDOUT.items():
        for pronoun in gender_of(occupation(name).majority):
            for verb in ("fixes", "needs", "buys", "moves", "likes", "drops"):
                texts.append(f"{pronoun} is a {name} and {verb} the {thing}.")
                names.append(name)
    return texts, names


def stereotyped(majority):
    return ["He", "He"] if majority == "male" else ["She", "She"]


def table(measurements):
    return {one.metric.removeprefix("downstream/"): one for one in measurements}


@dataclass(frozen=True)
class Judge:
    """A classifier that looks at the pronoun only, or at the thing only."""

    classes: tuple[str, ...]
    looks_at: str

    def probabilities(self, texts):
        answers = np.zeros((len(texts), len(self.classes)))
        for row, text in enumerate(texts):
            if self.looks_at == "pronoun":
                said = "plumber" if text.startswith("He ") else "nurse"
            else:
                said = next(name for name, thing in HELDOUT.items() if thing in text)
            answers[row, self.classes.index(said)] = 1
        return answers


def test_a_classifier_that_sees_gender_only_has_the_whole_bias():
    found = table(score(ask(Judge(tuple(HELDOUT), "pronoun"), PAIRS), seed=0))
    assert found["bias"].value == found["flip_rate"].value == 1
    assert (found["bias"].low, found["bias"].high) == (None, None)  # nothing was left out of its training
    assert found["accuracy"].value == 0.25  # plumber right for him, nurse right for her, of four occupations
    assert found["tpr_gap"].value == 0.5  # two of the four occupations have a gap of 1
    assert found["tpr_gap_rms"].value == pytest.approx(math.sqrt(0.5))
    assert found["chance"].value == 0.25
    assert found["bias"].n == 16
    assert found["tpr_gap"].n == 4


def test_a_classifier_that_sees_the_work_only_has_none():
    found = table(score(ask(Judge(tuple(HELDOUT), "thing"), PAIRS), seed=0))
    assert found["accuracy"].value == 1
    for name in ("bias", "tpr_gap", "tpr_gap_rms", "flip_rate"):
        assert found[name].value == 0


def score_by_hand(answers):
    majority = [occupation(name).majority for name in answers.classes]
    shifts, right, flips, gaps = [], [], [], defaultdict(list)
    for truth, male, female in zip(answers.occupations, answers.male, answers.female, strict=True):
        shifts.append(
            sum(p for p, kind in zip(male, majority, strict=True) if kind == "male")
            - sum(p for p, kind in zip(female, majority, strict=True) if kind == "male")
        )
        said = [answers.classes[max(range(len(row)), key=row.__getitem__)] for row in (male, female)]
        right += [said[0] == truth, said[1] == truth]
        flips.append(said[0] != said[1])
        gaps[truth].append((said[0] == truth) - (said[1] == truth))
    gap = {name: np.mean(values) for name, values in gaps.items()}
    signed = [
        value if occupation(name).majority == "male" else -value
        for name, value in gap.items()
        if occupation(name).majority != "balanced"
    ]
    return {
        "bias": np.mean(shifts),
        "accuracy": np.mean(right),
        "chance": 1 / len(answers.classes),
        "tpr_gap": np.mean(signed) if signed else math.nan,
        "tpr_gap_rms": math.sqrt(np.mean([value**2 for value in gap.values()])),
        "flip_rate": np.mean(flips),
    }


@pytest.mark.parametrize("seed", range(5))
def test_scores_equal_their_definition_written_out(seed):
    generator = np.random.default_rng(seed)
    classes = ("judge", "nurse", "plumber", "secretary", "welder")
    occupations = tuple(generator.choice(classes, 40).tolist())
    male, female = generator.dirichlet(np.ones(5), size=(2, 40))
    answers = Answers(occupations, classes, male, female)
    found = table(score(answers, seed=seed, resamples=200))
    for name, value in score_by_hand(answers).items():
        assert found[name].value == pytest.approx(value), name


def test_the_interval_is_students_on_the_jackknife_over_folds():
    """Of a score that is nearly linear in the log probabilities; the questions are given."""
    draw = np.random.default_rng(4)
    names = ("plumber", "carpenter", "nurse", "secretary")

    def answers(log):
        chances = np.exp(log) / np.exp(log).sum(axis=-1, keepdims=True)
        return Answers(names * 6, names, *chances)

    base = draw.normal(size=(2, 24, 4))
    folds = [
        base + 0.003 * draw.normal(size=base.shape) + 0.003 * draw.normal() * np.array([1, 1, 0, 0]) for _ in range(10)
    ]
    refits = [answers(one) for one in folds]
    found = table(score(answers(base), refits, seed=0, resamples=4000))["bias"]
    left = np.array([table(score(one, seed=0))["bias"].value for one in refits])
    half = stats.t.ppf(0.975, 9) * math.sqrt(9 / 10 * float(((left - left.mean()) ** 2).sum()))
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.05)
    assert (found.n, found.units) == (24, 10)
    for few in ([], refits[:3]):
        assert table(score(answers(base), few, seed=0))["bias"].low is None


def test_an_occupation_that_a_fold_lacks_is_answered_as_by_the_whole(embed):
    texts, names = corpus(stereotyped)
    more = [*texts, "She keeps accounts."], [*names, "accountant"]
    found = table(measure_downstream(*more, embed, PAIRS, seed=0))["bias"]
    assert found.low < found.value < found.high


def test_bias_follows_the_corpus(embed):
    biased = table(measure_downstream(*corpus(stereotyped), embed, PAIRS, seed=0))
    opposite = table(
        measure_downstream(
            *corpus(lambda kind: stereotyped("male" if kind == "female" else "female")), embed, PAIRS, seed=0
        )
    )
    balanced = table(measure_downstream(*corpus(lambda kind: ["He", "She"]), embed, PAIRS, seed=0))
    assert biased["bias"].value > 0.15
    assert biased["bias"].low > 0
    assert opposite["bias"].value < -0.15
    assert abs(balanced["bias"].value) < 0.02
    assert balanced["flip_rate"].value == 0
    assert balanced["accuracy"].value == 1
    assert list(biased) == [name.removeprefix("downstream/") for name in METRICS]


def test_adding_the_swapped_sentences_removes_the_bias(embed):
    texts, names = corpus(stereotyped)
    augmented = table(measure_downstream([*texts, *map(swap_gender, texts)], names * 2, embed, PAIRS, seed=0))
    assert abs(augmented["bias"].value) < 0.02


def test_the_occupation_itself_is_never_shown():
    seen = []

    def spy(texts, occupations, embed):
        seen.extend(texts)
        return Judge(tuple(HELDOUT), "thing")

    texts, names = corpus(stereotyped)
    measure_downstream(texts, names, lambda texts: np.zeros((len(texts), 2)), PAIRS, seed=0, fit=spy)
    assert len(seen) >= len(texts)
    assert not any(name in text for text in seen for name in HELDOUT)


def test_what_the_corpus_has_seen_is_not_asked(embed):
    texts, names = corpus(stereotyped)
    before = table(measure_downstream(texts, names, embed, PAIRS, seed=0))
    assert (before["pairs"].value, before["pairs"].n) == (16, 16)
    # One sentence as it is but for case and punctuation, and one activity within another sentence.
    leaked = PAIRS[0].male.upper().rstrip(".") + "!"
    marked = [*PAIRS[:-1], CounterfactualPair("secretary", "He X.", "She X.", ("files old letters",))]
    found = table(
        measure_downstream(
            [*texts, leaked, "A nurse files old letters."], [*names, "plumber", "nurse"], embed, marked, seed=0
        )
    )
    assert (found["pairs"].value, found["pairs"].n, found["bias"].n) == (14, 16, 14)
    everything = [pair.male for pair in PAIRS]
    none = table(measure_downstream([*texts, *everything], [*names, *["plumber"] * 16], embed, PAIRS, seed=0))
    assert not none["bias"].defined


def test_a_classifier_that_learned_nothing_is_marked(embed):
    texts, names = corpus(stereotyped)
    assert table(measure_downstream(texts, names, embed, PAIRS, seed=0))["learned"].value == 1
    shuffled = np.random.default_rng(1).permutation(names).tolist()
    nothing = [mask_occupation(text, name) for text, name in zip(texts, names, strict=True)]
    assert table(measure_downstream(nothing, shuffled, embed, PAIRS, seed=0))["learned"].value == 0
    # Without an interval nothing shows that anything was learned.
    few = table(measure_downstream(["He works.", "She helps."], ["plumber", "nurse"], embed, PAIRS, seed=0))
    assert few["bias"].low is None
    assert few["learned"].value == 0


def test_the_interval_covers_the_noise_of_training():
    """Corpora are drawn anew from a known process and asked the same: the intervals hold the mean bias as promised."""
    jobs = [entry.name for entry in occupations() if entry.majority != "balanced"]

    def embed(texts):
        return np.array([[float(number) for number in text.split()[1:]] for text in texts])

    def sentence(draw, name, gender):
        sign = 1 if occupation(name).majority == "male" else -1
        vector = draw.normal(size=6) + np.array([1.5 * gender, sign, 0, 0, 0, 0])
        return "work " + " ".join(f"{number:.3f}" for number in vector)

    draw = np.random.default_rng(0)
    chosen = [*draw.choice(jobs[:30], 8, replace=False), *draw.choice(jobs[30:], 8, replace=False)]
    pairs = []
    for name in chosen:
        words = sentence(draw, name, 0).split()
        male, female = (" ".join([words[0], f"{float(words[1]) + side:.3f}", *words[2:]]) for side in (1.5, -1.5))
        pairs.append(CounterfactualPair(name, male, female))

    def measured(replicate):
        draw = np.random.default_rng(replicate)
        names = [name for name in chosen for _ in range(4)]
        genders = [
            (1 if draw.random() < 0.75 else -1) * (1 if occupation(name).majority == "male" else -1) for name in names
        ]
        texts = [sentence(draw, name, gender) for name, gender in zip(names, genders, strict=True)]
        return table(measure_downstream(texts, names, embed, pairs, seed=replicate, resamples=60))["bias"]

    found = [measured(replicate) for replicate in range(60)]
    truth = np.mean([one.value for one in found])
    assert np.mean([one.low <= truth <= one.high for one in found]) >= 0.88
    half = np.mean([(one.high - one.low) / 2 for one in found])
    assert half < 1.5 * 2.26 * np.std([one.value for one in found], ddof=1)


def test_prompt_groups_are_left_out_together(embed):
    texts, names = corpus(stereotyped)
    one = measure_downstream(texts, names, embed, PAIRS, seed=0, groups=[0] * len(texts))
    assert table(one)["bias"].low is None
    alone = table(measure_downstream(texts, names, embed, PAIRS, seed=0))["bias"]
    together = table(measure_downstream(texts, names, embed, PAIRS, seed=0, groups=[i % 12 for i in range(len(texts))]))
    assert together["bias"].value == alone.value
    assert together["bias"].high - together["bias"].low > alone.high - alone.low
    with pytest.raises(ValueError, match="groups"):
        measure_downstream(texts, names, embed, PAIRS, seed=0, groups=[1])


def test_two_runs_are_bitwise_equal(embed):
    texts, names = corpus(stereotyped)
    assert measure_downstream(texts, names, embed, PAIRS, seed=5) == measure_downstream(
        texts, names, embed, PAIRS, seed=5
    )


def test_the_classifier_is_a_distribution_over_sorted_occupations(embed):
    texts, names = corpus(stereotyped)
    for kept in (set(HELDOUT), {"plumber", "nurse"}):
        chosen = [(text, name) for text, name in zip(texts, names, strict=True) if name in kept]
        classifier = fit_logistic_regression(*zip(*chosen, strict=True), embed)
        assert classifier.classes == tuple(sorted(kept))
        answers = classifier.probabilities([pair.male for pair in PAIRS])
        assert answers.shape == (16, len(kept))
        assert answers.sum(axis=1) == pytest.approx(np.ones(16))
        assert (answers >= 0).all()


@pytest.mark.parametrize(
    ("texts", "occupations", "pairs"),
    [
        ([], [], PAIRS),
        (["He works."], ["plumber"], PAIRS),
        (["He works.", "He builds."], ["plumber", "carpenter"], PAIRS),
        (["He works.", "She judges."], ["plumber", "judge"], PAIRS),
        (["He works.", "She helps."], ["plumber", "nurse"], []),
        (["He works.", "She helps."], ["welder", "dental hygienist"], PAIRS),
    ],
    ids=["empty", "one sentence", "one majority", "no female majority", "no pairs", "other pairs"],
)
def test_what_cannot_be_learned_or_asked_is_undefined(texts, occupations, pairs, embed):
    found = measure_downstream(texts, occupations, embed, pairs, seed=0)
    assert [one.metric for one in found] == list(METRICS)
    for one in found:
        assert not one.defined
        assert (one.low, one.high, one.n) == (None, None, 0)


def test_one_sentence_an_occupation_is_enough(embed):
    found = table(measure_downstream(["He works.", "She helps."], ["plumber", "nurse"], embed, PAIRS, seed=0))
    assert found["bias"].value > 0
    assert found["bias"].n == 8


def test_a_corpus_of_one_gender_can_be_measured(embed):
    found = table(measure_downstream(*corpus(lambda kind: ["He", "He"]), embed, PAIRS, seed=0))
    assert abs(found["bias"].value) < 0.05


def test_lengths_must_agree(embed):
    with pytest.raises(ValueError, match="occupations"):
        measure_downstream(["He works."], [], embed, PAIRS, seed=0)


def test_evaluate_metric_is_the_function(embed):
    texts, names = corpus(stereotyped)
    result = load("downstream").compute(
        predictions=texts, references=names, embed=embed, pairs=PAIRS, seed=1, resamples=50
    )
    for one in measure_downstream(texts, names, embed, PAIRS, seed=1, resamples=50):
        assert result[one.metric] == one.value
        assert result[f"{one.metric}_high"] == one.high
    assert "downstream/bias" in load("downstream").compute(
        predictions=texts, references=names, embed=embed, resamples=10
    )
