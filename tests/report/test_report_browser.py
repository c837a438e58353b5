"""The pages in headless Chromium: sort, filter, open a cell, compare two; dark, on a phone, with hostile text."""

import os
import shutil
from contextlib import contextmanager

import numpy as np
import pytest
from fair_gender_store import make_grid as make_debiasing
from fair_gender_store import make_method
from report_store import make_cell, write_cell
from report_store import make_grid as make_recursion
from scipy import stats

from fairloop.report.cli import show_difference
from fairloop.report.read import read_runs
from fairloop.report.write import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian's package chromium) on the PATH")

HOSTILE = [
    "<script>document.title = 'owned'</script> The nurse said \"she\" & 'he' left.",
    "</li></ol></details></script><img src=x onerror=\"document.title='owned'\">",
    "The nurse \u202egnihtemos saw \u2066her\u2069.",
    "supercalifragilistic" * 40,
    "The 👩🏽‍⚕️ nurse smiled 😀 at him.",
    "الممرضة قالت إنها متعبة",
]
NAME = '</script><b onclick="x">model</b>\u202e'


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright (extra dev)")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store with a recursion grid, Fair-Gender's cells, and a cell of hostile text."""
    runs_dir = tmp_path_factory.mktemp("runs")
    make_recursion(runs_dir, strategies=("none", "contrastive"), noise=0.01)
    make_debiasing(runs_dir, ablations=("causal=none", "source=template"))
    make_cell(runs_dir, model=NAME, level=0.45, seed=7, texts=HOSTILE, encoder='"><script>x</script>')
    return runs_dir


@pytest.fixture(scope="module")
def report(store, tmp_path_factory):
    return write_report(store, tmp_path_factory.mktemp("out")).page


@contextmanager
def opened(browser, path, width=1280, height=900, scheme="light"):
    """Open a page with the network cut; fails on any error of its script."""
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, offline=True, reduced_motion="reduce"
    )
    page = context.new_page()
    problems = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on(
        "request", lambda request: None if request.url.startswith(("file:", "data:")) else problems.append(request.url)
    )
    page.goto(path.as_uri())
    yield page
    assert problems == []
    context.close()


def screenshot(page, name):
    """Keep a picture of a page where somebody wants to look at it."""
    if folder := os.environ.get("FAIRLOOP_SCREENSHOTS"):
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)


def column_of(table, title):
    heads = table.locator("thead th").all_inner_texts()
    place = next(at for at, text in enumerate(heads) if text.startswith(title))
    return table.locator(f"tbody td:nth-child({place + 1})").all_inner_texts()


def column(page, title):
    heads = page.locator("#cell-table thead th").all_inner_texts()
    place = next(at for at, text in enumerate(heads) if text.startswith(title))
    return page.locator(f"#cell-table tbody td:nth-child({place + 1})").all_inner_texts()


def test_cells_are_sorted_by_mouse_and_keyboard(browser, report):
    with opened(browser, report) as page:
        head = page.locator("#cell-table th", has_text="net rate B")
        head.locator("button").click()
        assert page.locator("#cell-table th", has_text="net rate B").get_attribute("aria-sort") == "ascending"
        values = [float(text) for text in column(page, "net rate B") if text != "–"]
        assert values == sorted(values)
        assert column(page, "net rate B")[-1] == "–"  # Fair-Gender's cells have none
        page.keyboard.press("Enter")  # the head kept the focus
        assert page.locator("#cell-table th", has_text="net rate B").get_attribute("aria-sort") == "descending"
        values = [float(text) for text in column(page, "net rate B") if text != "–"]
        assert values == sorted(values, reverse=True)
        assert (
            page.locator('#cell-table th[aria-sort="ascending"], #cell-table th[aria-sort="descending"]').count() == 1
        )


def test_every_table_of_results_sorts_by_number(browser, report):
    with opened(browser, report) as page:
        table = page.locator("#debiasing table.sortable").first
        table.locator("th button").nth(2).click()
        first = [float(text.split(" ")[0]) for text in table.locator("tbody td:nth-child(3)").all_inner_texts()]
        assert first == sorted(first)


def test_filters_narrow_the_cells(browser, report):
    with opened(browser, report) as page:
        assert "34 of 34 cells" in page.locator("#shown").inner_text()
        page.locator("select[name=study]").select_option("recursion")
        page.locator("select[name=choice]").select_option("contrastive")
        page.locator("select[name=level]").select_option("0.3")
        assert page.locator("#shown").inner_text() == "3 of 34 cells"
        assert set(column(page, "mitigation")) == {"contrastive"}
        page.locator("select[name=seed]").select_option("2")
        assert page.locator("#cell-table tbody tr").count() == 1
        page.get_by_role("button", name="reset", exact=True).click()
        page.locator("input[name=text]").fill("no such cell")
        page.locator("#shown", has_text="0 of 34").wait_for()
        page.locator("input[name=text]").fill("contrastive")
        page.locator("#shown", has_text="9 of 34").wait_for()


def test_a_cell_opens_with_its_settings_measures_and_sentences(browser, report):
    with opened(browser, report) as page:
        page.locator("input[name=text]").fill("0.45")
        opener = page.locator("button.open").first
        opener.focus()
        page.keyboard.press("Enter")
        panel = page.locator("#panel")
        assert panel.is_visible()
        assert "initial bias 0.45 · seed 7" in panel.locator("#panel-title").inner_text()
        settings = panel.locator("table").first.inner_text()
        assert "initial_bias.level" in settings
        assert "0.45" in settings
        measures = panel.locator("table").nth(1)
        assert measures.locator("th").all_inner_texts() == ["metric", "gen 0", "gen 1", "gen 2", "gen 3"]
        assert "0.450 [" in measures.locator("tr", has_text="rule/net_stereotype_rate").first.inner_text()
        assert panel.locator("mark.female").first.inner_text() in ("nurse", "she", "her")
        page.keyboard.press("Escape")
        assert panel.is_hidden()
        assert opener.evaluate("element => element === document.activeElement")


def test_two_cells_are_compared_in_the_page(browser, report):
    with opened(browser, report) as page:
        page.locator("select[name=study]").select_option("recursion")
        page.locator("select[name=seed]").select_option("0")
        page.locator("select[name=level]").select_option("0.6")
        page.locator("button.open").first.click()
        page.get_by_role("button", name="Compare with another cell").click()
        page.locator("button.open").nth(1).click()
        panel = page.locator("#panel")
        assert panel.locator("#panel-title").inner_text() == "A against B"
        assert "mitigation" in panel.locator("table").first.inner_text()
        row = panel.locator("table").nth(1).locator("tr", has_text="rule/net_stereotype_rate").first
        assert row.locator("td").all_inner_texts()[1:4] == ["0", "0.600", "0.600"]
        assert "0.000 [-0.028, +0.028]" in row.inner_text()  # 0.02 of each: 0.02 √2
        panel.get_by_role("button", name="Stop comparing").click()
        assert page.locator("#pinned").count() == 0


@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_the_page_follows_the_colour_scheme(browser, report, scheme, dark):
    with opened(browser, report, scheme=scheme) as page:
        ground, ink = page.evaluate(
            "['backgroundColor', 'color'].map(key => getComputedStyle(document.body)[key].match(/\\d+/g).map(Number))"
        )
        assert (sum(ground) < sum(ink)) == dark
        assert abs(sum(ground) - sum(ink)) > 3 * 120


def test_a_phone_shows_everything_without_sideways_scrolling(browser, report):
    with opened(browser, report, 390, 844) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.locator("input[name=text]").fill("0.45")
        page.locator("button.open").first.click()
        panel = page.locator("#panel")
        assert panel.evaluate("element => element.scrollWidth <= element.clientWidth")
        assert panel.bounding_box()["width"] <= 390
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_hostile_text_is_only_text(browser, report):
    with opened(browser, report) as page:
        page.locator("input[name=text]").fill("0.45")
        page.locator("button.open").first.click()
        panel = page.locator("#panel")
        items = panel.locator("ol").first.locator("li bdi:first-child")
        # The marks m and f that follow a gendered word are drawn, and not part of the text.
        texts = [text for text in items.all_text_contents() if text not in ("nurse", "plumber")]
        for wanted in (HOSTILE[0], HOSTILE[1], HOSTILE[4], HOSTILE[5]):
            assert wanted in texts
        assert HOSTILE[2].replace("\u202e", "\ufffd").replace("\u2066", "\ufffd").replace("\u2069", "\ufffd") in texts
        assert "</script><b onclick" in panel.inner_text()
        assert page.title() != "owned"
        assert page.evaluate("document.querySelectorAll('script').length") == 3
        assert "<b onclick" in page.locator("#chart-courses .plot").text_content()  # a name is no markup in a figure
        assert (
            page.evaluate(
                "document.querySelectorAll('main b, main img:not([src^=\"data:\"]), [onclick], [onerror]').length"
            )
            == 0
        )
        assert panel.evaluate("element => element.scrollWidth <= element.clientWidth")


def traces(page, chart="chart-courses"):
    """Return what Plotly draws: of each trace its name, panel, points and interval."""
    return page.evaluate(f"document.querySelector('#{chart} .plot').data")


def test_a_figure_shows_the_means_over_cells_with_students_interval(browser, report, store):
    with opened(browser, report) as page:
        page.locator("select[name=study]").select_option("recursion")
        page.locator("select[name=choice]").select_option("contrastive")
        page.wait_for_timeout(300)
        (line,) = [one for one in traces(page) if one.get("name") == "initial bias 0.3"]
        place = traces(page).index(line)
        cells = [cell for cell in read_runs(store).cells if (cell.choice, cell.level) == ("contrastive", 0.3)]
        values = np.array([cell.values("rule/net_stereotype_rate") for cell in cells])
        assert line["y"] == pytest.approx(values.mean(axis=0), rel=1e-4)
        band = next(one for one in reversed(traces(page)[:place]) if one.get("fill") == "toself")
        half = stats.t.ppf(0.975, len(cells) - 1) * values.std(axis=0, ddof=1) / np.sqrt(len(cells))
        assert band["y"] == pytest.approx(
            [*(values.mean(axis=0) - half), *(values.mean(axis=0) + half)[::-1]], rel=1e-3
        )
        assert f"{line['y'][2]:.3f} [{band['y'][2]:.3f}, " in line["text"][2]
        assert line["text"][2].endswith("3 cells")


def test_filters_change_figures_and_tables_together(browser, report):
    with opened(browser, report) as page:
        everything = len(traces(page))
        rows = page.locator("#trajectories tr[data-about]:visible").count()
        page.locator("select[name=choice]").select_option("contrastive")
        page.wait_for_timeout(300)
        assert 0 < len(traces(page)) < everything
        assert 0 < page.locator("#trajectories tr[data-about]:visible").count() < rows
        assert page.locator("#trajectories tr[data-about]:visible", has_text="mitigation none").count() == 0
        assert page.locator("#chart-methods-0 .plot-note").inner_text() == "The filters leave nothing of this figure."
        one = next(line for line in traces(page) if line.get("name") == "initial bias 0.3")["y"]
        page.locator("select[name=seed]").select_option("1")
        page.wait_for_timeout(300)
        assert next(line for line in traces(page) if line.get("name") == "initial bias 0.3")["y"] != one
        page.get_by_role("button", name="reset", exact=True).click()
        page.wait_for_timeout(300)
        assert len(traces(page)) == everything


def test_legends_switch_points_tell_their_values_and_figures_are_saved(browser, report):
    with opened(browser, report) as page:
        plot = page.locator("#chart-methods-0 .plot")
        plot.scroll_into_view_if_needed()
        box = plot.locator(".points path").first.bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        plot.locator(".hoverlayer .hovertext").wait_for(state="attached")
        said = plot.locator(".hoverlayer").text_content()
        assert "fair_gender" in said
        assert "[" in said
        with page.expect_download() as saved:
            plot.locator(".modebar-btn").first.click()
        assert saved.value.suggested_filename == "methods-0.svg"
        assert "<svg" in saved.value.path().read_text()[:200]
        plot.locator(".legendtoggle").first.click()
        page.wait_for_timeout(600)  # a second click in this time would be a double one
        assert traces(page, "chart-methods-0")[0]["visible"] == "legendonly"


def test_dark_figures_have_no_white_boxes_and_a_phone_begins_with_the_choices(browser, report):
    with opened(browser, report, 390, 844, "dark") as page:
        ground = "getComputedStyle(document.querySelector('.plot .main-svg')).backgroundColor"
        assert page.evaluate(ground) == "rgba(0, 0, 0, 0)"
        assert page.evaluate("getComputedStyle(document.querySelector('figure img')).filter") != "none"
        heads = page.locator("#cell-table thead th").all_inner_texts()
        assert heads[0].startswith("mitigation or method")
        assert heads[-1].startswith("cell")
        widths = page.evaluate("[...document.querySelectorAll('.plot')].map((one) => one.scrollWidth)")
        assert max(widths) <= 390
        assert "net stereotype rate B" in page.locator("#outcome").inner_text()


def test_without_scripts_the_sentences_are_there(browser, report):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report.as_uri())
    assert page.locator("#cell-list details").count() == 34
    assert page.locator("#cell-list").is_visible()
    assert not page.locator("#filters").is_visible()
    context.close()


@pytest.fixture(scope="module")
def comparison(store, tmp_path_factory):
    out = tmp_path_factory.mktemp("comparison")
    cells = sorted((store / "recursion").iterdir())
    show_difference(str(cells[0]), str(cells[1]), out, None)
    hostile = next(folder for folder in cells if (folder / "stages").is_dir())
    make_cell(store.parent / "other", model="gemma", level=0.45, seed=8, texts=HOSTILE)
    other = next((store.parent / "other" / "recursion").iterdir())
    show_difference(str(hostile), str(other), out / "hostile", None)
    return next(out.glob("*.html")), next((out / "hostile").glob("*.html"))


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_page_of_a_comparison(browser, comparison, width, scheme):
    with opened(browser, comparison[0], width, 844, scheme) as page:
        assert page.locator("#settings tbody tr").count() >= 1
        table = page.locator("#headline table")
        table.locator("th button").first.click()
        names = table.locator("tbody td:first-child").all_inner_texts()
        assert names == sorted(names)
        assert "B − A" in table.locator("thead").inner_text()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        drawn = {trace["x"][-1] for trace in traces(page, "chart-changes") if trace["x"]}
        shown = {float(text.split(" ")[0]) for text in column_of(table, "B − A")}
        assert {round(one, 3) + 0.0 for one in drawn} <= {one + 0.0 for one in shown}
        screenshot(page, f"comparison_{width}")


def test_a_calibration_has_an_interactive_figure_and_levels_have_their_names(browser, tmp_path):
    rows = []
    for level in (-0.5, 0.0, 0.5):
        for end, add in (("", 0.0), ("/augmented_1", 0.1)):
            name = f"calibration/embedding/effect_size/n50{end}/mean_at_{level:g}"
            rows.append(("", name, level + add, level + add - 0.1, level + add + 0.1, 5))
    config = {"study": {"name": "metric_calibration", "reference": 0.0}, "seed": 0}
    write_cell(tmp_path / "metric_calibration" / "cell", config, rows)
    for level in (0.1, 0.6):
        make_cell(tmp_path, level=level)
    for settings in ({}, {"causal": "none"}):
        make_method(tmp_path, "fair_gender", 0, 0.3, settings=settings)
    page_file = write_report(tmp_path).page
    for width, scheme in ((1280, "light"), (640, "light"), (390, "dark")):
        with opened(browser, page_file, width, 900, scheme) as page:
            lines = {trace["name"]: trace for trace in traces(page, "chart-calibration-0")}
            assert set(lines) == {"50 sentences", "50 sentences, 100% swapped"}
            assert lines["50 sentences"]["x"] == [-0.5, 0.0, 0.5]
            assert lines["50 sentences, 100% swapped"]["y"] == pytest.approx([-0.4, 0.1, 0.6])
            assert {"low (0.1)", "high (0.6)"} <= set(column(page, "initial bias"))
            assert set(column(page, "ablation")) == {"no_filter", "pairs_1000", "none"}
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            screenshot(page, f"report_{width}")


def test_the_page_of_a_comparison_shows_hostile_sentences_as_text(browser, comparison):
    with opened(browser, comparison[1], 390, 844) as page:
        text = page.locator("#sentences").text_content()
        assert HOSTILE[0] in text
        assert HOSTILE[1] in text
        assert page.title().startswith("Fairloop comparison")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.evaluate("document.querySelectorAll('script').length") == 3  # its data, the library, its own
