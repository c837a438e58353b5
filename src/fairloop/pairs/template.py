"""Pairs from filled templates."""

from fairloop.errors import UserError
from fairloop.lexicon import pair_templates, with_article
from fairloop.pairs.coverage_plan import Plan, plan_pairs
from fairloop.pairs.gathered import Gathered
from fairloop.pairs.pair import Pair, PairRow
from fairloop.pairs.settings import PairSettings
from fairloop.pairs.verification import counterpart_of
from fairloop.seeding import random_generator


def from_templates(settings: PairSettings, *, seed: int) -> Gathered:
    """Fill templates; every combination of target, attribute and template occurs at most once.

    Raises:
        UserError: more pairs are asked for than there are combinations.
    """
    rows = []
    for plan in plan_pairs(settings.pairs, settings.kinds, seed=seed):
        male = _fill(plan, seed, settings.pairs)
        found = counterpart_of(male)
        if found is None:
            raise ValueError(f"template without a gendered word: {male!r}")
        pair = Pair(plan.item, male, found.text, plan.target.name, plan.target.kind, plan.attribute.name, "template")
        rows.append(PairRow(pair))
    return Gathered(rows, asked=len(rows))


def _fill(plan: Plan, seed: int, wanted: int) -> str:
    word = f"{{{plan.attribute.male}}}"
    fitting = [
        template
        for template in pair_templates(plan.target.kind)
        if (not template.has_subject and word in template.text if plan.refers_back else template.has_subject)
    ]
    if plan.visit >= len(fitting):
        raise UserError.of("debias.pairs", wanted, "the templates make fewer pairs; take fewer or source=llm")
    # Which template comes first is drawn for each combination, the others follow in their order.
    first = random_generator(seed, "pairs", "template", plan.target.name, plan.attribute.name).integers(len(fitting))
    template = fitting[(int(first) + plan.visit) % len(fitting)]
    subject = plan.attribute.subject("male")
    values = {
        "{subject}": subject,
        "{Subject}": subject[:1].upper() + subject[1:],
        "{target}": plan.target.name,
        "{a target}": with_article(plan.target.name),
        **{f"{{{word}}}": word for word in ("he", "his", "him", "himself")},
    }
    text = template.text
    for slot, value in values.items():
        text = text.replace(slot, value)
    return _capital(text)


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
