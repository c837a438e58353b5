"""Every command in the documents is right, and the checker that says so can tell a wrong one."""

from pathlib import Path

import commands
import pytest
from check_commands import SMALL, trial
from commands import Command, broken_links, commands_in, documents, plan, problem

from fairloop.config import Configuration


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(commands.ROOT)))
def test_every_command_and_link_of_a_document_is_right(document):
    wrong = {str(command): found for command in commands_in(document) if (found := problem(command))}
    assert not wrong
    assert not broken_links(document)


def test_the_readme_shows_commands():
    found = commands_in(commands.ROOT / "README.md")
    assert len([command for command in found if command.words[0] == "fairloop"]) >= 10


# --- the checker itself -----------------------------------------------------------------------------------------------

WRONG = {
    "unknown key": ("fairloop study.sentenses=5", "study.sentences"),
    "unknown option": ("fairloop plm=bert_bass", "bert_base"),
    "unknown group": ("fairloop modle=gemma_3_270m", "model"),
    "value out of range": ("fairloop initial_bias.level=1.5", "at most 1"),
    "key of another method": ("fairloop study=fair_gender debias=cda debias.alignment.rank=5", "debias.alignment"),
    "one wrong cell of a sweep": ("fairloop -m seed=0,1 initial_bias.level=0.1,3", "at most 1"),
    "sweep without -m": ("fairloop seed=0,1", "-m"),
    "wrong key after python -m": ("python -m fairloop seed=-1", "at least 0"),
    "unknown flag": ("fairloop --quickly", "unknown flag"),
    "unknown make target": ("make demos", "no target demos"),
    "unknown argument": ("fairloop-report runs --cells 3f2a --html", "--html"),
    "missing argument": ("fairloop-pairs", "PATH"),
    "unknown extra": ("pip install 'fairloop[embeded]'", "embeded"),
    "missing script": ("python experiments/nowhere/train.py --work W", "experiments/nowhere/train.py"),
    "second command of a line": ("make test && fairloop seed=-1", "at least 0"),
    "behind a variable": ("WANDB_MODE=offline fairloop seed=-1", "at least 0"),
    "over two lines": ("fairloop -m \\\n    seed=0,-1", "at least 0"),
}


def document(tmp_path, text):
    path = tmp_path / "page.md"
    path.write_text(text)
    return commands_in(path, tmp_path)


@pytest.mark.parametrize(("line", "named"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_command_is_found(tmp_path, line, named):
    found = document(tmp_path, f"Text.\n\n```bash\n{line}  # comment\n```\n")
    assert named in "".join(problem(command) for command in found)
    indented = line.replace("\n", "\n    ")
    assert document(tmp_path, f"Text.\n\n    {indented}\n\nText.\n")[-1].words == found[-1].words


def test_a_right_command_is_right(tmp_path):
    lines = ["fairloop -m seed=0,1 'mitigation=none,[augment,finetune]'", "make test", "python -m fairloop --help"]
    found = document(tmp_path, "```\n" + "\n".join(lines) + "\n```\n")
    assert [problem(command) for command in found] == ["", "", ""]


def test_what_is_no_command_is_left_alone(tmp_path):
    text = "* A list that\n    fairloop bad=key\n\n```yaml\nfairloop: bad\n```\n\n```\n$ ls\nseed=0\n```\n"
    assert document(tmp_path, text) == []


def test_a_command_within_a_sentence_is_checked(tmp_path):
    text = (
        "Run `make demo`, or `fairloop seed=-1`; `fairloop-report` is a name.\n\n"
        "| `fairloop study=x` | `fairloop a=…`, `fairloop.plm`, ``fairloop b=1`` |\n"
    )
    found = document(tmp_path, text)
    assert [(command.place, command.words[1]) for command in found] == [
        ("page.md:1", "demo"),
        ("page.md:1", "seed=-1"),
        ("page.md:3", "study=x"),
    ]
    assert [bool(problem(command)) for command in found] == [False, True, True]
    assert trial(found[0], tmp_path).reason


def test_the_answer_to_a_mistake_is_compared(tmp_path):
    (command,) = document(tmp_path, "```\n$ fairloop seed=-1\nfairloop: seed=-1: something else\n```\n")
    said = problem(command)
    assert said.startswith("fairloop: seed=-1: allowed is")
    (right,) = document(tmp_path, f"```\n$ fairloop seed=-1\n{said}\n```\n")
    assert problem(right) == ""
    (harmless,) = document(tmp_path, f"```\n$ fairloop seed=1\n{said}\n```\n")
    assert "none" in problem(harmless)


def test_a_marker_speaks_for_its_block_alone(tmp_path):
    text = "<!-- docs-check: skip: yours -->\n```\nfairloop debias=mine\n```\n\n```\nfairloop debias=mine\n```\n"
    first, second = document(tmp_path, text)
    assert (first.marker, first.reason, second.marker) == ("skip", "yours", "")
    assert problem(first) == ""
    assert problem(second) != ""


def test_a_named_file_is_taken_to_be_there(tmp_path):
    (command,) = document(
        tmp_path, "```\nfairloop study=fair_gender debias.source=swap debias.swap_file=my/sentences.txt\n```\n"
    )
    assert problem(command) == ""
    assert trial(command, tmp_path).reason == "reads a file of yours"


def test_a_sweep_is_validated_in_all_its_values():
    planned = plan(["-m", "initial_bias=low,medium,high", "mitigation=none,prompt", "seed=0,1,2"])
    assert len(planned.lines) == 18
    cells = planned.cells
    assert len(cells) < 18
    assert {cell.initial_bias.level for cell in cells} == {0.1, 0.3, 0.6}
    assert {cell.strategies for cell in cells} == {"none", "prompt"}
    assert {cell.seed for cell in cells} == {0, 1, 2}


RUNNABLE = {
    "fairloop": "study.sentences=16",
    "fairloop -m mitigation=none,prompt": "study.sentences=16",
    "fairloop experiment=equilibrium": "hydra.mode=RUN",
    "fairloop study=evaluate plm=minilm benchmark=lpbs": "benchmark.resamples=100",
    "fairloop study=fair_gender debias=inlp debias.source=template": "debias.classifiers=2",
    "fairloop -m hydra/launcher=fairloop_submitit seed=0,1": "study.sentences=16",
    "fairloop --help": "--help",
}
NOT_HERE = {
    "fairloop model=gemma_2_2b_it": "google/gemma-2-2b-it",
    "fairloop trainer=gpu": "trainer=gpu",
    "fairloop model=gemma_2_2b_it_vllm": "a server at",
    "fairloop -m hydra/launcher=fairloop_slurm seed=0,1": "SlurmLauncher",
    "fairloop study=evaluate plm=minilm benchmark=seat": "data of seat",
    "fairloop-report runs": "no runs was run",
    "make bench": "measures time",
}


@pytest.mark.parametrize("line", RUNNABLE)
def test_what_can_be_run_is_run_with_small_numbers(tmp_path, line):
    chosen = trial(Command("page", tuple(line.split())), tmp_path)
    assert not chosen.reason
    assert RUNNABLE[line] in chosen.words
    if "--help" not in line:
        assert "tracking.mode=none" in chosen.words
        assert all(isinstance(cell, Configuration) for cell in plan(chosen.words).cells)


@pytest.mark.parametrize("line", NOT_HERE)
def test_what_needs_more_than_a_processor_is_validated_and_says_why(tmp_path, line):
    chosen = trial(Command("page", tuple(line.split())), tmp_path)
    assert NOT_HERE[line] in chosen.reason
    assert not chosen.words


def test_a_report_is_run_on_the_runs_there_are(tmp_path):
    cell = tmp_path / "runs" / "recursion" / "3c0ffee"
    cell.mkdir(parents=True)
    (cell / "status.json").touch()
    chosen = trial(Command("page", ("fairloop-report", "runs", "--cell", "3f2a")), tmp_path)
    assert chosen.words == ("fairloop-report", "runs", "--cell", "3c0ffee")
    chosen = trial(Command("page", ("fairloop-pairs", "runs/recursion/<cell>")), tmp_path)
    assert chosen.words == ("fairloop-pairs", str(Path("runs/recursion/3c0ffee")))


def test_every_study_has_small_numbers():
    from fairloop.config.study import studies

    assert set(SMALL) == set(studies())
