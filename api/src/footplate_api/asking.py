"""What goes with a request that creates something: to ask for it once only, or only to ask."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Header, Query
from pydantic import Field

from footplate_api.runs.idempotency import HEADER
from footplate_api.schemas import Asked


class CreateOptions(Asked):
    """Whether anything is created; whoever misspells the name did not mean that it is."""

    dry_run: bool = Field(False, description="only ask what would come of it: nothing is created")


Creating = Annotated[CreateOptions, Query()]


def idempotency_key(description: str) -> Any:
    """The parameter `Idempotency-Key` of a route; what it does there is its `description`."""
    return Header(alias=HEADER, max_length=255, pattern=r"^[\x21-\x7e]+$", description=description)
