"""The metrics of a corpus that a study measures: chosen by `study.metrics`, with the settings of the group `metric`."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from fairloop.config.choices import Choices
from fairloop.config.study import Models, StudySettings
from fairloop.errors import UserError
from fairloop.metrics.registry import DEFAULT, in_order, metric, metrics, needs_encoder
from fairloop.settings import Settings, incidental


def _in_order(value: Any) -> Any:
    """Take a list of names, or one, and return them in the order in which they are measured."""
    names = [value] if isinstance(value, str) else value
    return in_order(names) if isinstance(names, list | tuple) and names else value


class MetricStudySettings(StudySettings):
    """A study that measures corpora: by which metrics, and with which sentence encoder."""

    metrics: Annotated[tuple[str, ...], BeforeValidator(_in_order)] = Field(
        DEFAULT, min_length=1, description=f"metrics of a corpus; of {', '.join(metrics())}"
    )
    encoder: str = incidental(min_length=1, description="sentence encoder: embedded:NAME, a Hub id or a folder")

    def groups(self, cell: Choices) -> tuple[str, ...]:
        """Return the groups that decide as a whole: of `metric` only the settings of the chosen metrics do."""
        return tuple(group for group in super().groups(cell) if group != "metric")

    def deciding(self) -> dict[str, Any]:
        """Return what decides a result; the default metrics are not named, as before they could be chosen."""
        kept = super().deciding()
        return {key: value for key, value in kept.items() if key != "metrics" or self.metrics != DEFAULT}

    def decides_also(self, cell: Choices) -> dict[str, Any]:
        """Return the settings of the chosen metrics that have settings."""
        own = {name: settings.deciding() for name, settings in self.metric_settings(cell).items()}
        return {"metric": own} if own else {}

    def metric_settings(self, cell: Choices) -> dict[str, Settings]:
        """Return the settings of each chosen metric that has settings."""
        schemas = {name: metric(name).settings for name in self.metrics}
        return {name: cell.metric.get(name) or schema() for name, schema in schemas.items() if schema is not None}

    def check(self, cell: Choices) -> None:
        """Refuse settings of a metric that is not measured."""
        for name in cell.metric:
            if name not in self.metrics:
                raise UserError.of("metric", name, f"it is not measured: study.metrics=[{','.join(self.metrics)}]")

    def models(self, cell: Choices) -> Models:
        """The sentence encoder, if a metric needs it, and the models of the metrics' own."""
        encoder = {"study.encoder": (self.encoder, None)} if needs_encoder(self.metrics) else {}
        own = {
            f"metric.{name}.{key}": (str(getattr(settings, key)), None)
            for name, settings in self.metric_settings(cell).items()
            for key in type(settings).model_fields
            if settings.marked(key, "by_contents") and getattr(settings, key) is not None
        }
        return {**encoder, **own}
