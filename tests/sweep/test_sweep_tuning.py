"""Tuning: as many trials for each method, one criterion, halves that do not overlap, and a test half touched once."""

import json
import math

import pytest
import yaml

from fairloop.catalogue import catalogue
from fairloop.composition import parse_overrides
from fairloop.measures.measurement import Measurement
from fairloop.sweep import tune_command
from fairloop.sweep.tuning import Judged, Range, best, check_criterion, judge, override_value, read_tuning, trials_of

HALF = [{"name": "stereoset", "part": "PART"}, {"name": "lpbs", "part": "PART"}, {"name": "perplexity", "part": "PART"}]
FILE = {
    "shared": ["plm=minilm"],
    "trials": 8,
    "methods": {
        "cda": {"search": {"learning_rate": {"low": 1e-5, "high": 1e-3, "log": True}, "neutral": [0.0, 1.0]}},
        "leace": {"fixed": {"source": "template"}, "search": {"layers": ["last", "all"]}},
    },
    "bias": ["stereoset/gender/ss", "lpbs/gap"],
    "costs": [
        {"measure": "perplexity/pseudo_perplexity", "most": 0.02, "relative": True},
        {"measure": "stereoset/gender/lms", "most": 1.0},
    ],
    "development": {"benchmarks": [{**one, "part": "development"} for one in HALF], "seeds": [0]},
    "test": {"benchmarks": ["seat", *({**one, "part": "test"} for one in HALF)], "seeds": [0, 1]},
}


def written(tmp_path, **changes):
    path = tmp_path / "tuning.yaml"
    path.write_text(yaml.safe_dump({**FILE, **changes}))
    return path


def test_each_method_has_the_same_number_of_trials_and_its_own_defaults_first(tmp_path):
    tuning = read_tuning(written(tmp_path))
    trials = trials_of(tuning)
    assert [trial.method for trial in trials] == ["cda"] * 4 + ["leace"] * 4
    assert [trial.number for trial in trials] == [*range(4)] * 2
    assert trials[0].settings == trials[4].settings == {}
    assert all(trial.fixed == {"source": "template"} for trial in trials[4:])
    rates = [trial.settings["learning_rate"] for trial in trials[1:4]]
    assert len({*rates}) == 3
    assert all(1e-5 <= rate <= 1e-3 for rate in rates)
    assert [trial.settings for trial in trials_of(tuning)] == [trial.settings for trial in trials]
    # More trials go on with those that were tried.
    more = trials_of(read_tuning(written(tmp_path), trials=12))
    assert [trial.settings for trial in more[:4]] == [trial.settings for trial in trials[:4]]


def test_a_range_is_drawn_evenly_in_its_logarithm(tmp_path):
    methods = {"cda": {"search": {"learning_rate": {"low": 1e-6, "high": 1e-2, "log": True}}}}
    trials = trials_of(read_tuning(written(tmp_path, methods=methods, trials=400)))
    found = [math.log10(trial.settings["learning_rate"]) for trial in trials[1:]]
    assert abs(sum(found) / len(found) + 4) < 0.25  # uniform on [-6, -2]: mean -4, error 0.06
    assert min(found) < -5.8
    assert max(found) > -2.2
    with pytest.raises(ValueError, match="low must be below high"):
        Range(low=0.0, high=1.0, log=True)


@pytest.mark.parametrize("value", [None, True, 1, 2.5e-05, "it's", ["a", 1], [{"name": "lpbs", "part": "test"}]])
def test_a_value_is_what_hydra_reads(value):
    (override,) = parse_overrides([f"debias.key={override_value(value)}"])
    read = override.value()
    read = [dict(one) if isinstance(one, dict) else one for one in read] if isinstance(value, list) else read
    assert json.loads(json.dumps(read, default=str)) == value


def measured(**values):
    """Measures before and after: `name=(before, after)` or `(before, after, low, high)`, the ends being before's."""
    found = {}
    for name, (before, after, *ends) in values.items():
        metric = name.replace("__", "/")
        low, high = ends or (None, None)
        found[f"before/{metric}"] = Measurement(f"before/{metric}", before, low, high, 10)
        found[metric] = Measurement(metric, after, None, None, 10)
    return found


def test_the_criterion_by_hand(tmp_path):
    tuning = read_tuning(written(tmp_path))
    found = measured(
        stereoset__gender__ss=(56.0, 47.0, 54.0, 58.0),  # 6 from the ideal, now 3: a half
        lpbs__gap=(0.1, -0.2, -0.3, 0.5),  # nearer to 0 than the half width .4: 0.2 / 0.4
        perplexity__pseudo_perplexity=(20.0, 21.0),  # 5% where 2% are allowed
        stereoset__gender__lms=(82.0, 81.5),  # half a point where one is allowed
    )
    judged = judge(tuning, found, catalogue())
    assert judged.bias == pytest.approx((3 / 6 + 0.2 / 0.4) / 2)
    assert judged.excess == pytest.approx((0.05 - 0.02) / 0.02)
    assert judged.parts["stereoset/gender/lms"] == pytest.approx(0.5)
    nothing = measured(
        stereoset__gender__ss=(56.0, 56.0),
        lpbs__gap=(0.5, 0.5),
        perplexity__pseudo_perplexity=(20.0, 19.0),
        stereoset__gender__lms=(82.0, 83.0),
    )
    assert (judge(tuning, nothing, catalogue()).bias, judge(tuning, nothing, catalogue()).excess) == (1.0, 0.0)


def test_cost_goes_before_bias_and_the_first_of_equals_is_chosen():
    def one(bias, excess):
        return Judged(bias, excess, {})

    assert best([one(0.9, 0.0), one(0.5, 0.0), one(0.1, 0.3)]) == 1
    assert best([one(0.9, 2.0), one(0.5, 1.0)]) == 1
    assert best([one(0.5, 0.0), one(0.5, 0.0)]) == 0


OVERLAPS = "allowed: development here and test there$"


def halves(name="lpbs", **parts):
    return {
        half: {
            "benchmarks": [
                one if one["name"] != name else {"name": name, **({"part": part} if part else {})}
                for one in ({**one, "part": half} for one in HALF)
            ],
            "seeds": [0],
        }
        for half, part in parts.items()
    }


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"trials": 1}, r"^trials=1: at least 2, one for each method$"),
        ({"trials": 7}, r"^trials=7: as many for each of 2 methods: 6 or 8$"),
        ({"trials": "many"}, r"^trials=many: allowed is a whole number"),
        (halves(development="test", test="test"), OVERLAPS),
        (halves(development=None, test="test"), OVERLAPS),
        (halves(development="development", test="all"), OVERLAPS),
        (halves(development="test", test="development"), r"^development\.benchmarks: lpbs with part=test"),
        ({"methods": {"none": {}}, "trials": 1}, r"^methods\.none: every cell measures the untouched PLM already"),
        (
            {"methods": {"cda": {"fixed": {"steps": 3}, "search": {"steps": [1]}}}},
            r"^methods\.cda\.search\.steps: it is",
        ),
        ({"costs": [{"measure": "lpbs/gap", "most": 0}]}, r"^costs\.0\.most=0: Input should be greater than 0$"),
        ({"unknown": 1}, r"^unknown=1: unknown key"),
    ],
)
def test_a_mistake_in_the_file_is_one_line(tmp_path, changes, line):
    from fairloop.errors import UserError

    with pytest.raises(UserError, match=line) as raised:
        read_tuning(written(tmp_path, **changes))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"bias": ["seat/mean"]}, r"^bias=seat/mean: a measure of development\.benchmarks"),
        ({"bias": ["stereoset/gender/lms"]}, r"^bias=stereoset/gender/lms: a measure with an unbiased value"),
        (
            {"costs": [{"measure": "stereoset/gender/ss", "most": 1.0}]},
            r"^costs=stereoset/gender/ss: a measure of which",
        ),
    ],
)
def test_a_criterion_that_cannot_be_had_is_refused_before_anything(tmp_path, changes, line):
    from fairloop.errors import UserError

    with pytest.raises(UserError, match=line):
        check_criterion(read_tuning(written(tmp_path, **changes)), catalogue())


def texts(tmp_path, first, second):
    found = {}
    for half, lines in (("development", first), ("test", second)):
        path = tmp_path / f"{half}.txt"
        path.write_text("\n".join(lines) + "\n")
        found[half] = {"benchmarks": [{"name": "perplexity", "text": str(path)}], "seeds": [0]}
    return found


def test_texts_that_share_a_line_overlap(tmp_path):
    from fairloop.errors import UserError

    with pytest.raises(UserError, match=r"overlaps the test's: 1 lines are in both, such as 'The sea is calm\.'$"):
        read_tuning(written(tmp_path, **texts(tmp_path, ["Rain fell.", "The sea is calm."], ["The sea is calm. "])))
    assert read_tuning(written(tmp_path, **texts(tmp_path, ["Rain fell."], ["The sea is calm."])))


def test_the_command_ends_with_status_2_and_one_line_and_computes_nothing(tmp_path, capsys):
    for changes, trials in (
        ({}, ["--trials", "1"]),
        (halves(development="test", test="test"), []),
        ({}, ["debias.x=1"]),
    ):
        status = tune_command.command([str(written(tmp_path, **changes)), str(tmp_path / "out"), *trials])
        printed = capsys.readouterr()
        assert (status, printed.out) == (2, ""), printed
        assert printed.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


class Cells:
    """Stands in for the cells: what each would measure, and how often each was run."""

    def __init__(self, monkeypatch, scores):
        self.scores, self.ran = scores, []
        monkeypatch.setattr(tune_command, "_jobs", lambda trial, half, tuning: [(trial, half, s) for s in half.seeds])
        monkeypatch.setattr(tune_command, "check_surroundings", lambda jobs: None)
        monkeypatch.setattr(tune_command, "_run", self.run)
        monkeypatch.setattr(tune_command, "_measured", self.measured)

    def run(self, job):
        trial, half, seed = job
        self.ran.append((trial.method, trial.number, len(half.benchmarks), seed))
        return True

    def measured(self, job):
        trial, _, _ = job
        ss, rise = self.scores[trial.method][trial.number]
        return measured(
            stereoset__gender__ss=(60.0, ss), lpbs__gap=(0.5, 0.5),
            perplexity__pseudo_perplexity=(20.0, 20.0 * (1 + rise)), stereoset__gender__lms=(82.0, 82.0),
        )  # fmt: skip


def test_the_chosen_settings_and_no_others_are_tested_once(tmp_path, monkeypatch, capsys):
    scores = {
        "cda": [(58.0, 0.0), (50.0, 0.5), (53.0, 0.01), (54.0, 0.0)],
        "leace": [(60.0, 0.0), (60.0, 0.0), (60.0, 0.0), (60.0, 0.0)],
    }
    cells, out = Cells(monkeypatch, scores), tmp_path / "out"
    assert tune_command.command([str(written(tmp_path)), str(out)]) == 0
    tested = [one for one in cells.ran if one[2] == 4]
    assert tested == [("cda", 2, 4, 0), ("cda", 2, 4, 1), ("leace", 0, 4, 0), ("leace", 0, 4, 1)]
    assert len(cells.ran) == 8 + 4
    lines = (out / "trials.csv").read_text().splitlines()
    assert len(lines) == 1 + 8
    assert [line.split(",")[0] for line in lines[1:]] == ["cda"] * 4 + ["leace"] * 4
    assert json.loads((out / "chosen.json").read_text())["chosen"]["cda"]["trial"] == 2
    assert (out / "test.csv").read_text().startswith("method,seed,metric,before,after,low,high,n\ncda,0,")
    capsys.readouterr()
    # The same again is allowed; another tuning may not look at the test half a second time.
    assert tune_command.command([str(written(tmp_path)), str(out)]) == 0
    assert tune_command.command([str(written(tmp_path, seed=1)), str(out)]) == 2
    assert "the test half has been used here" in capsys.readouterr().err


def test_a_trial_that_fails_counts_and_is_not_chosen(tmp_path, monkeypatch):
    from fairloop.errors import Fault

    cells = Cells(monkeypatch, {name: [(55.0, 0.0)] * 4 for name in ("cda", "leace")})
    original = cells.run

    def broken(job):
        if job[0].method == "cda" and job[0].number == 0:
            raise Fault("the training failed")
        return original(job)

    monkeypatch.setattr(tune_command, "_run", broken)
    out = tmp_path / "out"
    assert tune_command.command([str(written(tmp_path)), str(out), "--development-only"]) == 1
    assert "the training failed" in (out / "trials.csv").read_text()
    assert json.loads((out / "chosen.json").read_text())["chosen"]["cda"]["trial"] == 1
    assert not (out / "test.csv").exists()
