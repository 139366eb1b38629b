"""What goes with a request that creates something: to ask for it once only, or only to ask."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Header, Query

from footplate_api.runs.idempotency import HEADER

DryRun = Annotated[
    bool, Query(alias="dryRun", description="only ask what would come of it: nothing is created")
]


def idempotency_key(description: str) -> Any:
    """The parameter `Idempotency-Key` of a route; what it does there is its `description`."""
    return Header(alias=HEADER, max_length=255, pattern=r"^[\x21-\x7e]+$", description=description)
