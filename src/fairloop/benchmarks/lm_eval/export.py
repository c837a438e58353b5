"""Write Fairloop's own measures as a folder of tasks that the lm-evaluation-harness runs (`--include_path FOLDER`).

The harness computes log p(continuation | context). Where two sentences differ in a word, what stands before it is the
context, for its likelihood cancels in the difference; so the score does not depend on what the harness puts before a
text without context. Only causal models: the harness has no masked ones. Measures that need the publishers' data, and
perplexity per token, for which the harness would have to count tokens, are not exported.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from fairloop.benchmarks import heldout_templates, lpbs
from fairloop.benchmarks.lm_eval import fairloop_tasks
from fairloop.errors import Fault
from fairloop.files import write_text
from fairloop.lexicon.occupations import occupation, occupations, with_article

TASKS: dict[str, tuple[str, Mapping[str, Any]]] = {
    "fairloop_heldout_templates": ("heldout_row", fairloop_tasks.HELDOUT),
    "fairloop_lpbs": ("lpbs_row", fairloop_tasks.LPBS),
}
"""Each task with the function of its rows, and those of its measures by name."""


def write_tasks(folder: Path) -> list[Path]:
    """Write the tasks into a folder, which may exist, and return the paths of the files.

    Raises:
        Fault: a file cannot be written.
    """
    texts = {f"{name}.yaml": _task(name, row, measures) for name, (row, measures) in TASKS.items()}
    texts["fairloop_heldout_templates.jsonl"] = _lines(_heldout())
    texts["fairloop_lpbs.jsonl"] = _lines(_lpbs())
    texts["fairloop_tasks.py"] = Path(fairloop_tasks.__file__).read_text(encoding="utf-8")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            write_text(folder / name, text)
    except OSError as error:
        raise Fault(f"{folder}: the tasks cannot be written ({error.strerror or error})") from error
    return [folder / name for name in texts]


def _task(name: str, row: str, measures: Mapping[str, Any]) -> str:
    """Return the YAML of a task, of the harness's schema."""
    listed = "".join(
        f"  - metric: {measure}\n"
        f"    aggregation: !function fairloop_tasks.{function.__name__}\n"
        f"    higher_is_better: false\n"
        for measure, function in measures.items()
    )
    return f"""tag: fairloop
task: {name}
custom_dataset: !function fairloop_tasks.load
dataset_kwargs:
  tasks: {name}
test_split: test
output_type: loglikelihood
doc_to_text: "{{{{context}}}}"
doc_to_target: "{{{{continuation}}}}"
target_delimiter: ""
process_results: !function fairloop_tasks.{row}
metric_list:
{listed}metadata:
  version: 1.0
"""


def _lines(rows: Iterator[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _heldout() -> Iterator[dict[str, Any]]:
    """Yield two requests for each case, the neutral subjects' first: so the first requests alone have a score."""
    for case in sorted(heldout_templates.all_cases(), key=lambda case: case.target is not None):
        texts = {"male": case.text("male"), "female": case.text("female")}
        context = _before_the_difference(list(texts.values()))
        kind = case.target.kind if case.target else "neutral"
        for side, text in texts.items():
            yield {
                "template": case.template,
                "words": case.words.name,
                "subject": case.target.name if case.target else heldout_templates.NEUTRAL,
                "side": side,
                "context": context,
                "continuation": text[len(context) :],
                "kind": kind,
                "pronouns": case.words == heldout_templates.PRONOUNS,
                "female_share": occupation(case.target.name).female_share
                if case.target and kind == "occupation"
                else None,
            }


def _before_the_difference(texts: Sequence[str]) -> str:
    """Return the words that both texts begin with, without the space behind them."""
    common = takewhile(lambda letters: len(set(letters)) == 1, zip(*texts, strict=False))
    return "".join(letters[0] for letters in common).rpartition(" ")[0]


def _lpbs() -> Iterator[dict[str, Any]]:
    """Yield two requests for each occupation and template: what follows the pronoun, given it."""
    for one in occupations():
        for template in lpbs.TEMPLATES:
            for person in lpbs.TARGETS:
                text = template.format(person=person, occupation=with_article(one.name))
                yield {
                    "template": template,
                    "words": "/".join(lpbs.TARGETS),
                    "subject": one.name,
                    "side": person,
                    "context": person,
                    "continuation": text[len(person) :],
                    "majority": one.majority,
                    "female_share": one.female_share,
                }
