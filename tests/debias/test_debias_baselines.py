"""Each baseline on a tiny PLM with a planted stereotype: its known effect, and the folder that it leaves."""

import json

import numpy as np
import pytest
import torch

from fairloop.debias.base import DebiasData
from fairloop.debias.registry import method, methods, settings_of
from fairloop.errors import UserError
from fairloop.pairs.pair import Pair
from fairloop.plm.encoder import SentenceEncoder
from fairloop.plm.model import LanguageModel, ScoreRequest
from fairloop.plm.scoring import token_scores
from fairloop.plm.settings import PlmSettings
from fairloop.training.hook import Training
from masked_models import (
    ATTRIBUTES,
    CPU,
    JOBS,
    MEN,
    NEUTRAL,
    SLOTS,
    WORDS,
    biased_masked,
    counterfactuals,
    neutral,
    planted_masked,
    tiny_masked,
)  # fmt: skip
from unit_vectors import alignment, uniformity

BUDGET = {"steps": 60, "batch_size": 16, "learning_rate": 3e-3}
# At the rate of BUDGET the first steps of a new optimiser shake off what so small a model has memorised, stereotype
# included, whatever the text. What the counterfactuals do is told from that at half the rate, in more steps.
CDA = {"steps": 150, "batch_size": 16, "learning_rate": 1.5e-3, "mask_share": 0.3}
# The squared products of the tiny model's states are a hundred times the distances that the regulariser averages over
# dimensions: at the published weights of BERT, 0.2 and 0.8, it would have no say, and what is bought by moving every
# word is lost again when the attributes' vectors follow. These weights make the two alike.
CONTEXT = {"steps": 150, "batch_size": 16, "learning_rate": 3e-3, "alpha": 0.02, "beta": 0.98}


@pytest.fixture(scope="module")
def biased(tmp_path_factory):
    return plm_of(biased_masked(tmp_path_factory.mktemp("biased")))


def plm_of(path, kind="masked"):
    return PlmSettings(name="tiny", path=str(path), kind=kind, device="cpu")


def pairs_of(rows):
    return [
        Pair(item, male, female, job, "occupation", attribute, "template")
        for item, (male, female, job, attribute) in enumerate(rows)
    ]


def material(slots=SLOTS):
    return DebiasData(pairs_of(counterfactuals(slots)), neutral(), ())


def debiased(name, plm, tmp_path, slots=SLOTS, **chosen):
    folder = tmp_path / name
    folder.mkdir(parents=True)
    chosen_method = method(settings_of({"name": name, **chosen}))
    chosen_method.check(plm)
    chosen_method.debias(plm, material(slots), folder, Training(CPU, seed=0, work=tmp_path / f"{name}-work"))
    return plm_of(folder, plm.kind)


def log_odds(plm):
    """log P(he) − log P(she) at the masked pronoun, for every job and slot with one."""
    model = LanguageModel.load(plm)
    tokens = tuple(model.tokenizer.convert_tokens_to_ids(["he", "she"]))
    requests = []
    for slot in SLOTS[:3]:
        for encoded in model.encode([slot.format(job=job, he="[MASK]") for job in JOBS]):
            place = encoded.ids.index(model.mask_id)
            requests.append(ScoreRequest(encoded.ids, (place, place), tokens))
    return np.array([he - she for he, she in model.score(requests)])


def stereotype(plm):
    """Mean log odds in favour of the planted stereotype: 0 if the pronoun does not depend on the job."""
    signs = np.array([1 if job in MEN else -1 for job in JOBS] * 3)
    return float((signs * log_odds(plm)).mean())


def card(plm):
    from pathlib import Path

    return (Path(plm.path) / "README.md").read_text()


def test_the_bias_is_planted(biased):
    assert stereotype(biased) > 1.5


# training


def test_cda_makes_counterfactuals_equally_likely(biased, tmp_path):
    after = debiased("cda", biased, tmp_path, **CDA)
    assert abs(stereotype(after)) < 0.25 * stereotype(biased), stereotype(after)
    gaps = []
    for plm in (biased, after):
        scores = token_scores(LanguageModel.load(plm), [text for row in counterfactuals() for text in row[:2]])
        gaps.append(np.mean([abs(m.total - f.total) for m, f in zip(scores[::2], scores[1::2], strict=True)]))
    assert gaps[1] < 0.4 * gaps[0], gaps
    assert "debiased with cda" in card(after)
    assert "40 counterfactual pairs, 25 neutral sentences" in card(after)
    assert "not** debiased" not in card(after)


def test_it_is_the_second_side_of_cda_that_removes_the_stereotype(biased, tmp_path):
    """The same training on the text alone, each sentence twice, keeps it."""
    rows = [
        (male, male, job, attribute) if job in MEN else (female, female, job, attribute)
        for male, female, job, attribute in counterfactuals()
    ]
    chosen = method(settings_of({"name": "cda", **CDA}))
    one_sided = DebiasData(pairs_of(rows), neutral(), ())
    chosen.debias(biased, one_sided, tmp_path / "out", Training(CPU, seed=0, work=tmp_path / "work"))
    assert stereotype(plm_of(tmp_path / "out")) > 0.5 * stereotype(biased)


@pytest.mark.parametrize("weights", ["full", "lora"])
def test_dropout_is_raised_while_it_trains_and_restored_in_what_is_written(biased, tmp_path, monkeypatch, weights):
    from fairloop.training import language_modeling

    rates = []
    original = language_modeling.MaskedLMModule.loss_parts

    def watched(self, batch):
        rates.append({module.p for module in self.modules() if type(module) is torch.nn.Dropout and module.training})
        return original(self, batch)

    monkeypatch.setattr(language_modeling.MaskedLMModule, "loss_parts", watched)
    budget = {"steps": 5, "batch_size": 16, "learning_rate": 1e-3, "weights": weights}
    after = debiased("dropout", biased, tmp_path, hidden_dropout=0.3, attention_dropout=0.25, **budget)
    assert rates == [{0.3, 0.25}] * 5
    config = json.loads((tmp_path / "dropout" / "config.json").read_text())
    assert config["hidden_dropout_prob"] == config["attention_probs_dropout_prob"] == 0.0
    assert not np.allclose(log_odds(after), log_odds(biased), atol=1e-4)
    again = debiased("dropout", biased, tmp_path / "again", hidden_dropout=None, attention_dropout=None, **budget)
    assert rates[5:] == [{0.0}] * 5
    assert not np.allclose(log_odds(after), log_odds(again), atol=1e-4)


def test_a_family_without_hidden_dropout_is_the_users_mistake(tmp_path):
    from tiny_models import tiny_generator

    plm = plm_of(tiny_generator(tmp_path / "llama"), "causal")
    with pytest.raises(UserError, match=r"^debias\.hidden_dropout=0\.2: null; llama has no such dropout$"):
        debiased("dropout", plm, tmp_path, **BUDGET)


def test_a_causal_plm_is_trained_too(tmp_path):
    from tiny_models import tiny_generator

    plm = plm_of(tiny_generator(tmp_path / "llama", words=WORDS), "auto")
    after = debiased("cda", plm, tmp_path, steps=40, batch_size=16, learning_rate=5e-3)
    texts = [row[0] for row in counterfactuals()]
    before, now = ([one.mean for one in token_scores(LanguageModel.load(one), texts)] for one in (plm, after))
    assert np.mean(now) > np.mean(before) + 0.5
    assert "AutoModelForCausalLM" in card(after)


def test_mabel_brings_counterfactuals_together_and_keeps_others_apart(biased, tmp_path):
    after = debiased("mabel", biased, tmp_path, pooling="mean", **BUDGET)
    measured = []
    for plm in (biased, after):
        rows = counterfactuals()
        encoder = SentenceEncoder.load(plm.path)
        male, female = (torch.from_numpy(encoder.embed([row[side] for row in rows])) for side in (0, 1))
        measured.append((alignment(male, female), uniformity(male)))
    assert measured[1][0] < 0.5 * measured[0][0], measured
    assert measured[1][1] < measured[0][1] + 0.3, measured
    assert "counterfactual pairs in place of entailment pairs" in card(after)


ENTAILED = "premise,hypothesis,label\n"


def entailment_file(folder, slots=SLOTS):
    path = folder / "entailment.csv"
    rows = [f'"{male}","{male} today",entailment' for male, _, _, _ in counterfactuals(slots)]
    path.write_text(ENTAILED + "\n".join([*rows, '"the plan worked","the plan worked hard",entailment']) + "\n")
    return path


def test_mabel_learns_from_the_users_entailment_pairs(biased, tmp_path):
    """Premises entail their hypotheses alike for both genders, and other sentences stay apart."""
    from fairloop.corpus.counterfactual import swap_gender
    from fairloop.debias.mabel.entailment import read_entailment
    from fairloop.pairs.verification import held_out_in

    path = entailment_file(tmp_path)
    rows = read_entailment(str(path))
    # The last row has no gendered word, and some jobs are held out for the benchmark of templates.
    assert [row[0] for row in rows] == [row[0] for row in counterfactuals() if held_out_in(row[0]) is None]
    assert all(row[2:] == (swap_gender(row[0]), swap_gender(row[1])) != row[:2] for row in rows)
    assert not method(settings_of({"name": "mabel", "entailment": str(path)})).uses_pairs
    after = debiased("mabel", biased, tmp_path, pooling="mean", entailment=str(path), **BUDGET)
    measured = []
    for plm in (biased, after):
        encoder = SentenceEncoder.load(plm.path)
        parts = [torch.from_numpy(encoder.embed([row[k] for row in rows], normalize=True)) for k in range(4)]
        own, swapped = parts[0] @ parts[1].T, parts[2] @ parts[3].T
        measured.append((float((own - swapped).pow(2).mean()), float((own.diag() - own.mean(dim=1)).mean())))
    assert measured[1][0] < 0.5 * measured[0][0], measured
    assert measured[1][1] > measured[0][1], measured
    assert f"{len(rows)} entailing pairs" in card(after)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (None, "there is no such file"),
        (b"text\nHe is here.\n", "a CSV table with the columns premise and hypothesis, none twice"),
        (b"premise,hypothesis\n\xff\xfe,x\n", "a CSV table in UTF-8"),
        (b"", "a CSV table with the columns premise and hypothesis"),
        (ENTAILED.encode() + b"He runs.,He moves.,entailment\nIt rains.,Rain falls.,entailment\n", "1 are left"),
        (ENTAILED.encode() + b"He runs.,He moves.,e\nShe sits.,She rests.,e\n", "at most 2, the entailing pairs"),
    ],
)
def test_a_wrong_table_of_entailment_pairs_is_one_line(tmp_path, content, line):
    path = tmp_path / "pairs.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=line) as raised:
        method(settings_of({"name": "mabel", "entailment": str(path)})).check(plm_of("anything"))
    assert "\n" not in str(raised.value)
    assert str(raised.value).startswith(("debias.entailment=", "debias.batch_size=8: "))


@pytest.mark.parametrize("level", ["token", "sentence"])
def test_context_debias_makes_targets_orthogonal_to_attributes(biased, tmp_path, level):
    after = debiased("context_debias", biased, tmp_path, level=level, **CONTEXT)
    measured = []
    for plm in (biased, after):
        encoder = SentenceEncoder.load(plm.path)
        words = {word: encoder.tokenizer.convert_tokens_to_ids(word) for word in (*JOBS, "he", "she", "plan", "hard")}
        states = {word: [] for word in words}
        for text in [*(text for row in counterfactuals() for text in row[:2]), *neutral()]:
            ids = torch.tensor([encoder.tokenizer(text)["input_ids"]])
            with torch.no_grad():
                hidden = torch.stack(encoder.model(ids, output_hidden_states=True).hidden_states)[:, 0]
            for word, token in words.items():
                states[word] += [hidden[:, place] for place in (ids[0] == token).nonzero()[:, 0]]
        vectors = {word: torch.stack(some).mean(dim=0) for word, some in states.items()}  # [layers, width]
        gender = vectors["he"] - vectors["she"]
        targets = torch.stack([vectors[job] for job in JOBS])
        measured.append(
            {
                "attribute": float(torch.einsum("jlw,lw->jl", targets, vectors["he"]).pow(2).mean()),
                "gender": float(torch.einsum("jlw,lw->jl", targets, gender).pow(2).mean()),
                "kept": torch.stack([vectors["plan"], vectors["hard"]]),
            }
        )
    before, now = measured
    assert now["attribute"] < 0.3 * before["attribute"], measured
    assert now["gender"] < 0.5 * before["gender"], measured
    if level == "token":  # the others may move only as far as the regulariser lets them
        moved = (now["kept"] - before["kept"]).norm() / before["kept"].norm()
        assert moved < 0.5, moved


def test_auto_debias_takes_the_divergence_away(biased, tmp_path):
    from fairloop.debias.auto_debias.method import choose_words, divergences
    from fairloop.plm.loading import load_model, load_tokenizer

    search = {"beam": 4, "prompt_length": 2, "candidates": 12}
    after = debiased("auto_debias", biased, tmp_path, **search, **BUDGET)
    prompts = json.loads((tmp_path / "auto_debias-work" / "prompts.json").read_text())["prompts"]
    assert [len(prompt.split()) for prompt in prompts] == [1] * 4 + [2] * 4
    tokenizer = load_tokenizer(biased.path)
    chosen = settings_of({"name": "auto_debias", **search})
    words = choose_words(material(), tokenizer, chosen)
    assert words.gendered == (("he", "she"), ("man", "woman"))
    assert len(words.stereotypes) == len(JOBS)
    assert not {*words.candidates} & {*ATTRIBUTES, *ATTRIBUTES.values()}
    before, now = (divergences(load_model(plm.path, "masked"), tokenizer, prompts, words) for plm in (biased, after))
    assert np.mean(now) < 0.1 * np.mean(before), (before, now)


def test_the_beam_search_finds_the_best_prompts(biased):
    """One word: against every candidate, with the divergence computed by scipy; two words: none was overlooked."""
    from scipy.spatial.distance import jensenshannon

    from fairloop.debias.auto_debias.method import choose_words, search
    from fairloop.plm.loading import load_model, load_tokenizer

    model, tokenizer = load_model(biased.path, "masked"), load_tokenizer(biased.path)
    words = choose_words(material(), tokenizer, settings_of({"name": "auto_debias", "candidates": 8}))

    @torch.no_grad()
    def score(prompt):
        found = []
        for pair in words.gendered:
            both = []
            for word in pair:
                ids = tokenizer(f"{word} {prompt} [MASK].", return_tensors="pt")["input_ids"]
                logits = model(ids).logits[0, (ids[0] == tokenizer.mask_token_id).nonzero()[0, 0]]
                both.append(logits[list(words.stereotypes)].double().softmax(dim=-1).numpy())
            found.append(jensenshannon(*both) ** 2)
        return np.mean(found)

    found = search(model, tokenizer, words, beam=8, length=2)
    assert sorted(found[:8]) == sorted(words.candidates)
    single = sorted(map(score, words.candidates), reverse=True)
    np.testing.assert_allclose([score(prompt) for prompt in found[:8]], single, rtol=1e-3)
    double = sorted((score(f"{one} {two}") for one in words.candidates for two in words.candidates), reverse=True)
    np.testing.assert_allclose([score(prompt) for prompt in found[8:]], double[:8], rtol=1e-3)


# inference time


def probe(plm, seed=0):
    """Held-out accuracy of a linear classifier that tells male sentences from female ones."""
    from sklearn.linear_model import LogisticRegression

    rows = counterfactuals()
    vectors = SentenceEncoder.load(plm.path).embed([text for row in rows for text in row[:2]])
    labels = np.tile([1, 0], len(rows))
    jobs = np.repeat([JOBS.index(row[2]) for row in rows], 2)
    accuracies = []
    for part in range(4):  # jobs of either gender held out
        held = np.isin(jobs, [part, part + 4])
        classifier = LogisticRegression(C=100.0, max_iter=2000).fit(vectors[~held], labels[~held])
        accuracies.append(classifier.score(vectors[held], labels[held]))
    return float(np.mean(accuracies))


@pytest.mark.parametrize(
    ("name", "chosen"), [("inlp", {"classifiers": 3}), ("sentence_debias", {"components": 1})], ids=["inlp", "sent"]
)
def test_after_a_projection_a_linear_probe_is_at_chance(tmp_path, name, chosen):
    from transformers import AutoModelForMaskedLM

    start = plm_of(planted_masked(tmp_path / "planted"))
    after = debiased(name, start, tmp_path, **chosen)
    assert probe(start) > 0.95
    assert 0.4 < probe(after) < 0.6, probe(after)
    assert "**not** debiased" in card(after)
    plain, before = (AutoModelForMaskedLM.from_pretrained(plm.path).state_dict() for plm in (after, start))
    assert all(torch.equal(plain[key], before[key]) for key in before)


@pytest.mark.parametrize(
    ("name", "chosen"), [("inlp", {"classifiers": 5}), ("sentence_debias", {"components": 4})], ids=["inlp", "sent"]
)
def test_a_projection_changes_predictions_too(biased, tmp_path, name, chosen):
    after = debiased(name, biased, tmp_path, **chosen)
    print({"stereotype": (stereotype(biased), stereotype(after)), "probe": (probe(biased), probe(after))})
    assert probe(after) < probe(biased) - 0.15
    assert abs(stereotype(after)) < stereotype(biased)


def planted(count=400, width=24, dimensions=2, seed=0):
    """Vectors with gender along known directions, and noise elsewhere; rows alternate male and female."""
    random = np.random.default_rng(seed)
    basis = np.linalg.qr(random.normal(size=(width, dimensions)))[0]
    shared = np.repeat(random.normal(size=(count, width)), 2, axis=0)
    labels = np.tile([1, 0], count)
    size = 2 + random.random((2 * count, dimensions))
    side = (2 * labels - 1)[:, None] * size
    return shared + side @ basis.T, labels, basis


def test_sentence_debias_finds_the_planted_direction():
    from sklearn.linear_model import LogisticRegression

    from fairloop.debias.sentence_debias import bias_subspace

    vectors, labels, basis = planted(dimensions=1)
    found = bias_subspace(vectors[::2], vectors[1::2], 1)
    assert abs(float(found[:, 0] @ basis[:, 0])) > 0.95
    left = vectors - vectors @ found @ found.T
    half = len(vectors) // 2
    before, after = (
        LogisticRegression(max_iter=1000).fit(some[:half], labels[:half]).score(some[half:], labels[half:])
        for some in (vectors, left)
    )
    assert before > 0.9
    assert after < 0.65
    with pytest.raises(UserError, match=r"^debias\.components=30: at most 24: 400 pairs of width 24$"):
        bias_subspace(vectors[::2], vectors[1::2], 30)


def test_inlp_removes_every_planted_direction_and_equals_the_intersection_of_null_spaces():
    from scipy.linalg import orth
    from sklearn.svm import LinearSVC

    from fairloop.debias.inlp import informative_subspace

    vectors, labels, _ = planted()
    found = informative_subspace(vectors, labels, 8)
    np.testing.assert_allclose(found.T @ found, np.eye(found.shape[1]), atol=1e-10)
    left = vectors - vectors @ found @ found.T
    assert LinearSVC(dual=False).fit(left[:400], labels[:400]).score(left[400:], labels[400:]) < 0.6
    assert LinearSVC(dual=False).fit(vectors[:400], labels[:400]).score(vectors[400:], labels[400:]) > 0.9
    found = informative_subspace(vectors, labels, 4)
    # Ben-Israel's formula for the intersection, as in the published implementation.
    rows, projected = [], vectors
    for _ in range(4):
        weights = LinearSVC(fit_intercept=False, dual=False, random_state=0).fit(projected, labels).coef_
        rows.append(orth(weights.T) @ orth(weights.T).T)
        together = orth(sum(rows))
        projected = vectors - vectors @ together @ together.T
    np.testing.assert_allclose(found @ found.T, together @ together.T, atol=1e-4)


@pytest.mark.parametrize(("width", "count"), [(768, 80), (384, 40), (1024, 107), (24, 2), (4, 1)])
def test_inlp_takes_the_published_share_of_any_width(width, count):
    from fairloop.debias.inlp import classifiers_for

    assert classifiers_for(width) == count


def test_inlps_default_goes_by_the_plms_width(biased, tmp_path):
    after = debiased("inlp", biased, tmp_path)  # 32 wide: three classifiers
    record = json.loads((tmp_path / "inlp" / "fairloop_debias.json").read_text())
    assert record["settings"]["classifiers"] == 3, record
    assert record["settings"]["dimensions_removed"] <= 9
    assert not np.allclose(log_odds(after), log_odds(biased), atol=1e-3)


@pytest.mark.parametrize(
    ("family", "rates"), [("albert", (0.05, 0.05)), ("bert", (0.2, 0.15)), ("roberta", (0.2, 0.15))]
)
def test_dropouts_rates_are_the_published_ones_of_the_family(tmp_path, family, rates):
    """As bias-bench trains them: 0.05 and 0.05 for ALBERT alone."""
    from safetensors.torch import save_file

    (tmp_path / "config.json").write_text(json.dumps({"model_type": family}))
    save_file({"weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    plm = plm_of(tmp_path)
    assert method(settings_of({"name": "dropout"})).rates(plm) == rates
    assert method(settings_of({"name": "dropout", "hidden_dropout": 0.3})).rates(plm) == (0.3, rates[1])
    assert method(settings_of({"name": "dropout", "attention_dropout": None})).rates(plm) == (rates[0], None)


def test_self_debias_writes_a_folder_that_rescales(biased, tmp_path):
    after = debiased("self_debias", biased, tmp_path, prompts=["the man worked hard"], decay=30.0)
    rescaled = LanguageModel.load(after).self_debiasing
    assert (rescaled.decay, rescaled.epsilon) == (30.0, 0.01)
    assert not np.allclose(log_odds(after), log_odds(biased), atol=1e-3)
    sentences = [row[0] for row in counterfactuals()]
    np.testing.assert_array_equal(
        SentenceEncoder.load(after.path).embed(sentences), SentenceEncoder.load(biased.path).embed(sentences)
    )


def test_a_model_debiased_at_inference_time_is_no_start(biased, tmp_path):
    after = debiased("self_debias", biased, tmp_path)
    with pytest.raises(UserError, match="self_debias acts on it at inference time; start from its own model"):
        debiased("inlp", after, tmp_path / "more")


# mistakes


def test_mistakes_are_one_line(biased, tmp_path):
    assert {"cda", "dropout", "inlp", "sentence_debias", "self_debias", "auto_debias", "context_debias", "mabel"} <= {
        *methods()
    }
    with pytest.raises(UserError, match=r"^debias\.batch_size=500: at most 105, the sentences there are to train on$"):
        debiased("cda", biased, tmp_path / "a", steps=1, batch_size=500)
    for name in ("mabel", "auto_debias"):
        with pytest.raises(UserError, match=rf"^debias={name}: debiases a model that is masked, not causal$"):
            debiased(name, plm_of("anything", "causal"), tmp_path / name)
    with pytest.raises(UserError, match=r"debias\.decay=-1\.0: allowed is a number at least 0"):
        settings_of({"name": "self_debias", "decay": -1.0})


def test_no_mask_token_is_the_users_mistake(tmp_path):
    folder = tiny_masked(tmp_path / "plm")
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "mask_token": None}))
    with pytest.raises(UserError, match="a masked language model needs a mask token, and its tokenizer has none"):
        debiased("cda", plm_of(folder), tmp_path, **BUDGET)


def test_neutral_sentences_with_a_target_are_used_by_context_debias(biased):
    from fairloop.debias.context_debias.sentences import training_data
    from fairloop.plm.loading import load_tokenizer

    tokenizer = load_tokenizer(biased.path)
    sentences, attributes = training_data(material(SLOTS[:1]), tokenizer, settings_of({"name": "context_debias"}))
    assert len(sentences) == 16 + 3 * len(JOBS)  # of NEUTRAL one has no job
    assert len(NEUTRAL) == 4
    ids, targets, kept = sentences[0].ids, sentences[0].targets, sentences[0].kept
    assert tokenizer.convert_ids_to_tokens([ids[place] for place in targets]) == ["pilot"]
    assert sorted([*targets, *kept]) == list(range(len(ids)))
    assert all(sentence.kept == [] for sentence in sentences[16:])
    assert [len(attribute.sentences) for attribute in attributes] == [8, 8]
    words = [
        tokenizer.convert_ids_to_tokens([ids[place] for place in places]) for ids, places in attributes[1].sentences
    ]
    assert words == [["she"]] * 8
