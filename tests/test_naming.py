"""What cells are called: by option names, in every study, and apart wherever anything but the seed differs."""

import itertools

import pytest

from fairloop import composition
from fairloop.naming import LONGEST, ablation_name, level_name, naming_of


def named(*lines: str, config_dir: str | None = None):
    with composition.composer(config_dir):
        return naming_of(composition.validate(composition.compose_config(list(lines))))


FAIR_GENDER = ("study=fair_gender", "plm=minilm")


@pytest.mark.parametrize(
    ("lines", "condition", "tags"),
    [
        (
            ["initial_bias=high", "mitigation=augment"],
            "gemma_3_270m augment level high",
            ["recursion", "gemma_3_270m", "augment", "initial_bias:high"],
        ),
        (
            ["initial_bias.level=0.45"],
            "gemma_3_270m none level 0.45",
            ["recursion", "gemma_3_270m", "mitigation:none", "initial_bias:0.45"],
        ),
        (
            [*FAIR_GENDER, "ablation=no_filter"],
            "minilm fair_gender no_filter gemma_3_270m",
            ["fair_gender", "minilm", "ablation:no_filter", "gemma_3_270m"],
        ),
        ([*FAIR_GENDER, "debias=none"], "minilm none", ["fair_gender", "minilm", "debias:none"]),
        (["study=evaluate", "plm=bert_base", "benchmark=glue"], "bert_base glue", ["evaluate", "bert_base", "glue"]),
        (
            ["study=metric_calibration"],
            "metric_calibration embedded:all-minilm-l6-v2",
            ["metric_calibration", "embedded:all-minilm-l6-v2"],
        ),
    ],
    ids=["level by name", "level as a number", "ablation", "no method", "evaluate", "calibration"],
)
def test_names_carry_what_was_chosen(lines, condition, tags):
    found = named(*lines, "seed=7")
    assert found.condition == condition
    assert found.run_name == f"{condition} seed 7"
    assert found.tags == (*tags, "seed:7")


def test_a_level_that_is_given_as_a_number_has_its_name():
    assert named("initial_bias.level=0.6").names["initial_bias_name"] == "high"
    assert level_name({"level": 0.6, "neutral_share": 0.2}) == "high"
    assert "initial_bias_name" not in named("study=evaluate", "plm=minilm").names


def test_options_of_the_users_own_have_their_names(tmp_path):
    (tmp_path / "initial_bias").mkdir()
    (tmp_path / "initial_bias" / "mine.yaml").write_text("level: 0.45\nneutral_share: 0.25\n")
    (tmp_path / "ablation").mkdir()
    (tmp_path / "ablation" / "gentle.yaml").write_text("# @package debias\nlambda_r: 5.0\nearly_stopping: {every: 7}\n")
    assert named("initial_bias=mine", config_dir=str(tmp_path)).condition == "gemma_3_270m none level mine"
    found = named(*FAIR_GENDER, "ablation=gentle", config_dir=str(tmp_path))
    assert (found.names["ablation_name"], found.changes) == ("gentle", ())
    assert named("initial_bias.level=0.45").names["initial_bias_name"] == "0.45"


def test_every_variant_of_the_published_ablation_has_a_name_of_its_own():
    variants = [name for name in composition.options_of("ablation") if name != "swap"]
    found = {}
    with composition.composer():
        plain = composition.resolve(composition.compose_config([*FAIR_GENDER]))["debias"]
        for name in variants:
            changed = composition.resolve(composition.compose_config([*FAIR_GENDER, f"ablation={name}"]))["debias"]
            found[name] = ablation_name(changed)
    old_names = {"alone": "one_neighbour", "quarter": "pairs_200", "thousand": "pairs_1000"}
    old_names |= {"ten_thousand": "pairs_10000", "no_own_text": "no_text_loss", "one_question": "target_only"}
    old_names |= {"no_causal": "no_filter", "influence": "filter_influence", "random": "filter_random"}
    assert found == {name: old_names.get(name, name) for name in variants}
    assert ablation_name(plain) == "full"
    assert ablation_name({"name": "cda"}) == ""


def test_whatever_else_is_set_stands_in_the_condition():
    lines = [
        ["model.temperature=1.2"],
        ["study.sentences=48"],
        ["model.path=elsewhere/gemma"],
        ["mitigation=finetune"],
        ["mitigation=finetune_brief"],
        ["mitigation=finetune", "mitigation.finetune.epochs=3"],
        ["initial_bias.neutral_share=0.25"],
        [*FAIR_GENDER, "debias.lambda_r=0.1"],
        [*FAIR_GENDER, "debias.lambda_r=0.1", "ablation=no_causal"],
        [*FAIR_GENDER, "debias=cda", "debias.steps=4"],
        ["study=evaluate", "plm=minilm", "plm.path=some/folder"],
    ]
    found = [named(*one).condition for one in lines]
    assert len(set(found)) == len(lines)
    assert found[0] == "gemma_3_270m none level medium model.temperature=1.2"
    assert found[3:6] == [
        "gemma_3_270m finetune level medium",
        "gemma_3_270m finetune_brief level medium",
        "gemma_3_270m finetune level medium finetune.epochs=3",
    ]
    assert found[8] == "minilm fair_gender no_filter gemma_3_270m lambda_r=0.1"
    assert found[10] == "minilm seat plm.path=folder"


def test_how_exactly_it_is_measured_is_no_condition_and_a_long_one_is_cut():
    assert named("study.resamples=300").condition == named().condition
    long = [f"study.{key}=9" for key in ("sentences", "examples", "prompt_group", "max_attempts", "generations")]
    first, second = named(*long, "model.top_k=7", "model.top_p=0.5"), named(*long, "model.top_k=7", "model.top_p=0.6")
    assert first.condition != second.condition
    assert [len(one.condition) for one in (first, second)] == [LONGEST, LONGEST]
    for one, other in itertools.combinations((first.condition, second.condition), 2):
        assert one[: LONGEST - 10] == other[: LONGEST - 10]
