"""The table of pairs, its coverage, the plan behind it, verification, and the sources without a model."""

import itertools
import math
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairloop.corpus.counterfactual import swap_gender
from fairloop.corpus.words import gendered_spans
from fairloop.errors import Fault, UserError
from fairloop.lexicon import attributes, heldout_templates, pair_templates, targets
from fairloop.pairs.coverage_plan import plan_pairs
from fairloop.pairs.pair import (
    COLUMNS,
    Pair,
    PairRow,
    coverage,
    kept,
    load_pairs,
    reasons,
    save_pairs,
)
from fairloop.pairs.sentence_files import GivenSentence, read_sentences
from fairloop.pairs.settings import PairSettings
from fairloop.pairs.sources import gather_pairs
from fairloop.pairs.swap import from_sentences
from fairloop.pairs.template import from_templates
from fairloop.pairs.verification import attribute_in, counterpart_of, differ_only_in_gender, find_targets, held_out_in

KINDS = ("occupation", "trait", "activity")


def row(item=0, male="He is a nurse.", female="She is a nurse.", target="nurse", attribute="he/she", **more):
    kind = more.pop("kind", "occupation")
    return PairRow(Pair(item, male, female, target, kind, attribute, "template"), **more)


# --- the table ------------------------------------------------------------------------------------------------------


def test_a_table_comes_back_as_it_was_saved(tmp_path):
    import pyarrow.parquet as pq

    rows = [
        row(0),
        row(1, replaced=True, fluency=-2.5, toxicity=0.0, similarity=0.25, dropped="toxic"),
        row(2, plausibility=-1.5, target_rank=3.0, aligned=False, effect=-0.125),
    ]
    save_pairs(rows, tmp_path / "pairs.parquet")
    assert load_pairs(tmp_path / "pairs.parquet") == rows
    save_pairs(load_pairs(tmp_path / "pairs.parquet"), tmp_path / "again.parquet")
    assert (tmp_path / "pairs.parquet").read_bytes() == (tmp_path / "again.parquet").read_bytes()
    table = pq.read_table(tmp_path / "pairs.parquet")
    assert table["dropped"].to_pylist() == ["", "toxic", ""]
    assert {field.name: str(field.type) for field in table.schema} == {
        name: {"float64": "double"}.get(kind, kind) for name, kind in COLUMNS.items()
    }
    assert kept(rows) == [rows[0].pair, rows[2].pair]
    assert reasons(rows) == {"toxic": 1}


def test_the_old_name_of_a_column_is_read(tmp_path):
    import pyarrow.parquet as pq

    rows = [row(0, replaced=True), row(1)]
    save_pairs(rows, tmp_path / "pairs.parquet")
    table = pq.read_table(tmp_path / "pairs.parquet")
    old = ["mended" if name == "replaced" else name for name in table.column_names]
    pq.write_table(table.rename_columns(old), tmp_path / "old.parquet")
    assert load_pairs(tmp_path / "old.parquet") == rows


def test_what_is_no_table_of_pairs_is_a_fault(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "other.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no")
    for name in ("other", "broken", "missing"):
        with pytest.raises(Fault, match=f"{name}.parquet"):
            load_pairs(tmp_path / f"{name}.parquet")


# --- coverage and plan ----------------------------------------------------------------------------------------------


def test_coverage_counts_and_balance():
    rows = [row(0), row(1, target="Nurses"), row(2, target="chef"), row(3, attribute="man/woman")]
    rows.append(row(4, target="shy", kind="trait"))
    covered = coverage(kept(rows))
    table = dict(zip(covered.targets, covered.counts.tolist(), strict=True))
    assert covered.attributes == ("he/she", "man/woman")
    assert table == {"chef": [1, 0], "nurse": [2, 1], "shy": [1, 0]}
    balance = covered.over_targets
    shares = [1 / 5, 3 / 5, 1 / 5]
    assert (balance.smallest, balance.largest) == (1, 3)
    assert balance.evenness == pytest.approx(-sum(p * math.log(p) for p in shares) / math.log(3))
    assert covered.over_attributes.smallest == 1
    assert covered.over_attributes.evenness < 1
    assert covered.empty == pytest.approx(1 / 3)
    assert coverage([]).over_targets.largest == 0


@settings(max_examples=25, deadline=None)
@given(
    pairs=st.integers(1, 2500),
    kinds=st.sampled_from([("occupation",), ("trait", "activity"), KINDS]),
    seed=st.integers(0, 99),
)
def test_every_beginning_of_a_plan_is_balanced(pairs, kinds, seed):
    plans = plan_pairs(pairs, kinds, seed=seed)
    assert [plan.item for plan in plans] == list(range(pairs))
    wanted = [target for target in targets("pairs") if target.kind in kinds]
    for key, size in (
        (lambda plan: plan.target, len(wanted)),
        (lambda plan: plan.attribute, len(attributes("pairs"))),
        (lambda plan: (plan.target, plan.attribute), len(wanted) * len(attributes("pairs"))),
    ):
        counts = Counter(key(plan) for plan in plans)
        assert max(counts.values()) - (min(counts.values()) if len(counts) == size else 0) <= 1
    for key in (lambda plan: plan.attribute, lambda plan: None):
        by_side = Counter((key(plan), plan.side) for plan in plans)
        for group in {group for group, _ in by_side}:
            assert abs(by_side[group, "male"] - by_side[group, "female"]) <= (1 if group else len(counts))
    for name in {plan.attribute.name for plan in plans}:
        back = [plan.refers_back for plan in plans if plan.attribute.name == name]
        if name == "he/she":
            assert abs(back.count(True) - back.count(False)) <= 2
        else:
            assert set(back) == {name in ("him/her", "his/her", "himself/herself")}
    seen = Counter()
    for plan in plans:
        assert plan.visit == seen[plan.target, plan.attribute]
        seen[plan.target, plan.attribute] += 1


def test_a_plan_depends_on_its_seed_alone():
    assert plan_pairs(50, KINDS, seed=3) == plan_pairs(50, KINDS, seed=3)
    assert plan_pairs(50, KINDS, seed=3) != plan_pairs(50, KINDS, seed=4)
    assert plan_pairs(80, KINDS, seed=3)[:50] == plan_pairs(50, KINDS, seed=3)


# --- verification ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("He took his bag.", "She took her bag.", True),
        ("He took his bag.", "She took his bag.", False),
        ("He took his bag.", "He took his bag.", False),
        ("He took his bag.", "She took her bag", False),
        ("He took his bag.", "She took her big bag.", False),
        ("He took his bag.", "She carried her bag.", False),
        ("He took his bag.", "he took her bag.", False),
        ("She gave her water.", "He gave him water.", True),
        ("John met James.", "Mary met Linda.", True),
        ("John met James.", "Mary met Peter.", False),
        ("Mr. Lopez left.", "Mrs. Lopez left.", True),
        ("My uncle's dog is old.", "My aunt's dog is old.", True),
        ("The nurse left.", "The doctor left.", False),
        ("The actor smiled at his fans.", "The actress smiled at her fans.", True),
        ("", "", False),
    ],
)
def test_what_counts_as_differing_only_in_gender(first, second, same):
    assert differ_only_in_gender(first, second) is same
    assert differ_only_in_gender(second, first) is same


def test_the_proposed_counterpart_is_taken_where_it_holds_and_replaced_where_not():
    kept_one = counterpart_of("She gave her water.", "He gave him water.")
    assert (kept_one.text, kept_one.replaced) == ("He gave him water.", False)
    swapped = counterpart_of("She lost her keys.", "He lost all his keys.")
    assert (swapped.text, swapped.replaced) == ("He lost his keys.", True)
    assert counterpart_of("She lost her keys.").replaced is False
    assert counterpart_of("The nurse left.", "The doctor left.") is None


@settings(max_examples=60, deadline=None)
@given(index=st.integers(0, 1999))
def test_template_pairs_differ_only_in_gender_word_by_word(index):
    pair = _template_pairs()[index]
    male, female = pair.male.split(), pair.female.split()
    assert len(male) == len(female)
    changed = [(one, other) for one, other in zip(male, female, strict=True) if one != other]
    spans = [pair.male[span.start : span.end] for span in gendered_spans(pair.male)]
    assert len(changed) == len(spans) > 0
    assert {span.side for span in gendered_spans(pair.male)} == {"male"}
    assert {span.side for span in gendered_spans(pair.female)} == {"female"}
    assert pair.target in pair.male
    assert pair.target in pair.female


def _template_pairs(cache={}):  # noqa: B006
    if not cache:
        cache["pairs"] = kept(from_templates(PairSettings(source="template", pairs=2000), seed=5).rows)
    return cache["pairs"]


@pytest.mark.parametrize(
    ("text", "attribute"),
    [
        ("He left.", "he/she"),
        ("Mary lost her keys.", "names"),
        ("He met my sister.", "brother/sister"),
        ("The policewoman smiled.", "policeman/policewoman"),
    ],
)
def test_the_attribute_of_a_sentence(text, attribute):
    assert attribute_in(text) == attribute
    assert attribute_in(swap_gender(text)) == attribute


def test_targets_are_found_as_they_stand():
    assert find_targets("Two Nurses and a shy plumber went on cooking dinner.", KINDS) == [
        ("Nurses", "occupation"),
        ("shy", "trait"),
        ("plumber", "occupation"),
        ("cooking dinner", "activity"),
    ]
    assert find_targets("Two nurses.", ("trait",)) == []
    assert find_targets("The nursery and the chefs-d'oeuvre.", ("occupation",)) == [("chefs", "occupation")]


# --- what is held out -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "The florists met.",
        "A Fireman came.",
        "My aunts came.",
        "He is humble.",
        "She loves going hunting.",
        "The baker could not sleep, so she went for a walk.",
    ],
)
def test_held_out_words_and_templates_are_found(text):
    assert held_out_in(text) is not None


def test_no_pair_contains_what_is_held_out():
    pairs = _template_pairs()
    assert len({pair.male for pair in pairs}) == len(pairs)
    for target in targets("heldout"):
        assert not [pair for pair in pairs if f" {target.name.lower()}" in f" {pair.male.lower()}"]
    for attribute in attributes("heldout"):
        assert not [p for p in pairs if {attribute.male, attribute.female} & {*p.male.split(), *p.female.split()}]
    shapes = {template.text for kind in KINDS for template in pair_templates(kind)}
    held = {template.text for word in ("pronoun", "noun") for template in heldout_templates(word)}
    assert not shapes & held


# --- sources --------------------------------------------------------------------------------------------------------


def test_templates_are_balanced_and_end_with_a_clear_line():
    covered = coverage(_template_pairs())
    assert covered.counts.max() - covered.counts.min() <= 1
    assert covered.over_targets.evenness > 0.999
    most = len(targets("pairs")) * len(attributes("pairs")) * 60
    with pytest.raises(UserError, match=r"debias\.pairs=.*templates make fewer"):
        from_templates(PairSettings(source="template", pairs=most), seed=0)
    few = from_templates(PairSettings(source="template", pairs=20, kinds=("trait",)), seed=0)
    assert {pair.target_kind for pair in kept(few.rows)} == {"trait"}


def test_sentences_become_pairs_or_are_counted():
    sentences = [
        "She is a nurse, and her brother is shy.",
        "The plumber left.",
        "He saw her.",
        "He is a florist.",
        "His nurse met a nurse.",
        "The barman gave him coffee.",
        "Her chefs were late.",
    ]
    gathered = from_sentences([GivenSentence(text) for text in sentences], PairSettings(source="template", pairs=9))
    pairs = kept(gathered.rows)
    assert [(pair.male, pair.female, pair.target) for pair in pairs] == [
        ("He is a nurse, and his sister is shy.", "She is a nurse, and her brother is shy.", "nurse"),
        ("His chefs were late.", "Her chefs were late.", "chefs"),
    ]
    assert [pair.item for pair in pairs] == [0, 1]
    assert gathered.rejected == {
        "no gendered word": 1,
        "no target word": 1,
        "contains what is held out": 2,
        "names its target twice": 1,
    }
    assert gathered.asked == 7
    assert gathered.yield_ == pytest.approx(2 / 7)


def test_a_given_target_and_counterpart_are_used(tmp_path):
    path = tmp_path / "given.csv"
    path.write_text(
        "text,target,target_kind,counterpart\n"
        "She gave her a stamp.,stamp,activity,He gave him a stamp.\n"
        '"He lost, and the chess club laughed.",chess club,occupation,\n'
        "He lost.,stamp,,\n",
        encoding="utf-8",
    )
    gathered = gather_pairs(PairSettings(source="swap", swap_file=str(path), pairs=10), seed=0)
    pairs = kept(gathered.rows)
    assert (pairs[0].male, pairs[0].target, pairs[0].target_kind) == ("He gave him a stamp.", "stamp", "activity")
    assert pairs[1].female == "She lost, and the chess club laughed."
    assert gathered.rejected == {"no target word": 1}
    assert gathered.replaced == 0


def test_files_of_sentences(tmp_path):
    (tmp_path / "a.txt").write_text("He is shy.\n\n  She\tis shy. \n", encoding="utf-8")
    assert [sentence.text for sentence in read_sentences(str(tmp_path / "a.txt"))] == ["He is shy.", "She is shy."]
    from fairloop.corpus.seed import seed_corpus
    from fairloop.corpus.table import save_corpus

    corpus = seed_corpus(0.5, 200, 0.2, 0)
    save_corpus(corpus, tmp_path / "corpus.parquet")
    sentences = read_sentences(str(tmp_path / "corpus.parquet"))
    assert [(s.text, s.target) for s in sentences] == list(zip(corpus["text"], corpus["occupation"], strict=True))
    gathered = from_sentences(sentences, PairSettings(source="template", pairs=100))
    assert len(gathered.rows) > 60
    held = {target.name for target in targets("heldout")}
    assert not held & {row.pair.target.lower() for row in gathered.rows}
    for one in gathered.rows:
        assert swap_gender(one.pair.male) == one.pair.female or swap_gender(one.pair.female) == one.pair.male


def test_broken_rows_are_named_by_line_in_one_line(tmp_path):
    path = tmp_path / "broken.csv"
    lines = ["text,target", "He is a nurse.,nurse", "He left.", ",nurse", '"She', 'left.",nurse', "a,b,c", "He ran.,x"]
    path.write_bytes("\n".join(lines).encode() + b"\nHe \xff left.,nurse\n")
    with pytest.raises(UserError) as caught:
        read_sentences(str(path))
    message = str(caught.value)
    assert "\n" not in message
    assert "4 broken rows" in message
    for part in ("line 3: 1 fields", "line 4: no text", "line 7: 3 fields", "line 9: not UTF-8"):
        assert part in message
    many = tmp_path / "many.csv"
    many.write_text("text\n" + "a,b\n" * 30, encoding="utf-8")
    with pytest.raises(UserError, match=r"30 broken rows: line 2.*and 25 more"):
        read_sentences(str(many))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.doc", b"x", "ends in"),
        ("none.txt", None, "no such file"),
        ("empty.txt", b"\n \n", "holds no sentence"),
        ("header.csv", b"sentence,target\nHe left.,x\n", "must be named text"),
        ("twice.csv", b"text,text\nHe left.,x\n", "none twice"),
        ("bad.parquet", b"PAR1", "cannot be read as Parquet"),
        ("kind.csv", b"text,target_kind\nHe left.,job\n", "line 2: target_kind is 'job'"),
    ],
)
def test_other_wrong_files(tmp_path, name, content, said):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=said):
        read_sentences(str(tmp_path / name))


def test_settings_refuse_what_cannot_be():
    with pytest.raises(ValueError, match="swap_file"):
        PairSettings(source="swap")
    with pytest.raises(ValueError):
        PairSettings(pairs=0)
    assert PairSettings(kinds=["trait"]).kinds == ("trait",)


def test_splits_of_the_lexicon_are_disjoint_and_complete():
    from fairloop.lexicon import neutral_sentences, occupations, pair_examples

    used, held = ({target.name for target in targets(split)} for split in ("pairs", "heldout"))
    assert not used & held
    jobs = {entry.name for entry in occupations()}
    assert jobs <= used | held
    heads = {name.split()[-1] for name in jobs & used}
    assert not heads & {name.split()[-1] for name in jobs & held}
    by_majority = Counter(entry.majority for entry in occupations() if entry.name in held)
    assert by_majority == {"male": 8, "female": 8, "balanced": 4}
    words = [
        {word for pair in attributes(split) for word in (pair.male, pair.female)} for split in ("pairs", "heldout")
    ]
    assert not words[0] & words[1]
    for attribute in itertools.chain(attributes("pairs"), attributes("heldout")):
        male, female = (f"They saw the nurse and {word} friends." for word in (attribute.male, attribute.female))
        if attribute.male == "him":
            male, female = "They saw him.", "They saw her."
        assert (swap_gender(male), swap_gender(female)) == (female, male)
    texts = [*neutral_sentences("heldin"), *neutral_sentences("heldout")]
    assert len(set(texts)) == len(texts) >= 290
    assert not [text for text in texts if gendered_spans(text)]
    for kind in KINDS:
        for refers_back in (False, True):
            for example in pair_examples(kind, refers_back=refers_back):
                assert held_out_in(example.text) is None
                assert example.target in {target.name for target in targets("pairs")}
                assert re.search(rf"\b{example.word}\b", example.text, re.IGNORECASE)
                assert {span.side for span in gendered_spans(example.text)} == {"male"}
                assert refers_back == bool(example.person)
                if refers_back:
                    assert example.person in example.text.lower()
                    assert example.target in example.person
                    assert example.text.index(example.target) < gendered_spans(example.text)[0].start
        for template in pair_templates(kind):
            assert template.text.count("{target}") + template.text.count("{a target}") == 1
    assert np.all([target.name == target.name.lower() for target in (*targets("pairs"), *targets("heldout"))])
