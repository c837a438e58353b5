"""The study fair_gender: its stages, its ablation switches, its result, and what a user may get wrong."""

import json
import re
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from pkgutil import resolve_name

import pytest
import yaml

sys.path += [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "debias")]  # tiny_models, hub_service

from hub_service import KEY, served

from fairloop import app, composition
from fairloop.debias.registry import method, methods, settings_of
from fairloop.errors import UserError
from fairloop.files import canonical_json
from fairloop.pairs.pair import kept, load_pairs, save_pairs
from fairloop.pairs.settings import PairSettings
from fairloop.pairs.template import from_templates
from fairloop.studies.fair_gender import PAIRS_FILE, FairGender
from fairloop.studies.runner import run_cell
from fairloop.sweep.jobs import Job
from fairloop.sweep.plan import Plan
from fairloop.tracking.stages import Stage
from fairloop.tracking.store import Cell, cell_key
from fairloop.tracking.wandb_run import Tracker
from tiny_models import tiny_masked_lm

SMALL = (
    "study=fair_gender", "tracking=none", "study.benchmarks=[perplexity,lpbs]", "study.resamples=100",
    "debias.source=template", "debias.pairs=60", "debias.steps=4", "debias.batch_size=4", "debias.neighbours=3",
    "debias.learning_rate=1e-3", "debias.alignment.quantile=0.1", "debias.alignment.rank=700",
    "debias.early_stopping.every=2", "debias.screen.max_perplexity_ratio=1e6", "trainer.threads=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def plm(tmp_path_factory):
    return template_plm(tmp_path_factory.mktemp("plm"))


def template_plm(folder):
    """A random masked model that knows every word of the packaged templates and neutral sentences."""
    from fairloop.benchmarks.lpbs import TEMPLATES
    from fairloop.lexicon import neutral_sentences, occupations, with_article

    rows = from_templates(PairSettings(source="template", pairs=400), seed=0).rows
    texts = [text for row in rows for text in (row.pair.male, row.pair.female)]
    texts += [*neutral_sentences("heldin"), *neutral_sentences("heldout")]
    texts += [template.format(person=who, occupation=with_article(one.name))
              for template in TEMPLATES for who in ("He", "She") for one in occupations()]  # fmt: skip
    words = sorted({word for text in texts for word in re.findall(r"\w+|[^\w\s]+", text)})
    return tiny_masked_lm(folder, words=words, spread=0.1)


def configured(*overrides):
    with composition.composer():
        return composition.validate(composition.compose_config(overrides))


def run(plm, runs, *overrides):
    small = [one for one in SMALL if "debias=none" not in overrides or not one.startswith("debias.")]
    chosen = configured(*small, f"plm.path={plm}", f"runs_dir={runs}", *overrides)
    cell = Cell.open(runs, "fair_gender", chosen.deciding(), chosen.model_dump(mode="json"))
    run_cell(chosen, cell)
    return cell.folder


def stages(cell):
    return [path.name[3:] for path in sorted((cell / "stages").iterdir())]


@pytest.fixture(scope="module")
def finished(plm, tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    return run(plm, runs)


def test_every_stage_is_kept_and_the_result_compares_before_and_after(finished):
    assert stages(finished) == [
        "pairs", "screening", "filter", "before-perplexity", "before-lpbs", "incorporation", "after-perplexity",
        "after-lpbs", "result",
    ]  # fmt: skip
    result = json.loads((finished / "result.json").read_text())
    for metric in ("perplexity/pseudo_perplexity", "lpbs/gap"):
        assert result[metric] != result[f"before/{metric}"]
    rows = load_pairs(finished / "stages" / "03-filter" / PAIRS_FILE)
    assert (result["pairs/written"], result["pairs/kept"]) == (60, len(kept(rows)))
    assert 0 < len(kept(rows)) < 60
    for row in rows:
        if not row.dropped:
            assert row.aligned
            assert None not in (row.plausibility, row.target_rank, row.effect, row.fluency, row.toxicity)
    assert any(row.dropped.startswith("unaligned") and row.effect is None for row in rows)


def test_the_model_loads_without_fairloop_and_its_card_tells_data_settings_and_scores(finished, plm):
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    folder = finished / "stages" / "09-result" / "model"
    model, before = (AutoModelForMaskedLM.from_pretrained(path) for path in (folder, plm))
    assert float((model.get_input_embeddings().weight - before.get_input_embeddings().weight).abs().max()) > 1e-5
    assert AutoTokenizer.from_pretrained(folder).mask_token == "<mask>"
    card = (folder / "README.md").read_text()
    result = json.loads((finished / "result.json").read_text())
    score = f"| `lpbs/gap` | {result['before/lpbs/gap']:.4g} | {result['lpbs/gap']:.4g} |"
    for part in ("library_name: transformers", "AutoModelForMaskedLM", "\"lambda_r\": 0.02", score,
                 "were dropped: unaligned", "source `template`"):  # fmt: skip
        assert part in card


def test_a_second_cell_shares_what_it_can_and_a_finished_one_does_nothing(finished, plm, monkeypatch):
    runs = finished.parents[1]
    assert run(plm, runs) == finished
    for shared in ("_filter", "_screen"):
        monkeypatch.setattr(FairGender, shared, lambda *_: pytest.fail("what is shared is not computed again"))
    assert run(plm, runs, "debias.steps=2") != finished
    none = run(plm, runs, "debias=none")
    assert stages(none) == ["before-perplexity", "before-lpbs"]
    result = json.loads((none / "result.json").read_text())
    assert result["lpbs/gap"] == result["before/lpbs/gap"]


def test_a_model_is_pushed_from_its_finished_cell_and_a_failing_push_loses_nothing(finished, plm, monkeypatch, capsys):
    chosen = configured(*SMALL, f"plm.path={plm}", f"runs_dir={finished.parents[1]}", "debias.push_to_hub=me/x")
    assert Cell.open(finished.parents[1], "fair_gender", chosen.deciding(), {}).folder == finished
    with served() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", "wrong")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        plan = Plan.of([Job(chosen, Cell.open(finished.parents[1], "fair_gender", chosen.deciding(), {}))])
        before = (finished / "status.json").read_bytes()
        (line,) = app.push_models(plan)
        assert line.startswith("debias.push_to_hub=me/x: not uploaded (")
        assert (finished / "status.json").read_bytes() == before
        monkeypatch.setenv("HF_TOKEN", KEY)
        assert app.push_models(plan) == []
        assert hub.url in capsys.readouterr().out
    model = finished / "stages" / "09-result" / "model"
    assert hub.repositories["me/x"] == {path.name: path.read_bytes() for path in model.iterdir()}


# what is computed again


@pytest.fixture
def counted(monkeypatch):
    """How often a model is trained, and with what it is measured."""
    import fairloop.benchmarks.registry as registry

    train, measure, trained, measured = FairGender._incorporate, registry.measure, [], []

    def training(self, *arguments):
        trained.append(self.configuration)
        return train(self, *arguments)

    def measuring(plm, settings, **more):
        measured.append((settings, more))
        return measure(plm, settings, **more)

    monkeypatch.setattr(FairGender, "_incorporate", training)
    monkeypatch.setattr(registry, "measure", measuring)
    return trained, measured


def test_other_benchmarks_or_resamples_train_nothing_again_and_measure_only_what_is_new(finished, plm, counted):
    runs, (trained, measured) = finished.parents[1], counted
    assert run(plm, runs, "study.benchmarks=[lpbs,perplexity]") != finished
    assert (trained, measured) == ([], [])
    run(plm, runs, "study.benchmarks=[perplexity,heldout_templates]")
    assert [settings.name for settings, _ in measured] == ["heldout_templates", "heldout_templates"]
    run(plm, runs, "study.resamples=200")
    assert len(measured) == 2 + 4
    run(plm, runs, "study.benchmarks=[{name:lpbs,resamples:300},perplexity]")
    assert len(measured) == 2 + 4 + 2, "the resamples of one benchmark are not those of another"
    assert trained == []
    run(plm, runs, "debias.steps=3")
    assert len(trained) == 1


def test_a_benchmark_takes_the_settings_that_it_was_given_and_trains_where_the_cell_does(plm, tmp_path, monkeypatch):
    import fairloop.benchmarks.registry as registry
    from fairloop.benchmarks.result import BenchmarkResult

    seen = []

    def measuring(plm, settings, **more):
        seen.append((settings, more))
        return BenchmarkResult(settings.name, "", [], [])

    monkeypatch.setattr(registry, "measure", measuring)
    run(plm, tmp_path, "debias=none", "study.benchmarks=[glue,perplexity]", "benchmark=glue", "benchmark.tasks=[rte]",
        "benchmark.seeds=1", "trainer.devices=2")  # fmt: skip
    (glue, with_), (perplexity, _) = seen[:2]
    assert (glue.tasks, glue.seeds, perplexity.resamples) == (("rte",), 1, 100)
    assert with_["trainer"].devices == 2
    assert tmp_path in with_["scratch"].parents


def test_a_benchmark_that_is_listed_is_set_by_its_group_or_in_the_list():
    listed = "study.benchmarks=[seat,{name:crows_pairs,protocol:nangia2020}]"
    by_list = configured("study=fair_gender", listed)
    group = ("benchmark=crows_pairs", "benchmark.protocol=nangia2020")
    by_group = configured("study=fair_gender", "study.benchmarks=[seat,crows_pairs]", *group)
    usual = configured("study=fair_gender", "study.benchmarks=[seat,crows_pairs]")
    protocols = [one.study.measured_by(one)["crows_pairs"].protocol for one in (by_list, by_group, usual)]
    assert protocols == ["nangia2020", "nangia2020", "meade2022"]
    assert by_list.deciding() == by_group.deciding() != usual.deciding()
    assert by_list.deciding()["benchmarks"] == {"crows_pairs": {"protocol": "nangia2020"}}
    assert by_list.study.measured_by(by_list)["seat"] == usual.study.measured_by(usual)["seat"]


# the ablation's switches


class Planned:
    """A cell that notes its stages' settings instead of computing them."""

    def __init__(self):
        self.stages = {}

    def stage(self, name, compute, *, inputs=(), settings=None, shared=False):
        settings = {key: value for key, value in (settings or {}).items() if key not in ("seed", "version")}
        self.stages[name] = settings
        return Stage(name, Path("nowhere"), name, 0.0)


def resolved(monkeypatch, *overrides):
    """What every stage would do, by name, and what the training would."""
    chosen = configured("study=fair_gender", *overrides)
    cell = Planned()
    study = FairGender(chosen, cell, Tracker())
    monkeypatch.setattr(FairGender, "_require_enough", lambda *_: None)
    monkeypatch.setattr("fairloop.studies.fair_gender.load_pairs", lambda _: [])
    study.filter(study.screen(study.write()))
    settings = chosen.debias
    training = {
        "lambda_r": settings.effective_lambda,
        "predicted": settings.predicted,
        "text_weight": settings.text_weight,
        "early_stopping": settings.early_stopping.enabled,
    }
    return {**cell.stages, "training": training}


#: What the filter reads of the training, whose step it estimates: a switch of one of these changes it, too.
STEP_SETTINGS = (
    "tolerance", "neighbours", "predicted", "regularizer", "lambda_r", "text_weight", "mask_share", "clip_norm",
)  # fmt: skip

SWITCHES = {
    "source": ("debias.source=template", {"pairs": {"source", "model"}}),
    "more pairs": ("debias.pairs=10000", {"pairs": {"pairs"}}),
    "no toxicity": ("debias.screen.toxicity=none", {"screening": {"screen.toxicity"}}),
    "no screening": ("debias.screen.enabled=false", {"screening": None}),
    "no alignment": ("debias.alignment.enabled=false", {"filter": {"alignment.enabled"}}),
    "influence": ("debias.causal=influence", {"filter": {"causal", "weights"}}),
    "random": ("debias.causal=random", {"filter": {"causal"}}),
    "no causal": ("debias.causal=none", {"filter": {"causal", *STEP_SETTINGS}}),
    "no filter at all": ("debias.causal=none debias.alignment.enabled=false", {"filter": None}),
    "no regulariser": ("debias.regularizer=false", {"filter": {"regularizer"}, "training": {"lambda_r"}}),
    "one question": ("debias.predicted=target", {"filter": {"predicted"}, "training": {"predicted"}}),
    "no own text": ("debias.text_weight=0", {"filter": {"text_weight"}, "training": {"text_weight"}}),
    "no neighbours": ("debias.neighbours=1", {"filter": {"neighbours"}}),
    "no early stopping": ("debias.early_stopping.enabled=false", {"training": {"early_stopping"}}),
}  # fmt: skip


ABSENT = object()


def differing(one, two, above=""):
    """The dotted keys under which two trees differ; a key that is null is not one that is absent."""
    for key in one.keys() | two.keys():
        left, right = one.get(key, ABSENT), two.get(key, ABSENT)
        if isinstance(left, dict) and isinstance(right, dict):
            yield from differing(left, right, f"{above}{key}.")
        elif left != right:
            yield above + key


@pytest.mark.embedded
@pytest.mark.parametrize("name", SWITCHES)
def test_a_switch_changes_exactly_one_thing(monkeypatch, name):
    overrides, expected = SWITCHES[name]
    before, after = resolved(monkeypatch), resolved(monkeypatch, *overrides.split())
    changed = {}
    for stage in before.keys() | after.keys():
        one, two = before.get(stage), after.get(stage)
        if one != two:
            changed[stage] = None if one is None or two is None else set(differing(one, two))
    assert changed == expected


ABLATIONS = {
    "full": {},
    "template": {"source": "template"},
    "no_screening": {"screen.enabled": False},
    "no_toxicity": {"screen.toxicity": "none"},
    "no_alignment": {"alignment.enabled": False},
    "no_filter": {"causal": "none"},
    "filter_influence": {"causal": "influence"},
    "filter_random": {"causal": "random"},
    "no_regularizer": {"regularizer": False},
    "target_only": {"predicted": "target"},
    "no_text_loss": {"text_weight": 0.0},
    "one_neighbour": {"neighbours": 1},
    "pairs_200": {"pairs": 200},
    "pairs_1000": {"pairs": 1000},
    "pairs_10000": {"pairs": 10000},
}


def test_a_named_ablation_changes_exactly_one_key():
    def flat(tree, above=""):
        for key, value in tree.items():
            yield from flat(value, f"{above}{key}.") if isinstance(value, dict) else [(above + key, value)]

    preset = yaml.safe_load((composition.conf_dir() / "experiment" / "fair_gender_ablation.yaml").read_text())
    assert preset["hydra"]["sweeper"]["params"]["ablation"].split(",") == list(ABLATIONS)
    full = dict(flat(configured("study=fair_gender").debias.model_dump()))
    for name, expected in ABLATIONS.items():
        chosen = dict(flat(configured("study=fair_gender", f"ablation={name}").debias.model_dump()))
        assert {key: value for key, value in chosen.items() if value != full[key]} == expected, name


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("one_question", "target_only"), ("no_own_text", "no_text_loss"), ("alone", "one_neighbour"),
        ("no_causal", "no_filter"), ("influence", "filter_influence"), ("random", "filter_random"),
        ("quarter", "pairs_200"), ("thousand", "pairs_1000"), ("ten_thousand", "pairs_10000"),
    ],
)  # fmt: skip
def test_an_ablations_old_name_means_the_same_cell(old, new):
    cells = [configured("study=fair_gender", f"ablation={name}").deciding() for name in (old, new, "full")]
    assert cells[0] == cells[1] != cells[2]


# The functions that do a component's work, by the settings that leave the component out.
WORK = {
    "debias.screen.enabled=false": ["pairs.screen.screen_pairs", "pairs.screen.fluency_of"],
    "debias.screen.toxicity=none": ["pairs.toxicity.wordlist_toxicity"],
    "debias.screen.fluency=none": ["pairs.screen.fluency_of"],
    "debias.alignment.enabled=false": ["debias.fair_gender.alignment.align"],
    "debias.causal=none": ["debias.fair_gender.effect.EffectEstimator.__init__"],
    "debias.causal=none debias.neighbours=1": ["debias.fair_gender.neighbours.represent"],
    "debias.early_stopping.enabled=false": ["debias.fair_gender.loss.FairGenderModule.validation_step"],
    # Without the filter, which estimates the same loss.
    "debias.text_weight=0 debias.early_stopping.enabled=false debias.causal=none": [
        "debias.fair_gender.loss.FairGenderModule.language_losses",
    ],
    "debias.regularizer=false debias.early_stopping.enabled=false debias.causal=none": [
        "debias.fair_gender.loss.FairGenderModule.drifts", "debias.fair_gender.loss.FairGenderModule.language_losses",
    ],
}  # fmt: skip
FUNCTIONS = sorted({name for names in WORK.values() for name in names})


def watched(monkeypatch, plm, runs, *overrides):
    """Run a cell; return how often each function that does a component's work was called."""
    calls = Counter()

    def counting(name, original):
        def counted(*arguments, **named):
            calls[name] += 1
            return original(*arguments, **named)

        return counted

    with monkeypatch.context() as patch:
        for name in [*FUNCTIONS, "debias.fair_gender.loss.load_plm"]:
            path = f"fairloop.{name}"
            patch.setattr(path, counting(name, resolve_name(path)))
        run(plm, runs, "study.benchmarks=[lpbs]", "debias.steps=2", *overrides)
    return calls


@pytest.fixture(scope="module")
def work_of_everything(plm, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        return watched(patch, plm, tmp_path_factory.mktemp("everything"))


@pytest.mark.parametrize("switch", WORK)
def test_what_is_switched_off_does_no_work(plm, tmp_path, monkeypatch, work_of_everything, switch):
    calls = watched(monkeypatch, plm, tmp_path, *switch.split())
    assert {name for name in FUNCTIONS if not work_of_everything[name]} == set(), "the spies see the work"
    assert {name: calls[name] for name in WORK[switch]} == dict.fromkeys(WORK[switch], 0)
    frozen = "debias.regularizer=false" not in switch
    assert calls["debias.fair_gender.loss.load_plm"] == 1 + frozen, (
        "the trained model, and the frozen one only for the KL term"
    )


def test_without_any_filter_there_is_no_stage_of_it(plm, tmp_path):
    off = ("debias.screen.enabled=false", "debias.alignment.enabled=false", "debias.causal=none",
           "study.benchmarks=[lpbs]")  # fmt: skip
    assert stages(run(plm, tmp_path, *off)) == ["pairs", "before-lpbs", "incorporation", "after-lpbs", "result"]


# methods and their settings


def test_every_method_has_a_file_of_settings_that_names_each_of_them():
    for name in methods():
        chosen = configured("study=fair_gender", f"debias={name}").debias
        assert chosen.name == name
        assert method(chosen).name == name
        assert chosen == settings_of({"name": name}), "the YAML's values are the code's defaults"


# what a user may get wrong


def test_a_plm_without_its_head_is_refused_before_pairs_are_written(tmp_path):
    """A random head scored other numbers each time; found at the first measure, the generator would have written."""
    with pytest.raises(UserError, match="no masked language model"):
        run("embedded:all-minilm-l6-v2", tmp_path / "runs", "plm.kind=masked")
    assert not list((tmp_path / "runs").glob("*/*/stages/*"))


def test_too_few_pairs_left_says_which_filter_took_them(plm, tmp_path):
    with pytest.raises(UserError) as info:
        run(plm, tmp_path, "debias.alignment.rank=1")
    line = str(info.value)
    assert re.match(r"^debias\.pairs=60: \d of 60 pairs are left, and a batch takes 4; dropped: ", line)
    assert re.search(r"\d+ unaligned: target not recovered", line)


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["debias.neighbours=61"], "debias.neighbours=61: at most debias.pairs=60"),
        (["plm=gpt2", "debias.predicted=both"], "debias.predicted=both: target for a causal PLM"),
        (["debias.batch_size=64"], "debias.batch_size=64: at most debias.pairs=60"),
        (["debias.lambda_r=-0.5"], "debias.lambda_r=-0.5: allowed is a number at least 0"),
        (["debias.causal=knm"], "debias.causal=knm: allowed is one of knn, influence, random, none"),
        (["plm=minilm_encoder"], "debias=fair_gender: debiases a model that is masked or causal, not encoder"),
        (["study.neutral=nowhere.txt"], "study.neutral=nowhere.txt: there is no such file"),
        (["study.benchmarks=[seats]"], "benchmark=seats: choose one of"),
        (["study.benchmarks=[lpbs,perplexity,lpbs]"], "study.benchmarks=lpbs: each benchmark once"),
        (
            ["study.benchmarks=[{name:crows_pairs,protocol:none}]"],
            "study.benchmarks.crows_pairs.protocol=none: allowed is one of nangia2020, meade2022",
        ),
        (
            ["study.benchmarks=[{name:crows_pairs,protocl:nangia2020}]"],
            "study.benchmarks.crows_pairs.protocl=nangia2020: unknown key",
        ),
        (["debias.source=swap"], "debias.swap_file=null: debias.source=swap needs a file"),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_loaded(overrides, line):
    with pytest.raises(UserError) as info:
        configured(*SMALL, *overrides)
    assert str(info.value).startswith(line)


def test_a_masked_plm_without_a_mask_token_and_pairs_without_their_target(plm, tmp_path, monkeypatch):
    from transformers import AutoModelForMaskedLM

    from fairloop.errors import Fault
    from tiny_models import write_tokenizer

    bare = tmp_path / "bare"
    AutoModelForMaskedLM.from_pretrained(plm).save_pretrained(bare)
    write_tokenizer(bare)
    with pytest.raises(UserError, match=r"mask token"):
        run(bare, tmp_path / "runs", "debias.screen.fluency=none")

    runs = tmp_path / "broken"
    chosen = configured(*SMALL, f"plm.path={plm}", f"runs_dir={runs}", "debias.alignment.enabled=false",
                        "debias.causal=none", "debias.screen.enabled=false")  # fmt: skip
    cell = Cell.open(runs, "fair_gender", chosen.deciding(), chosen.model_dump(mode="json"))
    original = FairGender._write

    def broken(self, folder):
        original(self, folder)
        rows = load_pairs(folder / PAIRS_FILE)
        save_pairs([replace(rows[0], pair=replace(rows[0].pair, target="xylophone")), *rows[1:]], folder / PAIRS_FILE)

    monkeypatch.setattr(FairGender, "_write", broken)
    with pytest.raises(Fault, match=r"^a pair's target does not stand in its sentence: 'xylophone'"):
        run_cell(chosen, cell)


def test_broken_rows_of_a_file_of_pairs_are_one_line_and_nothing_is_written(plm, tmp_path):
    given = tmp_path / "given.csv"
    given.write_text("text,target\nHe is a nurse.,nurse\nShe is a nurse\n,nurse\n")
    with pytest.raises(UserError) as info:
        run(plm, tmp_path / "runs", "debias.source=swap", f"debias.swap_file={given}")
    assert str(info.value) == (
        f"debias.swap_file={given}: 2 broken rows: line 3: 1 fields, the header has 2; line 4: no text"
    )
    assert not (tmp_path / "runs").exists()
    given.write_text("text,target\nHe is a nurse.,nurse\n")
    configured("study=fair_gender", "debias.source=swap", f"debias.swap_file={given}")


def test_more_neighbours_than_the_filters_leave_is_one_line(plm, tmp_path):
    with pytest.raises(UserError, match=r"^debias\.neighbours=60: at most \d\d, the pairs that are left to choose"):
        run(plm, tmp_path, "debias.neighbours=60", "debias.early_stopping.enabled=false")


def test_too_few_pairs_beside_the_held_out_ones_says_so():
    method_ = method(settings_of({"name": "fair_gender", "batch_size": 4, "early_stopping": {"held_out": 0.5}}))
    pairs = [row.pair for row in from_templates(PairSettings(source="template", pairs=6), seed=0).rows]
    with pytest.raises(UserError) as info:
        method_.split(pairs, seed=0)
    assert str(info.value) == (
        "debias.batch_size=4: at most 3, the pairs left to learn from beside 3 about targets that are held out to stop"
        " early"
    )


# what names a cell


def keys(*overrides):
    """The cell's name, and what names the stages that it shares with other cells."""
    chosen = configured("study=fair_gender", *overrides)
    cell = Planned()
    study = FairGender(chosen, cell, Tracker())
    study.screen(study.write())
    return [cell_key("fair_gender", chosen.deciding()), canonical_json(cell.stages)]


def test_a_file_of_sentences_names_a_cell_by_its_contents(plm, tmp_path):
    first, moved, changed, table = (tmp_path / name for name in ("a.txt", "b.txt", "c.txt", "a.csv"))
    for path in (first, moved, table):
        path.write_text("text\nHe is a nurse.\n")
    changed.write_text("text\nHe is a doctor.\n")
    swap = ("debias.source=swap", f"plm.path={plm}")
    found = [keys(*swap, f"debias.swap_file={path}") for path in (first, moved, changed, table)]
    assert found[0] == found[1]
    for other in found[2:]:  # a table is read otherwise than lines
        assert all(one != two for one, two in zip(found[0], other, strict=True))
    unused = (keys("debias.source=template", f"plm.path={plm}", *more)
              for more in ((), (f"debias.swap_file={first}",), ("debias.swap_file=nowhere.txt",)))  # fmt: skip
    assert len({tuple(one) for one in unused}) == 1


def test_a_file_of_a_methods_own_names_cell_and_model_by_its_contents(plm, tmp_path):
    def named(file, text):
        (tmp_path / file).write_text(f"premise,hypothesis\nHe sleeps.,He rests.\n{text}\n")
        chosen = configured("study=fair_gender", "debias=mabel", "debias.batch_size=2", f"plm.path={plm}",
                            f"debias.entailment={tmp_path / file}")  # fmt: skip
        cell = Planned()
        FairGender(chosen, cell, Tracker()).incorporate(None)
        return cell_key("fair_gender", chosen.deciding()), canonical_json(cell.stages)

    first, moved, other = (named(*one) for one in (("a", "She runs.,She moves."), ("b", "She runs.,She moves."),
                                                   ("c", "She runs.,She walks.")))  # fmt: skip
    assert first == moved
    assert all(one != two for one, two in zip(first, other, strict=True))


def test_a_toxicity_classifier_names_a_cell_by_its_weights(plm, tmp_path):
    first, moved, changed = (tmp_path / name for name in ("first", "moved", "changed"))
    for folder, content in ((first, "weights"), (moved, "weights"), (changed, "others")):
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_text(content)
    base = ("debias.source=template", f"plm.path={plm}")
    wordlist = keys(*base)
    found = [keys(*base, "debias.screen.toxicity=classifier", f"debias.screen.toxicity_model={folder}")
             for folder in (first, moved, changed)]  # fmt: skip
    assert found[0] == found[1]
    assert all(one != two for one, two in zip(found[0], found[2], strict=True))
    assert keys(*base, f"debias.screen.toxicity_model={first}") == wordlist, "no classifier is used"
