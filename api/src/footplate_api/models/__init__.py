"""Tables of the database, one file per aggregate; importing this package registers all of them."""

from footplate_api.models.attempt import Attempt
from footplate_api.models.audit import AuditEntry, AuditResult
from footplate_api.models.base import Base
from footplate_api.models.checkpoint import Checkpoint
from footplate_api.models.coordinator import RunCoordinator
from footplate_api.models.exporter import RunExporter
from footplate_api.models.former import STEP_METRICS
from footplate_api.models.idempotency import IdempotencyKey
from footplate_api.models.installation import Installation
from footplate_api.models.label import RunLabel
from footplate_api.models.metric import FurtherName, GivenUpTelemetry, MetricExtent, MetricRow, MetricSegment
from footplate_api.models.namespace import Namespace
from footplate_api.models.reference import RunReference
from footplate_api.models.run import Run, RunSpec
from footplate_api.models.sample import StepSample
from footplate_api.models.tariff import BookEntry, CarbonSeries, Profile
from footplate_api.models.usage import UsedNode, UsedPod

__all__ = [
    "STEP_METRICS",
    "Attempt",
    "AuditEntry",
    "AuditResult",
    "Base",
    "BookEntry",
    "CarbonSeries",
    "Checkpoint",
    "FurtherName",
    "GivenUpTelemetry",
    "IdempotencyKey",
    "Installation",
    "MetricExtent",
    "MetricRow",
    "MetricSegment",
    "Namespace",
    "Profile",
    "Run",
    "RunCoordinator",
    "RunExporter",
    "RunLabel",
    "RunReference",
    "RunSpec",
    "StepSample",
    "UsedNode",
    "UsedPod",
]
