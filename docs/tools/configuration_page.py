"""Write docs/configuration.md: every configuration key, from the schemas and from conf/.

`make docs` runs it. The page depends on the code and on conf/ alone: a test compares it with the committed one.
"""

import argparse
import importlib
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args

import yaml
from omegaconf import OmegaConf
from pydantic.fields import FieldInfo

from fairloop.benchmarks.registry import benchmarks
from fairloop.benchmarks.settings import BenchmarkSettings
from fairloop.composition import CONFIG_NAME, compose_config, composer, conf_dir
from fairloop.config import Configuration
from fairloop.config.study import studies
from fairloop.debias.registry import methods, settings_class
from fairloop.debias.settings import PairMethodSettings
from fairloop.metrics.registry import metrics
from fairloop.mitigation.compose import strategies
from fairloop.settings import Settings, allowed
from fairloop.training.settings import BudgetSettings

PAGE = Path(__file__).parents[1] / "configuration.md"

INTRODUCTION = """\
# Configuration reference

<!-- Written by `make docs` from the schemas in src/fairloop and from conf/. Do not edit: a test compares. -->

A *group* is a folder in `conf/`, an *option* is a file in it: `plm=bert_base` chooses one. A *key* is a value:
`study.sentences=500` sets one. Any number of both can stand on one command line, in any order. `-m` makes a sweep of
values with commas: `fairloop -m seed=0,1,2`. An experiment (`experiment=demo`) is a file that sets several at once.

The tables are generated from the schemas that check every command. Columns:

- **Default**: what holds if you say nothing, with the option that the table is about.
- **Allowed**: anything else ends the command with one line and exit status 2, before a model is loaded.
- **Decides**: *yes* if the value is part of the cell's name, which is a hash. Two runs that differ in such a key are
  two cells; two runs that differ only in the others are the same cell. *weights*: not the path counts but the weights
  it leads to. *contents*: not the path counts but what is in the file or folder.

A key decides a result only in studies that read its group:

{deciding}

Environment variables: `FAIRLOOP_CACHE` (converted models and benchmark data; default `~/.cache/fairloop`), `HF_TOKEN`
(for models whose terms have to be accepted), `WANDB_API_KEY` and the other variables of `wandb`.
`FAIRLOOP_BENCHMARK_DATA` tells tests and `make bench` where benchmark data lies, `FAIRLOOP_VLLM_PYTHON` which Python
has vLLM. `OMP_WAIT_POLICY` says what a thread does that waits for others: if you have set nothing, Fairloop sets
`PASSIVE` and `GOMP_SPINCOUNT=30000`, by which it soon sleeps. With `ACTIVE` it holds its core, and beside any other
computation everything gets slower many times over ([speed](speed.md)).
"""

PATHS = ("model.path", "model.revision", "plm.path", "plm.revision", "study.encoder")
"""Keys that lead to weights, whose fingerprint decides the result in their place."""
FILES = ("study.neutral", "study.held_out_neutral", "study.data", "benchmark.data")
"""Keys that lead to files, whose digest decides the result in their place."""


@dataclass(frozen=True)
class Row:
    """One key of a table."""

    key: str
    default: str
    allowed: str
    meaning: str
    decides: str

    @property
    def text(self) -> str:
        """The row in Markdown."""
        cells = (f"`{self.key}`", self.default, self.allowed, self.meaning, self.decides)
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def page() -> str:
    """Return the whole page."""
    with composer():
        parts = [
            INTRODUCTION.format(deciding=_deciding()),
            *_top_level(),
            *_studies(),
            *_one_schema("model", "The generator: which language model writes, and how it samples."),
            *_one_schema("initial_bias", "The bias of the seed corpus."),
            *_mitigations(),
            *_metrics(),
            *_one_schema("plm", "The pre-trained language model that is measured or debiased."),
            *_benchmarks(),
            *_methods(),
            *_one_schema("trainer", "Where and how training runs."),
            *_one_schema("tracking", "Weights & Biases."),
            *_other_groups(),
        ]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def _deciding() -> str:
    read = {name: ("study", *study.reads, "seed") for name, study in sorted(studies().items())}
    lines = [f"| `{study}` | {', '.join(f'`{group}`' for group in groups)} |" for study, groups in read.items()]
    return "\n".join(["| study | what decides its results |", "| --- | --- |", *lines])


# --- one section for each group -------------------------------------------------------------------------------------


def _top_level() -> Iterator[str]:
    values = _composed()
    own = {
        name: field for name, field in Configuration.model_fields.items() if not isinstance(values.get(name), Mapping)
    }
    yield "## Without a group\n"
    yield _table(_rows(Configuration, own, "", values))


def _studies() -> Iterator[str]:
    yield "## `study`: what one run does\n"
    yield _options("study")
    schemas = {get_args(schema.model_fields["name"].annotation)[0]: schema for schema in _union("study")}
    for name in sorted(schemas):
        fields = _without_name(schemas[name])
        if fields:
            yield f"### `study={name}`\n"
            yield _table(_rows(schemas[name], fields, "study.", _composed(f"study={name}")["study"]))


def _one_schema(group: str, about: str) -> Iterator[str]:
    """Write a group whose options have the same keys: one table, and what each option sets otherwise.

    Where options are of two kinds (a generator in the process or behind a server) there is a table for each.
    """
    yield f"## `{group}`\n"
    yield f"{about}\n"
    yield _options(group, differing=True)
    kinds = _kinds(group)
    for schema, options in kinds.items():
        if len(kinds) > 1:
            yield f"Keys of {', '.join(f'`{option}`' for option in sorted(options))} (default: of `{options[0]}`):\n"
        yield _table(_rows(schema, schema.model_fields, f"{group}.", _composed(f"{group}={options[0]}")[group]))


def _kinds(group: str) -> dict[type[Settings], list[str]]:
    """Return a group's options by their schema, the one to compare the others with first."""
    default = _default_option(group)
    options = sorted((file.stem for file in (conf_dir() / group).glob("*.yaml")), key=lambda option: option != default)
    kinds: dict[type[Settings], list[str]] = {schema: [] for schema in _union(group)}
    for option in options:
        keys = set(_composed(f"{group}={option}")[group])
        kinds[next(schema for schema in kinds if keys <= set(schema.model_fields))].append(option)
    return kinds


def _mitigations() -> Iterator[str]:
    yield "## `mitigation`: what is done against bias inside the recursion\n"
    yield "Several at once: `mitigation=[augment,finetune]`.\n"
    yield _options("mitigation")
    for name in strategies():
        schema = importlib.import_module(f"fairloop.mitigation.{name}").StrategySettings
        if schema.model_fields:
            yield f"### `mitigation={name}`\n"
            values = _composed(f"mitigation={name}")["mitigation"][name]
            yield _table(_rows(schema, schema.model_fields, f"mitigation.{name}.", values))


def _metrics() -> Iterator[str]:
    yield "## `metric`: settings of the metrics of a corpus\n"
    yield "`study.metrics` says which are measured; several with settings at once: `metric=[one,another]`.\n"
    yield _options("metric")
    for name, metric in metrics().items():
        if metric.settings is not None:
            yield f"### `metric={name}`\n"
            values = _composed(f"metric={name}")["metric"][name]
            yield _table(_rows(metric.settings, metric.settings.model_fields, f"metric.{name}.", values))


def _benchmarks() -> Iterator[str]:
    yield "## `benchmark`: a published measure of a PLM\n"
    yield _options("benchmark")
    yield "Every benchmark has these keys:\n"
    values = _composed()["benchmark"]
    yield _table(_rows(BenchmarkSettings, _without_name(BenchmarkSettings), "benchmark.", values))
    for name in sorted(benchmarks()):
        schema = benchmarks()[name].settings
        yield from _own_keys("benchmark", name, schema, (BenchmarkSettings,))


def _methods() -> Iterator[str]:
    yield "## `debias`: what is done to a PLM\n"
    yield _options("debias")
    values = _composed("study=fair_gender", "debias=fair_gender")["debias"]
    shared = {
        "Methods that learn from pairs (where they come from, how they are screened):": PairMethodSettings,
        "Methods that train weights (the same budget for all):": BudgetSettings,
    }
    for title, schema in shared.items():
        yield f"{title}\n"
        yield _table(_rows(schema, _without_name(schema), "debias.", values))
    for name in methods():
        schema = settings_class(name)
        yield from _own_keys("debias", name, schema, tuple(shared.values()))


def _own_keys(group: str, name: str, schema: type[Settings], shared: Sequence[type[Settings]]) -> Iterator[str]:
    """Write what an option has beside the keys that it shares with others."""
    inherited = [base for base in shared if issubclass(schema, base)]
    own = {
        key: field
        for key, field in _without_name(schema).items()
        if not any(key in base.model_fields and allowed(base, key) == allowed(schema, key) for base in inherited)
    }
    if not own and group == "benchmark":
        return
    yield f"### `{group}={name}`\n"
    if group == "debias":
        kinds = {PairMethodSettings: "pairs", BudgetSettings: "budget"}
        takes = " and ".join(kinds[base] for base in inherited if base in kinds)
        yield f"Also has the keys of the {takes} above.\n" if takes else "Has no keys of pairs or budget.\n"
    if own:
        choice = [f"{group}={name}", *(["study=fair_gender"] if group == "debias" else [])]
        yield _table(_rows(schema, own, f"{group}.", _composed(*choice)[group]))


def _other_groups() -> Iterator[str]:
    """List the groups without a schema of ours: experiments, and Hydra's own."""
    known = set(Configuration.model_fields)
    for folder in sorted(path for path in conf_dir().rglob("*") if path.is_dir()):
        group = folder.relative_to(conf_dir()).as_posix()
        if group.split("/")[0] not in known and any(folder.glob("*.yaml")):
            yield f"## `{group}`\n"
            yield _options(group)


# --- tables ---------------------------------------------------------------------------------------------------------


def _table(rows: Sequence[Row]) -> str:
    head = ["| Key | Default | Allowed | Meaning | Decides |", "| --- | --- | --- | --- | --- |"]
    return "\n".join([*head, *(row.text for row in rows)]) + "\n"


def _rows(
    schema: type[Settings],
    fields: Mapping[str, FieldInfo],
    prefix: str,
    values: Mapping[str, Any],
    incidental: bool = False,
) -> list[Row]:
    """Return the rows of some fields, with those of the groups of keys inside them."""
    rows = []
    for name, field in fields.items():
        key, value = f"{prefix}{name}", values.get(name)
        aside = incidental or _is_marked(field, "incidental")
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, Settings):
            rows += _rows(inner, inner.model_fields, f"{key}.", value or {}, aside)
        else:
            meaning = field.description or ""
            words = allowed(schema, name).removesuffix(f" ({meaning})")
            rows.append(Row(key, _shown(value), words, meaning, _decides(key, field, aside)))
    return rows


def _decides(key: str, field: FieldInfo, incidental: bool) -> str:
    if key in PATHS:
        return "weights"
    if key in FILES or _is_marked(field, "by_contents"):
        return "contents"
    return "no" if incidental else "yes"


def _options(group: str, *, differing: bool = False) -> str:
    """Return the table of a group's options: what each is and, if asked for, what it sets unlike the default."""
    folder = conf_dir() / group
    files = sorted(folder.glob("*.yaml"))
    headers = {file.stem: _header(file) for file in files}
    times = Counter(line for lines in headers.values() for line in lines)
    default = _default_option(group)
    head = ["| Option | What it is |", "| --- | --- |"]
    if differing:
        head = ["| Option | What it is | Sets, unlike the default |", "| --- | --- | --- |"]
    rows = []
    for option, lines in headers.items():
        about = " ".join(line for line in lines if times[line] == 1).replace("|", "\\|")
        mark = " (default)" if option == default else ""
        row = f"| `{option}`{mark} | {about} |"
        if differing:
            row += f" {_differences(group, option)} |"
        rows.append(row)
    return "\n".join([*head, *rows]) + "\n"


def _header(file: Path) -> list[str]:
    """Return the comment lines with which an option's file begins."""
    lines = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            lines.append(line.removeprefix("#").strip())
    return lines


def _differences(group: str, option: str) -> str:
    usual_option = next(options[0] for options in _kinds(group).values() if option in options)
    usual, chosen = _composed(f"{group}={usual_option}")[group], _composed(f"{group}={option}")[group]
    if usual_option not in (option, _default_option(group)):
        return f"as `{usual_option}`, but " + _listed(usual, chosen)
    return _listed(usual, chosen)


def _listed(usual: Mapping[str, Any], chosen: Mapping[str, Any]) -> str:
    changed = [key for key in chosen if key != "name" and chosen[key] != usual.get(key)]
    return ", ".join(f"`{key}={_plain(chosen[key])}`" for key in changed)


def _default_option(group: str) -> str | None:
    defaults = yaml.safe_load((conf_dir() / f"{CONFIG_NAME}.yaml").read_text(encoding="utf-8"))["defaults"]
    return next((item[group] for item in defaults if isinstance(item, dict) and group in item), None)


@cache
def _composed(*choices: str) -> dict[str, Any]:
    composed = OmegaConf.to_container(compose_config(choices), resolve=True)
    assert isinstance(composed, dict)  # noqa: S101 - a configuration has a mapping at its top
    return {str(key): value for key, value in composed.items()}


def _union(group: str) -> list[type[Settings]]:
    """Return the schemas among which a group of the configuration chooses."""
    annotation = Configuration.model_fields[group].annotation
    found = [annotation] if isinstance(annotation, type) else list(get_args(annotation))
    return [schema for schema in found if isinstance(schema, type) and issubclass(schema, Settings)]


def _without_name(schema: type[Settings]) -> dict[str, FieldInfo]:
    return {name: field for name, field in schema.model_fields.items() if name != "name"}


def _is_marked(field: FieldInfo, mark: str) -> bool:
    """Tell whether a field was declared with `settings.incidental` or `settings.by_contents`."""
    extra = field.json_schema_extra
    return isinstance(extra, dict) and bool(extra.get(mark))


def _shown(value: Any) -> str:
    text = _plain(value)
    return f"`{text}`" if len(text) <= 60 else f"`{text[:57]}…`"


def _plain(value: Any) -> str:
    """Return a value as it stands on a command line."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def main() -> int:
    """Write the page, or with --check say whether the committed one is up to date; return the exit status."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing: fail if the page is not up to date")
    options = parser.parse_args()
    written = page()
    if not options.check:
        PAGE.write_text(written, encoding="utf-8")
    elif not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != written:
        sys.stderr.write(f"{PAGE.name} is not up to date: run `make docs`\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
