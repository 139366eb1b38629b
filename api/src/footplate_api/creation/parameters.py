"""Parameters of requests that create objects: the idempotency key and the dry run."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Header, Query
from pydantic import Field

from footplate_api.creation.idempotency import HEADER
from footplate_api.serialization.schemas import QueryParameters


class CreateOptions(QueryParameters):
    """Query parameter for a dry run; a misspelt name is refused, so that nothing is created by mistake."""

    dry_run: bool = Field(False, description="return the object as it would be, without creating it")


Creating = Annotated[CreateOptions, Query()]


def idempotency_key(description: str) -> Any:
    """Return a route's header parameter `Idempotency-Key`; `description` explains it in OpenAPI."""
    return Header(alias=HEADER, max_length=255, pattern=r"^[\x21-\x7e]+$", description=description)
