"""The tables, one file per aggregate; importing this package knows all of them."""

from footplate_api.models.attempt import Attempt
from footplate_api.models.base import Base
from footplate_api.models.checkpoint import Checkpoint
from footplate_api.models.installation import Installation
from footplate_api.models.metric import StepMetric
from footplate_api.models.namespace import Namespace
from footplate_api.models.run import Run, RunSpec

__all__ = ["Attempt", "Base", "Checkpoint", "Installation", "Namespace", "Run", "RunSpec", "StepMetric"]
