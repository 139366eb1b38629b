"""NodeRecord: health record of a node, named as the Node."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from footplate_contracts.names import Cause
from footplate_contracts.v1alpha1.types import ApiModel, Text, Time


class NodeRecordSpec(ApiModel):
    """The administrator's decision; it overrides counted faults."""

    exclude: bool = Field(False, description="true: no run places workers here")


class NodeFault(ApiModel):
    """A fault that counts against this node."""

    time: Time = Field(description="time of the fault")
    cause: Cause
    run: Annotated[str, Field(max_length=320)] = Field(description="<namespace>/<name> of the run")
    evidence: Text = Field("", description="description of the fault")


class PreflightVerdict(ApiModel):
    """Result of the node's last check."""

    time: Time = Field(description="time of the check")
    passed: bool = Field(description="true: the node may be used")
    message: Text = Field("", description="result of the check")


class NodeRecordStatus(ApiModel):
    """State of a node, written by the operator alone."""

    strikes: Annotated[list[NodeFault], Field(max_length=32)] = Field([], description="newest faults")
    excluded_until: Time | None = Field(None, description="time before which no worker is placed here")
    preflight: PreflightVerdict | None = None
