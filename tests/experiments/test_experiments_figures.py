"""Every table of figures in README.md and experiments/ is what a committed CSV says, or names the commit it is from."""

import collections
import importlib.util
import itertools
import json
import re
from fnmatch import fnmatch
from statistics import fmean

import pytest
from readme_tables import EXPERIMENTS, ROOT, interval, minus, number, one, read, table, tables
from scipy.stats import sem, spearmanr, ttest_1samp
from scipy.stats import t as student

EQUILIBRIUM, FAMILIES = EXPERIMENTS / "equilibrium" / "README.md", EXPERIMENTS / "equilibrium_families" / "README.md"
FAIR_GENDER = EXPERIMENTS / "fair_gender" / "README.md"
NET, SHARE, AMONG = "rule/net_stereotype_rate", "rule/gendered_share", "rule/net_rate_among_gendered"

STRATEGIES = {"none": "none", "prompt": "prompt", "augment": "augment", "contrastive": "contrastive"}
STRATEGIES["finetune"] = "finetune"


def short(text: str) -> str:
    """Return a share without the zero before its point, as the tables of long rows have it."""
    return re.sub(r"^0\.", ".", text)


def mean_of(strategy: str, metric: str, generation: int) -> float:
    rows = [
        row
        for row in read("equilibrium/cells.csv")
        if (row["mitigation"], row["metric"], row["generation"]) == (strategy, metric, str(generation))
    ]
    assert len(rows) == 9
    return fmean(float(row["value"]) for row in rows)


def strategies_expected(strategy: str) -> list[str]:
    course = [short(number(mean_of(strategy, NET, generation), 3)) for generation in range(4)]
    share, among = (
        " → ".join(short(number(mean_of(strategy, metric, generation), 2)) for generation in (0, 3))
        for metric in (SHARE, AMONG)
    )
    found = one("equilibrium/equilibrium_reanalysed.csv", mitigation=strategy, metric=NET)
    trend = f"{number(float(found['trend']), 3, signed=True)} {interval(found, 'trend', 3, signed=True)}"
    bounded = "inf" not in found["level:low"] + found["level:high"]
    level = (
        f"{number(float(found['level']), 3)} {interval(found, 'level', 2)}"
        if bounded
        else (f"{number(float(found['level']), 3)}, unbounded")
    )
    return [strategy, " → ".join(course), share, among, trend, f"{level} ‡"]


def test_equilibrium_the_strategies():
    for row in table(EQUILIBRIUM, "strategy | B, generation"):
        assert row == strategies_expected(row[0])


TASKS = ("downstream/bias", "downstream_pronoun/bias", "downstream_hiring/bias")


def reduction(strategy: str, metric: str, measured: str, level: str = "all") -> dict[str, str]:
    return one(
        "equilibrium/reductions_reanalysed.csv",
        mitigation=strategy, metric=metric, measured=measured, generations="last", level=level,
    )  # fmt: skip


def percent(row: dict[str, str], how: str = "") -> str:
    value, low, high = (minus(f"{100 * float(row[key]):.0f}") for key in ("reduction", "low", "high"))
    return f"{value}% [{low}, {high}]{how}"


def p_value(row: dict[str, str]) -> str:
    value = float(row["p_holm"])
    if value >= 0.995:
        return ", p = 1"
    return f", p = {short(f'{value:.3f}' if value < 0.05 else f'{value:.2f}')}"


def test_equilibrium_reductions_after_the_mitigation():
    for strategy, *shown in table(EQUILIBRIUM, "strategy | occupation | pronoun | hiring | at 0.1"):
        if strategy == "paper, contrastive":
            continue
        constructed = strategy in ("augment", "contrastive")
        rows = [reduction(strategy, metric, "after the mitigation") for metric in TASKS]
        low = reduction(strategy, TASKS[0], "after the mitigation", "0.1")
        ends = [", by construction" if constructed else p_value(row) for row in rows]
        expected = [percent(row, end) for row, end in zip(rows, ends, strict=True)]
        assert shown == [*expected, percent(low)], strategy


def test_equilibrium_reductions_as_written():
    (rows,) = [
        rows[1:] for _, rows in tables(EQUILIBRIUM) if rows[0] == ["strategy", "occupation", "pronoun", "hiring"]
    ]
    for strategy, *shown in rows:
        found = [reduction(strategy, metric, "as written") for metric in TASKS]
        assert shown == [percent(row, p_value(row)) for row in found], strategy


LONG = {
    "B": (NET, 3),
    "gendered share": (SHARE, 3),
    "net rate among gendered": (AMONG, 2),
    "WEAT d": ("embedding/effect_size", 2),
    "distinct-2": ("diversity/distinct_2", 2),
}


def test_equilibrium_ten_generations():
    for name, *shown in table(EQUILIBRIUM, " | 0 | 1"):
        metric, digits = LONG[name]
        rows = [one("equilibrium/long_recursion_cells.csv", metric=metric, generation=str(g)) for g in range(11)]
        numbers = [number(float(row["value"]), digits) if row["value"] else "–" for row in rows]
        expected = numbers if name == "WEAT d" else [short(text) for text in numbers]
        assert [f"{value}.00" if value == "1" else value for value in shown] == expected, name


def test_equilibrium_families():
    """Every cell of cells.csv has its line in README.md, and sentences.csv twenty sentences of each generation."""
    spec = importlib.util.spec_from_file_location("families", EXPERIMENTS / "equilibrium_families" / "tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = FAMILIES.read_text(encoding="utf-8").splitlines()
    lines = list(module.rows())
    cells = {row["cell"] for row in read("equilibrium_families/cells.csv")}
    assert len(lines) == len(cells)
    assert [
        line for line in page if line.startswith(tuple(f"| {name}, " for name in module.FAMILIES.values()))
    ] == lines
    shown = collections.Counter((row["model"], row["generation"]) for row in read("equilibrium_families/sentences.csv"))
    assert set(shown.values()) == {module.SHOWN}
    assert {model for model, _ in shown} == {row["model"] for row in read("equilibrium_families/cells.csv")}


def test_equilibrium_families_as_quoted():
    """The verdicts and trends that the findings name, there and in README.md."""
    page, main = (" ".join(path.read_text(encoding="utf-8").split()) for path in (FAMILIES, ROOT / "README.md"))
    found = {
        (model, mitigation, metric): one(
            "equilibrium_families/equilibrium.csv", model=model, mitigation=mitigation, metric=metric
        )
        for model in ("gemma_3_270m", "smollm2_135m_instruct")
        for mitigation in ("none", "augment")
        for metric in (NET, SHARE, AMONG)
    }
    decided = {key: row["verdict"] for key, row in found.items() if row["verdict"] != "undecided"}
    assert decided == {
        ("gemma_3_270m", "none", NET): "falling",
        ("gemma_3_270m", "none", SHARE): "falling",
        ("gemma_3_270m", "augment", AMONG): "falling",
        ("smollm2_135m_instruct", "augment", SHARE): "rising",
        ("smollm2_135m_instruct", "augment", AMONG): "falling",
    }
    for key in decided:
        row = found[key]
        trend = f"{number(float(row['trend']), 3, signed=True)} {interval(row, 'trend', 3, signed=True)}"
        assert trend in page, (key, trend)
        assert key[2] != NET or trend in main


def test_equilibrium_families_ranges():
    """The ranges over cells that the findings name."""
    page = " ".join(FAMILIES.read_text(encoding="utf-8").split())
    found = collections.defaultdict(dict)
    for row in read("equilibrium_families/cells.csv"):
        if row["metric"] in (NET, SHARE, "generation/yield") and row["value"]:
            cell = (row["model"].partition("_")[0], row["mitigation"], row["level"], row["seed"])
            found[cell][row["metric"], int(row["generation"])] = float(row["value"])

    def ends(model, mitigation, metric, generation):
        values = [one[metric, generation] for cell, one in found.items() if cell[:2] == (model, mitigation)]
        return [f"{max(value, 0):.2f}" for value in (min(values), max(values))]

    def to(*of):
        return " to ".join(ends(*of))

    gemma, small = ("gemma", "smollm2")
    assert f"S goes from {to(gemma, 'none', SHARE, 1)} in generation 1 to {to(gemma, 'none', SHARE, 6)} in" in page
    low, high = ends(gemma, "augment", SHARE, 6)
    assert f"Gemma's S ends between {low} and {high}, SmolLM2's at {ends(small, 'augment', SHARE, 6)[0]} and" in page
    assert f"the yield falls to {to(small, 'augment', 'generation/yield', 6)}" in page
    pairs = [cell for cell in found if cell[1] == "augment"]
    assert len(pairs) == 10
    assert "In all ten pairs of one level and seed B is higher with augmentation" in page
    assert all(found[cell][NET, 6] > found[cell[0], "none", *cell[2:]][NET, 6] for cell in pairs)
    paired = [
        (cell[0], one) for cell, one in found.items() if cell[1] == "none" and (cell[0], "augment", *cell[2:]) in found
    ]
    for model in (gemma, small):
        without = [f"{max(one[NET, 6], 0):.2f}" for name, one in paired if name == model]
        assert f"{to(model, 'augment', NET, 6)} against {min(without)} to {max(without)} for" in page
    rest = sorted(one[SHARE, 6] for cell, one in found.items() if cell[:2] == (small, "none"))
    assert "to {:.2f} and {:.2f}. B lies".format(*rest[:2]) in page
    assert "to {:.2f}, {:.2f} and {:.2f}, while the yield".format(*rest[2:]) in page


CALIBRATED = {
    "net rate B": (NET, None),
    "WEAT d": ("embedding/effect_size", 2),
    "downstream bias: occupation": ("downstream/bias", 2),
    "downstream bias: pronoun": ("downstream_pronoun/bias", 3),
    "downstream bias: hiring": ("downstream_hiring/bias", 2),
    "downstream accuracy": ("downstream/accuracy", 3),
    "distinct-2": ("diversity/distinct_2", 3),
}


def test_metric_calibration():
    for name, slope, smallest, shift in table(EXPERIMENTS / "metric_calibration" / "README.md", "metric | slope"):
        metric, digits = CALIBRATED[name]
        sizes = {n: one("metric_calibration/summary.csv", metric=metric, sentences=n) for n in ("100", "500", "2000")}
        found = sizes["500"]
        if digits is None:
            assert float(found["slope"]) == 1
            assert f"about {float(found['mde_source']):.2f} at 500" in smallest
            assert float(found["augmented_1:shift"]) == pytest.approx(-0.25)
            continue
        assert slope == f"{number(float(found['slope']), digits)} {interval(found, 'slope', 2)}", name
        if "follow" not in smallest:
            assert smallest == " / ".join(f"{float(row['mde']):.2f}" for row in sizes.values()), name
        if shift != "none":
            moved = float(found["augmented_1:shift"])
            shown = number(moved, 3 if abs(moved) < 0.1 else 2)
            assert shift == f"{shown} {interval(found, 'augmented_1:shift', 2)}", name


# --- Fair-Gender -----------------------------------------------------------------------------------------------------

HEADLINE, PERPLEXITY = "heldout_templates/mean_abs_log_odds", "perplexity/pseudo_perplexity"


def test_fair_gender_effects():
    """The table of estimated effects against steps really taken, from the steps."""
    steps = read("fair_gender/effects.csv")
    shown = table(FAIR_GENDER, "pairs in a step | steps")
    assert [row[0] for row in shown] == list(dict.fromkeys(row["size"] for row in steps))
    for size, *cells in shown:
        rows = [row for row in steps if row["size"] == size]
        columns = ("influence", "knn", "really", "standard_error")
        influence, knn, really, errors = ([float(row[key]) for row in rows] for key in columns)
        beyond = sum(abs(effect) > 2 * error for effect, error in zip(really, errors, strict=True))
        assert cells == [
            str(len(rows)),
            *("" if len(rows) < 6 else f"{spearmanr(one, really).statistic:.3f}" for one in (influence, knn)),
            f"{fmean(really):.0f}",
            f"{fmean(effect**2 for effect in really) ** 0.5:.0f}",
            f"{fmean(errors):.0f}",
            f"{100 * beyond / len(rows):.0f}%",
        ], size


def test_fair_gender_trials():
    """All trials of the reduced tuning."""
    shown = table(FAIR_GENDER, "method | trial")
    expected = [
        [
            row["method"],
            row["trial"],
            ", ".join(f"{key} {value}" for key, value in json.loads(row["settings"]).items()) or "the method's own",
            f"{float(row['bias']):.2f}",
            f"{float(row['stereoset/gender/lms']):+.1f}",
            f"{100 * float(row[PERPLEXITY]):+.1f}%",
            f"{float(row['excess']):.2f}",
        ]
        for row in read("fair_gender/tuned/trials.csv")
    ]
    assert shown == [[*row[:3], *(cell.replace("-", "−") for cell in row[3:])] for row in expected]
    assert all(row["status"] == "complete" for row in read("fair_gender/tuned/trials.csv"))


def test_fair_gender_tested_apart():
    """The chosen settings on the test half: five seeds each, with Student's interval."""
    measures = {
        "seat/gender_mean_abs_effect_size": 2,
        "stereoset/gender/ss": 1,
        "stereoset/gender/lms": 1,
        "stereoset/gender/icat": 1,
        "crows_pairs/gender/score": 1,
        "lpbs/gap": 2,
        "heldout_templates/mean_abs_log_odds": 2,
        "perplexity/pseudo_perplexity": 1,
    }
    rows = read("fair_gender/tuned/test.csv")
    untouched, *shown = table(FAIR_GENDER, "tuned method")
    for (metric, digits), cell in zip(measures.items(), untouched[1:], strict=True):
        assert {number(float(row["before"]), digits) for row in rows if row["metric"] == metric} == {cell}
    assert [row[0] for row in shown] == list(dict.fromkeys(row["method"] for row in rows))
    assert len(shown) == 10
    for method, *cells in shown:
        for (metric, digits), cell in zip(measures.items(), cells, strict=True):
            found = [float(row["after"]) for row in rows if (row["method"], row["metric"]) == (method, metric)]
            half = student.ppf(0.975, len(found) - 1) * sem(found)
            low, high = fmean(found) - half, fmean(found) + half
            ends = f" [{number(low, digits)}, {number(high, digits)}]" if len(set(found)) > 1 else ""
            assert (len(found), cell) == (5, f"{number(fmean(found), digits)}{ends}"), (method, metric)


def test_fair_gender_moved():
    """Changes on the test half, against SciPy and Holm's procedure done by hand."""
    ideal = {"crows_pairs/gender/score": 50.0}
    bias = ["seat/gender_mean_abs_effect_size", "crows_pairs/gender/score", "lpbs/gap", HEADLINE]
    families = [bias, ["stereoset/gender/lms", PERPLEXITY]]
    digits = {
        "seat/gender_mean_abs_effect_size": 2,
        "crows_pairs/gender/score": 1,
        "stereoset/gender/lms": 1,
        PERPLEXITY: 2,
    }
    rows, shown = read("fair_gender/tuned/test.csv"), {row[0]: row[1:] for row in marked("change by")}
    for family in families:
        differences = {
            (method, metric): [
                abs(float(row["after"]) - ideal.get(metric, 0.0)) - abs(float(row["before"]) - ideal.get(metric, 0.0))
                for row in rows
                if (row["method"], row["metric"]) == (method, metric)
            ]
            for metric in family
            for method in shown
        }
        p = {key: ttest_1samp(one, 0.0).pvalue for key, one in differences.items() if len(set(one)) > 1}
        passed: set[tuple[str, str]] = set()
        for place, key in enumerate(sorted(p, key=p.__getitem__)):
            if p[key] * (len(p) - place) >= 0.05:
                break
            passed.add(key)
        for (method, metric), moved in differences.items():
            place = [*bias, "stereoset/gender/lms", PERPLEXITY].index(metric)
            n = digits.get(metric, 3)
            half = student.ppf(0.975, 4) * sem(moved)
            ends = [number(end, n, signed=True) for end in (fmean(moved) - half, fmean(moved) + half)]
            cell = number(fmean(moved), n, signed=True) + (f" [{', '.join(ends)}]" if len(set(moved)) > 1 else "")
            assert shown[method][place] == (f"**{cell}**" if (method, metric) in passed else cell), (method, metric)


def grid(first: str) -> dict[str, dict[str, str]]:
    """Return a table of Fair-Gender's page as {row: {title: cell}}."""
    (rows,) = [rows for _, rows in tables(FAIR_GENDER) if " | ".join(rows[0]).startswith(first)]
    return {name: dict(zip(rows[0][1:], cells, strict=True)) for name, *cells in rows[1:]}


def middle(cell: str) -> str:
    return cell.split(" [")[0]


def falls(cell: str) -> str:
    """Return the amount of a change below zero, `3.3 [2.5, 4.1]` for `−3.3 [−4.1, −2.5]`; a rise as it is, unsigned."""
    value, low, high = re.findall(r"[−+]?[\d.]+", cell)
    if value.startswith("+"):
        return f"{value[1:]} [{low[1:]}, {high[1:]}]"
    return f"{value[1:]} [{high[1:]}, {low[1:]}]"


def test_fair_gender_says_in_words_what_its_tables_say():
    page = " ".join(FAIR_GENDER.read_text(encoding="utf-8").split())
    tested, moved = grid("tuned method"), grid("change by")
    ablated, causal = grid("changed component | "), grid("variant of SmolLM2")
    before, own, others = tested["untouched PLM"], tested["fair_gender"], [*tested][2:]
    nearest = min(float(middle(tested[name]["CrowS-Pairs"])) for name in others)
    plain, debiased, projected = (causal[name] for name in ("untouched PLM", "full method", "sentence_debias"))
    near, swapped = "no causal estimate in L_b (K = 1)", ablated["swapped pairs"]
    quoted = [
        f"on CrowS-Pairs ({before['CrowS-Pairs']} to {middle(own['CrowS-Pairs'])})",
        f"(he/she {before['he/she']} to {middle(own['he/she'])})",
        f"LMS on gender falls by {middle(falls(moved['fair_gender']['LMS, gender']))} points",
        f"CrowS-Pairs goes to {middle(own['CrowS-Pairs'])}, the others to {nearest:.1f} and more",
        f"he/she to {middle(own['he/she'])}, the next best (SentenceDebias) to "
        f"{middle(tested['sentence_debias']['he/she'])}",
        f"LMS on the gender items falls by {falls(moved['fair_gender']['LMS, gender']).replace(' [', ' points [')}",
        f"(LMS {moved['sentence_debias']['LMS, gender']}, perplexity "
        f"{middle(tested['sentence_debias']['perplexity'])})",
        f"bias on held-out attribute words is {falls(ablated[near]['attribute words']).replace(' [', ' lower [')}",
        f"LMS is {falls(ablated[near]['LMS, gender']).replace(' [', ' points lower [')}",
        f"without alignment attribute words are "
        f"{falls(ablated['no alignment']['attribute words']).replace(' [', ' lower [')}",
        f"CrowS-Pairs lies {falls(swapped['CrowS-Pairs, from 50']).replace(' [', ' further from 50 [')}",
        f"he/she keeps {falls(swapped['he/she']).replace(' [', ' more [')}",
        f"LMS is {falls(swapped['LMS, gender']).replace(' [', ' lower [')}",
        f"he/she falls from {middle(plain['he/she'])} to {debiased['he/she']}",
        f"attribute words from {middle(plain['attribute words'])} to {debiased['attribute words']}",
        f"LPBS from {middle(plain['LPBS'])} to {debiased['LPBS']}",
        f"LMS on gender {middle(plain['LMS'])} to {debiased['LMS']}",
        f"perplexity {middle(plain['perplexity'])} to {debiased['perplexity']}",
        f"perplexity rises by {falls(ablated['no regulariser']['perplexity']).replace(' [', '% [')}",
        f"bias on held-out attribute words is "
        f"{falls(ablated['no regulariser']['attribute words']).replace(' [', ' lower [')}",
        f"CDA brings perplexity down to {middle(causal['cda']['perplexity'])}",
        f"he/she up to {middle(causal['cda']['he/she'])}",
        f"**SentenceDebias raises he/she to {projected['he/she']}**",
        f"CrowS-Pairs comes to {middle(projected['CrowS-Pairs'])} and ICAT to {middle(projected['ICAT'])}",
    ]
    assert [phrase for phrase in quoted if phrase not in page] == []
    beside = {
        (row["variant"], row["metric"]): f"{float(row['p_holm']):.3f}".lstrip("0").rstrip("0")
        for row in read("fair_gender/pairs/ablation.csv")
        if row["p_holm"] and float(row["p_holm"]) < 0.05
    }
    assert beside == {
        ("fair_gender, counterpart by the swapper", "stereoset/gender/ss"): ".002",
        ("fair_gender, counterpart by the swapper", "stereoset/overall/lms"): ".008",
        ("fair_gender, pairs from templates", "stereoset/gender/ss"): ".048",
    }
    assert [p for p in beside.values() if p not in page] == []
    rows = [(name, cells) for name, *cells in marked("changed component | ")]
    passed = {(name, place) for name, cells in rows for place, text in enumerate(cells) if "**" in text}
    assert passed == {(near, 3), ("no regulariser", 3), ("no regulariser", 5)}


def marked(first: str) -> list[list[str]]:
    """Return the rows of a table of Fair-Gender's page with its bold letters."""
    page = FAIR_GENDER.read_text(encoding="utf-8").splitlines()
    start = next(place for place, line in enumerate(page) if line.startswith(f"| {first}"))
    rows = itertools.takewhile(lambda line: line.startswith("|"), page[start + 2 :])
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in rows]


# --- what the texts quote --------------------------------------------------------------------------------------------


def equilibrium_row(metric: str) -> dict[str, str]:
    return one("equilibrium/equilibrium_reanalysed.csv", mitigation="none", metric=metric)


def more_biased(strategy: str) -> str:
    """Return `63% [14, 131]`: by how much a strategy raises the bias of the pronoun task as written."""
    row = reduction(strategy, "downstream_pronoun/bias", "as written")
    value, high, low = (-100 * float(row[key]) for key in ("reduction", "low", "high"))
    return f"{value:.0f}% [{low:.0f}, {high:.0f}]"


def on_the_test_half(metric: str, method: str = "fair_gender") -> str:
    """Return `before to after [low, high]` of a tuned method, as the table of the test half has it."""
    title = {"crows_pairs/gender/score": 5, "stereoset/gender/lms": 3, "lpbs/gap": 6, HEADLINE: 7, PERPLEXITY: 8}[
        metric
    ]
    untouched, *tested = table(FAIR_GENDER, "tuned method")
    (after,) = [row[title] for row in tested if row[0] == method]
    return f"{untouched[title]} to {after}"


def test_the_main_readme_quotes_the_files():
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    trends = {metric: equilibrium_row(metric) for metric in (NET, AMONG)}
    shares = " → ".join(short(number(mean_of("none", SHARE, generation), 2)) for generation in (0, 3))
    augmented, contrastive = (
        reduction(one, "downstream/bias", "after the mitigation") for one in ("augment", "contrastive")
    )
    sizes = [one("metric_calibration/summary.csv", metric=metric, sentences="500") for metric in (
        "embedding/effect_size", "downstream/bias",
    )]  # fmt: skip
    quoted = [
        f"B falls to {mean_of('none', NET, 3):.2f} from every initial level",
        f"(share {shares})",
        f"by {number(float(trends[NET]['trend']), 3)} {interval(trends[NET], 'trend', 3)} a generation",
        f"({number(float(trends[AMONG]['trend']), 2, signed=True)} {interval(trends[AMONG], 'trend', 2, signed=True)})",
        f"with contrastive the pronoun task is {more_biased('contrastive')} *more* biased",
        f"with augmentation {more_biased('augment')}",
        f"The {100 * float(augmented['reduction']):.0f} and {100 * float(contrastive['reduction']):.0f}% less",
        f"the embedding metric sees a change of the net rate of {float(sizes[0]['mde']):.2f}, "
        f"the occupation classifier of {float(sizes[1]['mde']):.2f}",
        f"CrowS-Pairs on gender goes from {on_the_test_half('crows_pairs/gender/score')}",
        f"he/she log-odds from {on_the_test_half(HEADLINE)}",
        f"perplexity stays at {on_the_test_half(PERPLEXITY).split(' to ')[1]}",
        f"LMS on gender falls from {on_the_test_half('stereoset/gender/lms')}",
        f"LPBS as far ({on_the_test_half('lpbs/gap', 'sentence_debias').split(' [')[0]})",
    ]
    assert [phrase for phrase in quoted if phrase not in text] == []


def coverage_mark(row: dict[str, str]) -> str:
    """Return the mark of a coverage that is off 93 to 97% by more than two standard errors of its simulation."""
    found, count = float(row["coverage"]), float(row["studies"]) * float(row["shown"])
    error = 2 * (found * (1 - found) / count) ** 0.5
    return " ▲" if found - error > 0.97 else " ▼" if found + error < 0.93 else ""


def coverage_cell(row: dict[str, str]) -> str:
    """Return `bias 95.4` of a quantity, with its mark, and how often it has an interval where that is not always."""
    shown = float(row["shown"])
    often = "" if shown > 0.995 else f" (shown in {100 * shown:.0f}%)"
    name = row["quantity"].replace("_", " ")
    return f"{name} {number(100 * float(row['coverage']), 1)}{coverage_mark(row)}{often}"


def test_coverage():
    """Every quantity stands in the line of its setting; a line without a group goes on with the last one's."""
    group, lines = "", []
    for first, *shown in table(EXPERIMENTS / "coverage" / "README.md", " | setting | n / units"):
        assert first != group
        group = first or group
        lines.append([group, *shown])
    settings: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    for row in read("coverage/coverage.csv"):
        settings.setdefault((row["group"], row["setting"], row["n"]), []).append(row)
    expected = []
    for setting, rows in settings.items():
        found = [row for row in rows if float(row["shown"]) > 0]
        marked = not found or any(coverage_mark(row) for row in found)
        (studies,), (note,) = {row["studies"] for row in rows}, {row["note"] for row in rows}
        what = ", ".join(map(coverage_cell, found)) or "no interval"
        expected.append([*setting, studies, what, note if marked else ""])
    assert lines == expected


def test_every_table_of_figures_is_recomputed_or_names_its_commit():
    """Tables of figures that no test above reads say "no CSV" and a commit in the lines before them."""
    recomputed = {"strategy", "", "family, mitigation", "method", "metric", "benchmark"}
    # Fair-Gender's: what `tables.py` prints (tests/debias/test_debias_experiment.py), some of it recomputed above, too.
    recomputed |= {"pairs in a step", "tuned method", "change by", "changed component", "changed component, SmolLM2"}
    recomputed |= {"writer", "variant of `minilm`", "variant of SmolLM2", "pairs of `minilm`"}
    recomputed |= {"pairs, against those written whole"}
    words_only = {"question", "group", "family", "column of `summary.csv`", "source", "file"}
    seen = 0
    for readme in [ROOT / "README.md", *sorted(EXPERIMENTS.glob("*/README.md"))]:
        for before, rows in tables(readme):
            first, seen = rows[0][0], seen + 1
            named = re.search(r"\b[Nn]o(t kept as)? CSV\b|no\s+CSV|CSV", before) and re.search(
                r"commit\s+[0-9a-f]{7}", before
            )
            read_above = rows[0][1:3] in (["0", "1"], ["setting", "n / units"])
            if (first == "" and not read_above) or first == "step":
                assert named, f"{readme.parent.name}: {rows[0]}"
            else:
                assert first in recomputed | words_only, f"{readme.parent.name}: {rows[0]}"
    assert seen > 20


MEASURED = {
    "SEAT, gender tests, mean absolute effect size": ("seat/mean_abs_effect_size", 2),
    "SEAT 6 (names; career, family), effect size": ("seat/sent-weat6/effect_size", 2),
    "StereoSet LMS, all four types, dev split": ("stereoset/overall/lms", 1),
    "StereoSet SS, all four types, dev split": ("stereoset/overall/ss", 1),
    "StereoSet ICAT, all four types, dev split": ("stereoset/overall/icat", 1),
    "StereoSet SS, gender, dev split": ("stereoset/gender/ss", 1),
    "CrowS-Pairs (`meade2022`), all nine types": ("crows_pairs/overall/score", 1),
    "CrowS-Pairs, the leaderboard's three types": ("crows_pairs/meade2022_overall/score", 2),
    "CrowS-Pairs, gender": ("crows_pairs/gender/score", 1),
    "WinoBias, pro − anti accuracy": ("winobias/overall/gap", 1),
    "LPBS, male- minus female-majority occupations": ("lpbs/gap", 2),
    "held-out templates, mean absolute log-odds": ("heldout_templates/mean_abs_log_odds", 2),
    "(pseudo-)perplexity, packaged neutral sentences": ("perplexity/*perplexity", 1),
}


def test_main_readme_measure_a_model():
    """Every cell of the table is the committed score."""
    rows = table(ROOT / "README.md", "benchmark | `minilm`")
    assert [row[0] for row in rows] == list(MEASURED)
    for name, *shown in rows:
        metric, digits = MEASURED[name]
        for plm, cell in zip(("minilm", "smollm2_135m_instruct", "gemma_3_270m"), shown, strict=True):
            (row,) = [
                row for row in read("benchmarks/scores.csv") if row["plm"] == plm and fnmatch(row["metric"], metric)
            ]
            numbers = [float(row[key]) for key in ("value", "low", "high") if row[key]]
            said = [float(text) for text in re.findall(r"-?[\d.]+", cell.replace("−", "-"))]
            assert said == [float(f"{one_of:.{digits}f}") for one_of in numbers], (name, plm)


def test_fair_gender_writers():
    """The table of writers is what `tables.py` prints, from writers.csv."""
    spec = importlib.util.spec_from_file_location("fair_gender_tables", EXPERIMENTS / "fair_gender" / "tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = FAIR_GENDER.read_text(encoding="utf-8").splitlines()
    lines = module.written()
    start = page.index(lines[0])
    assert page[start : start + len(lines)] == lines
    hold = {row["writer"]: row for row in read("fair_gender/writers.csv") if row["metric"] == "counterparts that hold"}
    same = [row for row in read("fair_gender/writers.csv") if row["metric"].startswith("of these")]
    for name, writer in (
        ("Qwen2.5-Coder's counterparts", "qwen_2_5_coder_0_5b_instruct"),
        ("SmolLM2's", "smollm2_135m_instruct"),
    ):
        share, low, high = (f"{100 * float(hold[writer][key]):.0f}" for key in ("value", "low", "high"))
        assert re.search(rf"{name} {share}%( hold)? \[{low}, {high}\]", "\n".join(page))
    equal = round(sum(float(row["value"]) * int(row["n"]) for row in same))
    assert f"{equal} of {sum(int(row['n']) for row in same)} are the swapped sentence" in "\n".join(page)
