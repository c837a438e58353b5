import io

import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image
from report_store import make_cell, make_demo

from fairloop.report import drawing
from fairloop.report.drawing import STYLES, styled
from fairloop.report.read import level_mean, read_runs
from fairloop.report.recursion.conditions import conditions
from fairloop.report.recursion.strategies import comparisons
from fairloop.report.recursion.strategy_figures import strategy_figures
from fairloop.report.recursion.trajectories import bands_in_words, trajectories_figure

NET = "rule/net_stereotype_rate"


def compared(runs_dir):
    return conditions(read_runs(runs_dir).cells)


def test_the_files_have_the_same_bytes_each_time_and_carry_no_date(tmp_path):
    make_demo(tmp_path, seeds=(0, 1, 2))
    first, second = trajectories_figure(compared(tmp_path)), trajectories_figure(compared(tmp_path))
    assert first.png == second.png
    assert first.svg == second.svg
    assert b"<dc:date>" not in first.svg
    assert b"Software" not in first.png


def test_the_users_matplotlib_settings_neither_matter_nor_change(tmp_path):
    import matplotlib as mpl

    make_demo(tmp_path)
    plain = trajectories_figure(compared(tmp_path)).svg
    with mpl.rc_context({"font.size": 30, "lines.linewidth": 9}):
        assert trajectories_figure(compared(tmp_path)).svg == plain
        assert mpl.rcParams["font.size"] == 30


def test_nothing_is_cut_off_at_the_edges(tmp_path):
    make_demo(tmp_path, seeds=(0, 1, 2), mitigations=((), ("prompt", "augment")))
    pixels = np.asarray(Image.open(io.BytesIO(trajectories_figure(compared(tmp_path)).png)).convert("L"))
    assert pixels.std() > 10
    for edge in (pixels[:3], pixels[-3:], pixels[:, :3], pixels[:, -3:]):
        assert edge.min() == 255


def drawn(runs_dir, monkeypatch):
    """Return the figure's axes instead of its files."""
    monkeypatch.setattr(drawing, "render", lambda one: one)
    return trajectories_figure(compared(runs_dir)).axes


def test_lines_bands_and_reference_are_where_the_data_are(tmp_path, monkeypatch):
    make_demo(tmp_path, seeds=(0, 1, 2), generations=10)
    axes = drawn(tmp_path, monkeypatch)
    (condition,) = compared(tmp_path)
    lines = {line.get_label(): line.get_ydata() for line in axes[0].get_lines()}
    for level in condition.levels:
        means = np.mean([cell.values(NET) for cell in condition.at(level)], axis=0)
        assert list(lines[f"initial bias {level:g} (3 seeds)"]) == pytest.approx(means)
    found = condition.settling(NET).equilibrium.line
    assert condition.settling(NET).equilibrium.verdict == "equilibrium"
    assert set(lines["resting level $B^*$"]) == {found.level.value}
    bands = {patch.get_label(): patch.get_window_extent() for patch in axes[0].patches}
    to_data = axes[0].transData.inverted().transform
    paper = to_data(bands["reported for Gemma-2-2b-it: 0.11–0.13"])
    assert [paper[0][1], paper[1][1]] == pytest.approx([0.11, 0.13])
    rest = to_data(bands["95% interval of $B^*$"])
    assert [rest[0][1], rest[1][1]] == pytest.approx([found.level.low, found.level.high])
    assert axes[0].get_ylabel() == "Net stereotype rate $B$"
    assert {one.get_xlabel() for one in axes} == {"Generation"}


def test_without_a_verdict_of_equilibrium_no_resting_level_is_drawn(tmp_path, monkeypatch):
    make_demo(tmp_path, seeds=(0, 1, 2))
    assert compared(tmp_path)[0].settling(NET).equilibrium.line.level.bounded
    axes = drawn(tmp_path, monkeypatch)[0]
    drawings = [*axes.get_lines(), *axes.patches]
    assert not any("B^*" in one.get_label() for one in drawings)
    assert "undecided" in [text.get_text() for text in axes.texts]


def test_levels_differ_in_colour_line_and_marker(tmp_path, monkeypatch):
    make_demo(tmp_path)
    lines = [line for line in drawn(tmp_path, monkeypatch)[0].get_lines() if line.get_label().startswith("initial")]
    for look in ("get_color", "get_linestyle", "get_marker"):
        assert len({getattr(line, look)() for line in lines}) == 3


@pytest.mark.parametrize("levels", [(0.3,), (0.1, 0.6)])
def test_few_cells_and_missing_values_are_drawn_without_a_band_that_is_not_known(tmp_path, levels):
    for level in levels:
        make_cell(tmp_path, level=level, generations=1, drop=("rule/gendered_share",))
    assert trajectories_figure(compared(tmp_path)).png.startswith(b"\x89PNG")


def test_without_conditions_there_is_nothing_to_draw():
    with pytest.raises(ValueError, match="nothing to draw"):
        trajectories_figure([])


def test_the_mean_over_seeds_has_students_interval_from_three_on(tmp_path):
    make_demo(tmp_path, seeds=(0, 1, 2))
    cells = compared(tmp_path)[0].at(0.6)
    values = np.array([cell.get(NET, 3).value for cell in cells])
    mean = level_mean(cells, NET, 3)
    assert mean.value == pytest.approx(values.mean())
    assert mean.high - mean.value == pytest.approx(4.302653 * values.std(ddof=1) / np.sqrt(3), rel=1e-6)
    assert np.isnan(level_mean(cells[:2], NET, 3).low)
    assert level_mean(cells[:1], NET, 3) == cells[0].get(NET, 3)


@pytest.mark.parametrize("mitigations", [((), ("augment",)), ((), ("augment",), ("prompt",), ("contrastive",))])
@pytest.mark.parametrize("mitigated", [False, True])
def test_no_figure_of_a_grid_is_cut_off_however_small_the_grid(tmp_path, mitigations, mitigated):
    make_demo(tmp_path, seeds=(0, 1), mitigations=mitigations, mitigated=mitigated)
    make_cell(tmp_path, level=0.1, seed=2)  # an unfinished sweep has more seeds in one panel than in another
    (comparison,) = comparisons(conditions(read_runs(tmp_path).cells))
    figures = strategy_figures(comparison)
    assert len(figures) >= 2
    for figure in figures:
        pixels = np.asarray(Image.open(io.BytesIO(figure.drawing.png)).convert("L"))
        for edge in (pixels[:3], pixels[-3:], pixels[:, :3], pixels[:, -3:]):
            assert edge.min() == 255, figure.name


def in_paper_style(runs_dir):
    """Draw every figure of a grid for a paper; yields its name and the drawing, or the canvas if `render` gives it."""
    (comparison,) = comparisons(conditions(read_runs(runs_dir).cells))
    with styled(STYLES["paper"]):
        yield from ((figure.name, figure.drawing) for figure in strategy_figures(comparison))
        yield "alone", trajectories_figure(comparison.conditions[:1])


@pytest.fixture(scope="module")
def grid_of_four(tmp_path_factory):
    runs_dir = tmp_path_factory.mktemp("grid")
    mitigations = ((), ("augment", "prompt"), ("prompt",), ("contrastive",))
    make_demo(runs_dir, seeds=(0, 1), mitigations=mitigations, mitigated=True)
    return runs_dir


def test_figures_of_a_paper_have_its_width_and_letters_that_can_be_read(grid_of_four, monkeypatch):
    monkeypatch.setattr(drawing, "render", lambda canvas: canvas)
    for name, canvas in in_paper_style(grid_of_four):
        assert canvas.get_size_inches()[0] == 5.5, name
        texts = [text for text in canvas.findobj(Text) if text.get_visible() and text.get_text().strip()]
        assert min(text.get_fontsize() for text in texts) >= 7, name


def test_figures_of_a_paper_are_whole_and_their_fonts_are_embedded(grid_of_four):
    for name, one in in_paper_style(grid_of_four):
        pixels = np.asarray(Image.open(io.BytesIO(one.png)).convert("L"))
        for edge in (pixels[:3], pixels[-3:], pixels[:, :3], pixels[:, -3:]):
            assert edge.min() == 255, name
        assert b"/FontFile2" in one.pdf
        assert b"/Type3" not in one.pdf
        assert b"CreationDate" not in one.pdf


def test_without_a_style_there_is_no_pdf(grid_of_four):
    assert trajectories_figure(compared(grid_of_four)[:1]).pdf == b""


@pytest.mark.parametrize(
    ("seeds", "says"),
    [
        ((0,), "Lines: initial levels; bands: 95% intervals over the sentences of a single cell"),
        ((0, 1), "Lines: means over the seeds of an initial level; too few seeds for intervals."),
        ((0, 1, 2), "bands: 95% intervals over seeds (Student's t)."),
    ],
)
def test_captions_say_which_intervals_are_drawn(tmp_path, seeds, says):
    make_demo(tmp_path, seeds=seeds)
    assert says in bands_in_words(compared(tmp_path))


def test_the_caption_of_reductions_says_what_it_has(tmp_path):
    make_demo(tmp_path, seeds=(0,), mitigations=((), ("contrastive",)))
    (comparison,) = comparisons(compared(tmp_path))
    caption = next(one.caption for one in strategy_figures(comparison) if one.name == "reductions")
    assert ("with 95% intervals" in caption) == any(one.reduction.bounded for one in comparison.reductions if one.last)
    assert "stars: what the paper reports for contrastive augmentation" in caption
