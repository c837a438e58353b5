"""No debiasing: the PLM as it is, what every method is compared with."""

from typing import Literal

from pydantic import Field

from fairloop.debias import base, settings


class MethodSettings(settings.MethodSettings):
    """There is nothing to choose."""

    name: Literal["none"] = Field("none", description="the method")


class Method(base.Method):
    """Leaves the PLM untouched."""

    name = "none"
    kinds = ("masked", "causal", "encoder")
    uses_pairs = False
    changes_model = False
