"""A TrainingRun as the operator works with it: decoded once, at the edge.

The API server keeps objects that an older release accepted. One that this
release cannot read must end in a condition, not in a crash, so decoding is a
step of its own with an error of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from footplate_contracts.names import Phase, RunUid
from footplate_contracts.v1alpha1.computeprofile import ComputeProfileSpec
from footplate_contracts.v1alpha1.status import TrainingRunStatus
from footplate_contracts.v1alpha1.trainingrun import TrainingRunSpec
from footplate_operator.runtime.clock import parse_time


@dataclass(frozen=True)
class Key:
    """How a run is named in queues and logs."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True)
class Run:
    """One TrainingRun."""

    key: Key
    uid: RunUid
    version: str  # resourceVersion
    generation: int
    created: datetime
    deleted: bool  # deletion has begun
    spec: TrainingRunSpec
    status: TrainingRunStatus

    @property
    def name(self) -> str:
        """`metadata.name`."""
        return self.key.name

    @property
    def namespace(self) -> str:
        """`metadata.namespace`."""
        return self.key.namespace

    @property
    def phase(self) -> Phase | None:
        """The phase that was written last."""
        return self.status.phase

    @property
    def phase_since(self) -> datetime:
        """Since when the phase is what it is."""
        return parse_time(self.status.phase_time) if self.status.phase_time else self.created


class Undecodable(ValueError):
    """The object does not fit this release's models; the message names the first field."""


def key_of(body: Mapping[str, Any]) -> Key:
    """The key of a TrainingRun object."""
    return Key(body["metadata"]["namespace"], body["metadata"]["name"])


def decode(body: Mapping[str, Any]) -> Run:
    """The run in `body`; raises Undecodable."""
    metadata = body["metadata"]
    try:
        spec = TrainingRunSpec.from_json(body.get("spec", {}))
        status = TrainingRunStatus.from_json(body.get("status", {}))
    except ValidationError as error:
        raise Undecodable(_first(error)) from None
    return Run(
        key=key_of(body),
        uid=RunUid(metadata["uid"]),
        version=str(metadata.get("resourceVersion", "")),
        generation=int(metadata.get("generation", 0)),
        created=parse_time(metadata["creationTimestamp"]),
        deleted="deletionTimestamp" in metadata,
        spec=spec,
        status=status,
    )


def decode_profile(body: Mapping[str, Any]) -> ComputeProfileSpec:
    """The spec of a ComputeProfile object; raises Undecodable."""
    try:
        return ComputeProfileSpec.from_json(body.get("spec", {}))
    except ValidationError as error:
        raise Undecodable(_first(error)) from None


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}, not {str(first.get('input'))[:100]!r}"
