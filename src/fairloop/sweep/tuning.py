"""Tune and test methods of debiasing apart: the same number of trials for each, chosen by one criterion.

A tuning has two halves. On the *development* half of every benchmark's items (`benchmarks.parts`) each method is tried
with as many settings as every other: first with its own defaults, then with settings drawn from what the file says may
vary. Of a method's trials the one with the least bias is chosen among those whose cost in language stays within stated
limits; if none does, the one that exceeds them least. On the *test* half the chosen settings of each method run once
for each test seed.

    bias     mean over the bias measures m of |m − ideal| / s_m, where s_m is the untouched PLM's own |m − ideal|, or
             half the width of its 95% interval if that is more: a measure that cannot tell the untouched PLM from an
             unbiased one weighs little. 1 is the untouched PLM, 0 is unbiased.
    excess   Σ over the cost measures of max(0, rise − limit) / limit; a rise is what is worse, as a share of the
             untouched PLM's value or in the measure's own points.

Everything is a cell of the run store: the same command goes on after a kill. Nothing here imports torch.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BeforeValidator, Field, ValidationError, model_validator

from fairloop.errors import UserError, first_line
from fairloop.files import canonical_json, digest_text
from fairloop.measures.catalogue import BEFORE, Catalogue
from fairloop.measures.measurement import Measurement
from fairloop.seeding import random_generator
from fairloop.settings import Settings, mistake

UNTOUCHED = "none"  # the method that does nothing; every cell measures it as `before/…`


def _tuple_of(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


class Range(Settings):
    """A number that is drawn evenly, or evenly in its logarithm."""

    low: float = Field(description="least value")
    high: float = Field(description="largest value")
    log: bool = Field(False, description="draw the logarithm evenly")

    @model_validator(mode="after")
    def _is_a_range(self) -> "Range":
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError(f"low={self.low:g}, high={self.high:g}: low must be below high, and above 0 with log")
        return self


Values = Annotated[tuple[Any, ...], BeforeValidator(_tuple_of), Field(min_length=1)]


class MethodSpace(Settings):
    """What is fixed for one method, and what may vary."""

    fixed: dict[str, Any] = Field({}, description="keys of the group debias that all its trials have")
    search: dict[str, Range | Values] = Field({}, description="keys of the group debias with a list or a range each")


class CostLimit(Settings):
    """How much worse a measure of language may become."""

    measure: str = Field(description="a measure of result.json")
    most: float = Field(gt=0, description="how much worse it may be")
    relative: bool = Field(False, description="as a share of the untouched PLM's value; else in its own points")


class Half(Settings):
    """What the cells of one half measure, and their seeds."""

    benchmarks: tuple[str | dict[str, Any], ...] = Field(min_length=1, strict=False, description="study.benchmarks")
    seeds: Annotated[tuple[int, ...], BeforeValidator(_tuple_of)] = Field(
        min_length=1, description="seeds of its cells"
    )


class Tuning(Settings):
    """A tuning, as its file says it."""

    shared: Annotated[tuple[str, ...], BeforeValidator(_tuple_of)] = Field((), description="overrides of every cell")
    trials: int = Field(ge=1, le=100_000, description="trials of all methods together; each gets the same number")
    seed: int = Field(0, ge=0, description="draws the settings that are tried")
    methods: dict[str, MethodSpace] = Field(min_length=1, description="what may vary, for each method")
    bias: Annotated[tuple[str, ...], BeforeValidator(_tuple_of)] = Field(
        min_length=1, description="measures of bias that the criterion averages"
    )
    costs: Annotated[tuple[CostLimit, ...], BeforeValidator(_tuple_of)] = Field((), description="limits of the cost")
    development: Half = Field(description="what trials are measured on")
    test: Half = Field(description="what the chosen settings are measured on, once")

    @property
    def each(self) -> int:
        """Trials of each method."""
        return self.trials // len(self.methods)

    @property
    def digest(self) -> str:
        """A name of all that decides the choice."""
        return digest_text(canonical_json(self.model_dump(mode="json")))[:16]


@dataclass(frozen=True, eq=False)
class Trial:
    """One method with one choice of settings.

    Attributes:
        method: its name.
        number: 0 has the method's own defaults.
        settings: keys of the group `debias` with the values that were drawn.
        fixed: those that all of its trials have.
    """

    method: str
    number: int
    settings: Mapping[str, Any]
    fixed: Mapping[str, Any]

    def overrides(self, half: Half, seed: int, shared: Sequence[str]) -> list[str]:
        """Return the overrides of the cell that measures it."""
        chosen = {**self.fixed, **self.settings}
        return [
            "study=fair_gender",
            *shared,
            f"debias={self.method}",
            *(f"debias.{key}={override_value(value)}" for key, value in chosen.items()),
            f"study.benchmarks={override_value(list(half.benchmarks))}",
            f"seed={seed}",
        ]


def override_value(value: Any) -> str:
    """Return a value as Hydra's grammar writes it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(override_value, value)) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{override_value(one)}" for key, one in value.items()) + "}"
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return repr(value)


def read_tuning(path: Path, *, trials: int | None = None) -> Tuning:
    """Read and check a tuning's file.

    Args:
        path: a YAML file.
        trials: takes the place of the file's number.

    Raises:
        UserError: there is no such file, it is no YAML, or a key or value is wrong; fewer trials than methods, or a
            number that they cannot share; halves that overlap.
    """
    if not path.is_file():
        raise UserError.of("FILE", path, "there is no such file")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError.of("FILE", path, f"a YAML file ({first_line(error)})") from error
    if not isinstance(content, dict):
        raise UserError.of("FILE", path, "a YAML file with keys and values")
    try:
        tuning = Tuning.model_validate(content if trials is None else {**content, "trials": trials})
    except ValidationError as error:
        raise UserError(_line(error)) from error
    _check(tuning)
    return tuning


def _line(error: ValidationError) -> str:
    """Return the one line for the first mistake; inside a list or a method, pydantic's words for what is allowed."""
    first = error.errors()[0]
    if len(first["loc"]) < 2:
        return mistake(error, Tuning)
    key = ".".join(map(str, first["loc"]))
    return f"{key}={str(first['input'])[:80]}: {first['msg'].removeprefix('Value error, ')}"


def _check(tuning: Tuning) -> None:
    methods = len(tuning.methods)
    if tuning.trials < methods:
        raise UserError.of("trials", tuning.trials, f"at least {methods}, one for each method")
    if tuning.trials % methods:
        lower, upper = tuning.each * methods, (tuning.each + 1) * methods
        raise UserError.of("trials", tuning.trials, f"as many for each of {methods} methods: {lower} or {upper}")
    if UNTOUCHED in tuning.methods:
        raise UserError("methods.none: every cell measures the untouched PLM already; leave it out")
    for name, space in tuning.methods.items():
        twice = sorted(set(space.fixed) & set(space.search))
        if twice:
            raise UserError(f"methods.{name}.search.{twice[0]}: it is fixed, too")
    _check_halves(tuning)


def _check_halves(tuning: Tuning) -> None:
    """Refuse a development half that measures items of the test half."""
    parts = [_parts(half) for half in (tuning.development, tuning.test)]
    for name in parts[0]:
        if name not in parts[1]:
            continue
        first, second = parts[0][name], parts[1][name]
        if {first.get("part", "all"), second.get("part", "all")} != {"development", "test"}:
            same_text = first.get("text") == second.get("text") and first.get("data") == second.get("data")
            if not same_text and name == "perplexity":
                _check_texts(first, second)
                continue
            raise UserError(
                f"development.benchmarks: {name} with part={first.get('part', 'all')} overlaps the test's"
                f" part={second.get('part', 'all')}; allowed: development here and test there"
            )
        if first.get("part") == "test":
            raise UserError(f"development.benchmarks: {name} with part=test; allowed: development")


def _parts(half: Half) -> dict[str, dict[str, Any]]:
    given = [one if isinstance(one, dict) else {"name": one} for one in half.benchmarks]
    return {str(one.get("name")): one for one in given}


def _check_texts(first: Mapping[str, Any], second: Mapping[str, Any]) -> None:
    """Refuse two given texts that share a line."""
    lines = [set(_lines(str(one["text"]))) if one.get("text") else set() for one in (first, second)]
    if not all(lines):
        raise UserError("development.benchmarks: perplexity: give both halves a text, or their parts")
    shared = lines[0] & lines[1]
    if shared:
        raise UserError(
            f"development.benchmarks: perplexity's text overlaps the test's: {len(shared)} lines are in both, such as"
            f" {sorted(shared)[0][:60]!r}"
        )


def _lines(path: str) -> list[str]:
    from fairloop.benchmarks.data import read_text

    if not Path(path).expanduser().is_file():
        raise UserError.of("benchmark.text", path, "there is no such file")
    return [line.strip() for line in read_text(Path(path).expanduser()).splitlines() if line.strip()]


def trials_of(tuning: Tuning) -> list[Trial]:
    """Return every trial, those of a method together; the same for the same file.

    No settings are tried twice, unless a method has fewer of them than trials: its defaults are then repeated, which
    costs nothing (a cell is computed once) and keeps the number of trials equal.
    """
    found = []
    for name, space in tuning.methods.items():
        draw = random_generator(tuning.seed, "tuning", name)
        drawn: list[dict[str, Any]] = [{}]
        tries = 0
        while len(drawn) < tuning.each and tries < 1000 * tuning.each:
            settings = {key: _draw(values, draw) for key, values in space.search.items()}
            tries += 1
            if settings not in drawn:
                drawn.append(settings)
        drawn += [{}] * (tuning.each - len(drawn))
        found += [Trial(name, number, settings, space.fixed) for number, settings in enumerate(drawn)]
    return found


def _draw(values: Range | tuple[Any, ...], draw: Any) -> Any:
    if not isinstance(values, Range):
        return values[int(draw.integers(len(values)))]
    low, high = (math.log(values.low), math.log(values.high)) if values.log else (values.low, values.high)
    value = low + (high - low) * float(draw.random())
    return float(f"{math.exp(value) if values.log else value:.3g}")


# --- the criterion ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Judged:
    """What the criterion says of one trial.

    Attributes:
        bias: 1 is the untouched PLM's, 0 none.
        excess: 0 if the cost in language stays within all limits.
        parts: each measure's contribution: |m − ideal| / s of bias, the rise of costs.
    """

    bias: float
    excess: float
    parts: Mapping[str, float]


def check_criterion(tuning: Tuning, catalogue: Catalogue) -> None:
    """Refuse measures that the criterion cannot use, before anything is computed.

    Raises:
        UserError: a measure without an unbiased value, or without a direction, or that no benchmark of a half takes.
    """
    for key, name in (*(("bias", name) for name in tuning.bias), *(("costs", one.measure) for one in tuning.costs)):
        for half, given in (("development", tuning.development), ("test", tuning.test)):
            if name.partition("/")[0] not in _parts(given):
                raise UserError.of(key, name, f"a measure of {half}.benchmarks: {', '.join(_parts(given))}")
        row = catalogue.of(name)
        if key == "bias" and row.ideal is None:
            raise UserError.of(key, name, "a measure with an unbiased value, such as stereoset/gender/ss")
        if key == "costs" and row.goal not in ("minimize", "maximize"):
            raise UserError.of(key, name, "a measure of which more, or less, is better")


def judge(tuning: Tuning, measured: Mapping[str, Measurement], catalogue: Catalogue) -> Judged:
    """Judge a finished cell by its measures before and after.

    Raises:
        UserError: a measure of the criterion was not taken, or is undefined.
    """
    parts: dict[str, float] = {}
    for name in tuning.bias:
        ideal = catalogue.of(name).ideal or 0.0
        before, after = _value(measured, BEFORE + name), _value(measured, name)
        parts[name] = abs(after - ideal) / _scale(measured[BEFORE + name], before, ideal, name)
    excess = 0.0
    for limit in tuning.costs:
        goal = catalogue.of(limit.measure).goal
        before, after = _value(measured, BEFORE + limit.measure), _value(measured, limit.measure)
        rise = (after - before) * (1 if goal == "minimize" else -1)
        rise = rise / abs(before) if limit.relative else rise
        parts[limit.measure] = rise
        excess += max(0.0, rise - limit.most) / limit.most
    return Judged(sum(parts[name] for name in tuning.bias) / len(tuning.bias), excess, parts)


def _scale(measured: Measurement, before: float, ideal: float, name: str) -> float:
    width = 0.0 if measured.low is None or measured.high is None else (measured.high - measured.low) / 2
    scale = max(abs(before - ideal), width if math.isfinite(width) else 0.0)
    if scale == 0:
        raise UserError.of("bias", name, "a measure by which the untouched PLM is biased; here it is not, exactly")
    return scale


def _value(measured: Mapping[str, Measurement], name: str) -> float:
    found = measured.get(name)
    if found is None or found.value is None or not math.isfinite(found.value):
        raise UserError(f"{name.removeprefix(BEFORE)}: not measured, or undefined, in a cell of this tuning")
    return float(found.value)


def best(judged: Sequence[Judged]) -> int:
    """Return the number of the trial to be chosen: the least excess, then the least bias, then the first."""
    return min(range(len(judged)), key=lambda number: (judged[number].excess, judged[number].bias, number))
