"""A knob of a debias method has one default: that of its schema, which conf/debias shows."""

from pathlib import Path

import pytest
import yaml

from fairloop.debias.registry import methods, settings_class
from fairloop.settings import Settings
from fairloop.training.settings import BudgetSettings

CONF = Path(__file__).parents[2] / "conf" / "debias"


def composed(name):
    """What conf/debias/<name>.yaml says, with the files that it begins with."""
    content = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    found = {}
    for line in content.pop("defaults", []):
        if line != "_self_":
            ((place, option),) = line.items()
            found |= yaml.safe_load((CONF / place.split("@")[0] / f"{option}.yaml").read_text())
    return found | content


@pytest.mark.parametrize("name", methods())
def test_the_file_of_a_method_shows_every_key_with_the_default_of_its_schema(name):
    schema = settings_class(name)
    shown = composed(name)
    assert shown.keys() == schema.model_fields.keys()
    assert schema.model_validate(shown) == schema(name=name)


def test_no_field_of_a_loss_has_a_default_beside_its_methods():
    """The budget stands in one class; a method may narrow a field of it, and does not move its default."""
    for name in methods():
        schema = settings_class(name)
        if issubclass(schema, BudgetSettings):
            moved = {
                key for key, field in BudgetSettings.model_fields.items()
                if schema.model_fields[key].default != field.default
            }  # fmt: skip
            assert not moved, name


def test_every_task_is_trained_with_the_settings_of_a_config_group():
    """No second schema: what a loss reads is the method's own settings, or the shared budget."""
    from fairloop.debias.auto_debias.loss import PromptDivergenceTask
    from fairloop.debias.context_debias.loss import OrthogonalityTask
    from fairloop.debias.fair_gender.loss import IncorporationTask
    from fairloop.debias.mabel.loss import PairAlignmentTask
    from fairloop.training.language_modeling import LanguageModelingTask

    tasks = {
        "auto_debias": PromptDivergenceTask, "context_debias": OrthogonalityTask, "fair_gender": IncorporationTask,
        "mabel": PairAlignmentTask,
    }  # fmt: skip
    for name, task in tasks.items():
        assert task.__annotations__["settings"] is settings_class(name)
    assert LanguageModelingTask.__annotations__["settings"] is BudgetSettings
    assert issubclass(BudgetSettings, Settings)


@pytest.mark.parametrize("items", [1, 7])
def test_a_budget_is_taken_in_full_however_little_there_is_to_train_on(items):
    from fairloop.training.data import TrainingData

    settings = BudgetSettings(steps=5000, batch_size=1)
    data = TrainingData(range(items), [1] * items, list, settings, seed=0, stage="s")
    assert data.total_steps == 5000
