"""NodeRecord: health record of a node, named as the Node."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from footplate_contracts.names import Cause
from footplate_contracts.v1alpha1.types import ApiModel, Text, Time


class NodeRecordSpec(ApiModel):
    """The administrator's decision; it wins over counted faults."""

    exclude: bool = Field(False, description="true: no worker of any run is placed here")


class NodeFault(ApiModel):
    """A fault that counts against this node."""

    time: Time = Field(description="when")
    cause: Cause
    run: Annotated[str, Field(max_length=320)] = Field(description="<namespace>/<name> of the run")
    evidence: Text = Field("", description="what was seen")


class PreflightVerdict(ApiModel):
    """Result of the node's last check."""

    time: Time = Field(description="when")
    passed: bool = Field(description="whether the node may be used")
    message: Text = Field("", description="what was found")


class NodeRecordStatus(ApiModel):
    """State of a node, written by the operator alone."""

    strikes: Annotated[list[NodeFault], Field(max_length=32)] = Field([], description="the newest ones")
    excluded_until: Time | None = Field(None, description="no worker is placed here before then")
    preflight: PreflightVerdict | None = None
