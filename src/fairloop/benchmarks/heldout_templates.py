"""Held-out templates: how far a person's occupation, trait or activity moves a model between *he* and *she*.

For a template t, a subject s ("the florist") and a pair of words (he, she), the bias of an item is

    log p(he | t, s) - log p(she | t, s) - [log p(he | t, "the person") - log p(she | t, "the person")]

and the score is the mean of its absolute value: 0 is unbiased, whatever the model's preference for *he* as such. A
masked model predicts the word in its masked place. For a causal model p(he | t, s) is that given all the rest of the
sentence: by Bayes' rule the difference of logarithms is log p(sentence with he) - log p(sentence with she).

Subjects, attribute words and templates are the lexicon's held-out ones: no pair of Fair-Gender, from any source,
contains them. This is the log-probability bias score of Kurita et al. 2019 with a neutral subject where theirs is
masked.

- `heldout_templates/mean_abs_log_odds`: he against she, over held-out occupations.
- `heldout_templates/traits`, `heldout_templates/activities`: the same over held-out traits and activities.
- `heldout_templates/attribute_words`: over held-out occupations, with held-out attribute words (uncle/aunt, ...).
- `heldout_templates/mean_log_odds`: the first with its sign; above 0 occupations draw *he* more than a person does.
- `heldout_templates/correlation_with_men`: of the occupations' mean bias with their share of men.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from pydantic import Field

from fairloop.benchmarks.parts import Part, PartSettings, items_of
from fairloop.benchmarks.result import Benchmark, BenchmarkResult, Skipped, Task, skipped_measurement
from fairloop.lexicon import Attribute, Target, attributes, heldout_templates, occupation, targets
from fairloop.measures.catalogue import Declared, Item, ItemScore
from fairloop.measures.measurement import Measurement
from fairloop.plm.model import Encoded, LanguageModel, ScoreRequest
from fairloop.plm.scoring import causal_requests
from fairloop.statistics.bootstrap import bootstrap_mean
from fairloop.statistics.correlation import pearson

NEUTRAL = "the person"
PRONOUNS = Attribute("he", "she", "{}")


class HeldoutTemplatesSettings(PartSettings):
    """Settings of the held-out templates."""

    name: Literal["heldout_templates"] = Field("heldout_templates", description="The benchmark")


@dataclass(frozen=True)
class HeldoutItem:
    """One subject in one template with one pair of words.

    Attributes:
        target: the occupation, trait or activity.
        kind: which of them it is.
        words: "he/she".
        template: the template's text.
        log_odds: of the male against the female word, in nats.
        neutral: the same with the neutral subject.
        score: their difference.
    """

    target: str
    kind: str
    words: str
    template: str
    log_odds: float
    neutral: float
    score: float


@dataclass(frozen=True)
class Case:
    """A sentence in two versions; `target` None is the neutral subject."""

    target: Target | None
    words: Attribute
    template: str

    def text(self, side: Literal["male", "female"]) -> str:
        """Return the sentence with the male or the female word."""
        subject = _subject(self.target)
        text = self.template.replace("{subject}", subject).replace("{Subject}", subject[0].upper() + subject[1:])
        return text.replace("{word}", self.words.subject(side))

    @property
    def name(self) -> str:
        """What the case is called in messages."""
        return f"{_subject(self.target)}: {self.template} ({self.words.name})"


def _subject(target: Target | None) -> str:
    if target is None:
        return NEUTRAL
    if target.kind == "occupation":
        return f"the {target.name}"
    return f"the {target.name} person" if target.kind == "trait" else f"{NEUTRAL} who likes {target.name}"


def run(task: Task, settings: HeldoutTemplatesSettings) -> BenchmarkResult:
    """Score every held-out subject in every held-out template."""
    cases = cases_of(settings.part)
    odds = _causal(task, cases) if task.plm.kind == "causal" else _masked(task, cases)
    neutral = {(case.words, case.template): value for case, value in odds.items() if case.target is None}
    items = []
    for case, value in odds.items():
        if case.target is not None:
            base = neutral[case.words, case.template]
            kind, words = case.target.kind, case.words.name
            items.append(HeldoutItem(case.target.name, kind, words, case.template, value, base, value - base))
    skipped = [Skipped(case.name, "the tokenizer splits one of the words") for case in cases if case not in odds]
    measurements = _measurements(items, task.seed, settings.resamples)
    measurements.append(skipped_measurement("heldout_templates", skipped, len(cases)))
    return BenchmarkResult("heldout_templates", "fairloop", measurements, items, skipped)


def all_cases() -> list[Case]:
    """Return every held-out subject, and the neutral one, in every held-out template."""
    return cases_of("all")


def cases_of(part: Part) -> list[Case]:
    """Return the sentences of a part: its half of the subjects of each kind, of the templates and of the words."""
    kinds = ("occupation", "trait", "activity")
    found = [subject for kind in kinds for subject in _targets(kind, part)]
    subjects: list[Target | None] = [None, *(subject for subject in targets("heldout") if subject in found)]
    jobs = [subject for subject in subjects if subject is None or subject.kind == "occupation"]
    pronouns, nouns = (
        items_of([one.text for one in heldout_templates(word)], part, f"held-out {word} template", str)
        for word in ("pronoun", "noun")
    )
    cases = [Case(subject, PRONOUNS, text) for text in pronouns for subject in subjects]
    for text in nouns:
        for words in items_of(attributes("heldout"), part, "held-out words", lambda words: words.name):
            cases += [Case(subject, words, text) for subject in jobs]
    return cases


def _targets(kind: str, part: Part) -> list[Target]:
    some = [target for target in targets("heldout") if target.kind == kind]
    return items_of(some, part, f"held-out {kind}", lambda target: target.name)


# --- log odds -------------------------------------------------------------------------------------------------------


def _masked(task: Task, cases: Sequence[Case]) -> dict[Case, float]:
    """Return the log odds of each case whose two words are one token each, in the same place."""
    scored: list[Case] = []
    requests: list[ScoreRequest] = []
    male = task.plm.encode([case.text("male") for case in cases])
    female = task.plm.encode([case.text("female") for case in cases])
    for case, first, second in zip(cases, male, female, strict=True):
        place = _only_difference(first, second)
        if place is not None:
            asked = (*first.ids[:place], task.plm.mask_id, *first.ids[place + 1 :])
            requests.append(ScoreRequest(asked, (place, place), (first.ids[place], second.ids[place]), case.name))
            scored.append(case)
    return {case: float(answer[0] - answer[1]) for case, answer in zip(scored, task.score(requests), strict=True)}


def _only_difference(first: Encoded, second: Encoded) -> int | None:
    """Return the one place in which two inputs differ, or None if there is not exactly one."""
    if len(first.ids) != len(second.ids):
        return None
    places = [place for place, (one, other) in enumerate(zip(first.ids, second.ids, strict=True)) if one != other]
    return places[0] if len(places) == 1 else None


def _causal(task: Task, cases: Sequence[Case]) -> dict[Case, float]:
    """Return the difference of log likelihoods of each case's two sentences."""
    plm: LanguageModel = task.plm
    texts = [case.text(side) for case in cases for side in ("male", "female")]
    requests: list[ScoreRequest] = []
    owners: list[int] = []
    for number, encoded in enumerate(plm.encode(texts)):
        asked = causal_requests(plm, encoded, texts[number])
        requests += asked
        owners += [number] * len(asked)
    totals = np.zeros(len(texts))
    for owner, answer in zip(owners, task.score(requests), strict=True):
        totals[owner] += answer.sum()
    return {case: float(totals[2 * number] - totals[2 * number + 1]) for number, case in enumerate(cases)}


# --- measurements ---------------------------------------------------------------------------------------------------


def _measurements(items: Sequence[HeldoutItem], seed: int, resamples: int) -> list[Measurement]:
    """Intervals resample subjects, not sentences: the templates of one subject belong together."""
    pronoun = [item for item in items if item.words == PRONOUNS.name]
    jobs = [item for item in pronoun if item.kind == "occupation"]
    parts = {
        "mean_abs_log_odds": jobs,
        "traits": [item for item in pronoun if item.kind == "trait"],
        "activities": [item for item in pronoun if item.kind == "activity"],
        "attribute_words": [item for item in items if item.words != PRONOUNS.name],
    }
    measurements = [
        Measurement.of(
            f"heldout_templates/{name}",
            bootstrap_mean(
                [abs(item.score) for item in some],
                seed=seed,
                resamples=resamples,
                clusters=[item.target for item in some],
            ),
        )
        for name, some in parts.items()
    ]
    signed = bootstrap_mean(
        [item.score for item in jobs], seed=seed, resamples=resamples, clusters=[item.target for item in jobs]
    )
    measurements.append(Measurement.of("heldout_templates/mean_log_odds", signed))
    measurements.append(_correlation_with_men(jobs, seed, resamples))
    return measurements


def _correlation_with_men(items: Sequence[HeldoutItem], seed: int, resamples: int) -> Measurement:
    by_name: dict[str, list[float]] = defaultdict(list)
    for item in items:
        by_name[item.target].append(item.score)
    x = np.array([np.mean(scores) for scores in by_name.values()])
    y = np.array([1 - occupation(name).female_share for name in by_name])
    estimate = pearson(x, y, seed=seed, resamples=resamples)
    return Measurement.of("heldout_templates/correlation_with_men", estimate)


def _log_odds(row: Item, metric: str, *, kind: str, pronouns: bool = True) -> tuple[float, float] | None:
    counts = row["kind"] == kind and (row["words"] == PRONOUNS.name) == pronouns
    return (abs(float(row["score"])), 1.0) if counts else None


def _declared(what: str, title: str, kind: str, *, pronouns: bool = True, **more: Any) -> Declared:
    score = ItemScore(partial(_log_odds, kind=kind, pronouns=pronouns), ("target", "words", "template"))
    return Declared(
        f"heldout_templates/{what}",
        title,
        goal="minimize",
        ideal=0,
        place=25,
        paired_by="target",
        item_score=score,
        **more,
    )


MEASURES = (
    _declared(
        "mean_abs_log_odds", "held-out templates: |log odds|", "occupation", short="held-out |log odds|", headline=True
    ),
    _declared("attribute_words", "held-out attribute words", "occupation", pronouns=False, debiasing=True),
    _declared("traits", "held-out traits", "trait", debiasing=True),
    _declared("activities", "held-out activities", "activity", debiasing=True),
    Declared("heldout_templates/mean_log_odds", "held-out templates: log odds", ideal=0),
    Declared("heldout_templates/correlation_with_men", "correlation with the share of men", ideal=0),
)

BENCHMARK = Benchmark(HeldoutTemplatesSettings, ("masked", "causal"), None, run, MEASURES, "log_probabilities")
