"""Tables of the database, one file per aggregate; importing this package registers all of them."""

from footplate_api.models.attempt import AttemptRow
from footplate_api.models.audit import AuditEntry, AuditResult
from footplate_api.models.base import Base
from footplate_api.models.checkpoint import CheckpointRow
from footplate_api.models.coordinator import RunCoordinator
from footplate_api.models.exporter import RunExporter
from footplate_api.models.idempotency import IdempotencyKey
from footplate_api.models.installation import Installation
from footplate_api.models.label import RunLabel
from footplate_api.models.metric import (
    DroppedTelemetryCount,
    MetricExtent,
    MetricRow,
    MetricSegment,
    MetricValueName,
)
from footplate_api.models.namespace import Namespace
from footplate_api.models.reference import RunReferenceRow
from footplate_api.models.run import RunManifest, RunRow
from footplate_api.models.sample import StepSample
from footplate_api.models.tariff import CarbonSeries, ComputeProfileRow, PriceEntryRow
from footplate_api.models.usage import NodeUsageRow, PodUsageRow

__all__ = [
    "AttemptRow",
    "AuditEntry",
    "AuditResult",
    "Base",
    "CarbonSeries",
    "CheckpointRow",
    "ComputeProfileRow",
    "DroppedTelemetryCount",
    "IdempotencyKey",
    "Installation",
    "MetricExtent",
    "MetricRow",
    "MetricSegment",
    "MetricValueName",
    "Namespace",
    "NodeUsageRow",
    "PodUsageRow",
    "PriceEntryRow",
    "RunCoordinator",
    "RunExporter",
    "RunLabel",
    "RunManifest",
    "RunReferenceRow",
    "RunRow",
    "StepSample",
]
