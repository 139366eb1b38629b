"""The tables, one file per aggregate; importing this package knows all of them."""

from footplate_api.models.base import Base
from footplate_api.models.checkpoint import Checkpoint
from footplate_api.models.exporter import RunExporter
from footplate_api.models.former import STEP_METRICS
from footplate_api.models.metric import FurtherName, GivenUpTelemetry, MetricExtent, MetricRow, MetricSegment
from footplate_api.models.run import Run

__all__ = [
    "STEP_METRICS",
    "Base",
    "Checkpoint",
    "FurtherName",
    "GivenUpTelemetry",
    "MetricExtent",
    "MetricRow",
    "MetricSegment",
    "Run",
    "RunExporter",
]
