"""NodeRecord: what is known of a node's health, named as the Node."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from footplate_contracts.names import Cause
from footplate_contracts.v1alpha1.types import Part, Text, Time


class NodeRecordSpec(Part):
    """The administrator's word; it wins over what was counted."""

    exclude: bool = False


class Strike(Part):
    """One fault that this node is held to account for."""

    time: Time
    cause: Cause
    run: Annotated[str, Field(max_length=320)]
    evidence: Text = ""


class PreflightVerdict(Part):
    """The last check of the node."""

    time: Time
    passed: bool
    message: Text = ""


class NodeRecordStatus(Part):
    """Written by the operator alone."""

    strikes: Annotated[list[Strike], Field(max_length=32)] = []
    excluded_until: Time | None = None
    preflight: PreflightVerdict | None = None
