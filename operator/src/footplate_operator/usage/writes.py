"""Writes of a UsageRecord; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from footplate_contracts.names import API_VERSION, GROUP
from footplate_ledger.usage import PodAllocation
from footplate_operator.runtime.kinds import Json, Kind

USAGE_RECORD: Final = Kind(API_VERSION, "UsageRecord", "usagerecords", namespaced=False)
COMPLETED_SINCE: Final = f"{GROUP}/completed-since"  # annotation


@dataclass(frozen=True)
class RecordWrite:
    """A write of one record; `known`: the record exists already."""

    name: str
    spec: Json
    labels: Mapping[str, str]
    known: bool
    told: Mapping[str, PodAllocation] = field(
        default_factory=dict
    )  # what it says, by uid, without what grows

    @property
    def manifest(self) -> Json:
        """The manifest to create it."""
        return {
            "apiVersion": USAGE_RECORD.api_version,
            "kind": USAGE_RECORD.name,
            "metadata": {"name": self.name, "labels": dict(self.labels)},
            "spec": self.spec,
        }


def build_completed_patch(since: str) -> Json:
    """Return the patch that marks a record as completed: nothing will be added."""
    return {"metadata": {"annotations": {COMPLETED_SINCE: since}}, "spec": {"completed": True}}


def build_merge_patch(before: Mapping[str, Any], after: Mapping[str, Any]) -> Json:
    """Return the merge patch from one entry to another; null removes missing fields."""
    gone = dict.fromkeys(before.keys() - after.keys())
    return gone | {name: value for name, value in after.items() if before.get(name) != value}
