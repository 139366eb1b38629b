"""Request and response schemas of the audit log."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Final

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field

from footplate_api.audit.pagination import LONGEST
from footplate_api.models import audit
from footplate_api.serialization.schemas import Namespace, QueryParameters, Schema

_TEXT: Final = r"^[^\x00]+$"  # PostgreSQL knows no other
_INSTANT: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def _written(given: object) -> object:
    """Return an RFC 3339 instant; raises ValueError otherwise, as for a number, whose unit is unknown."""
    if not isinstance(given, str) or not _INSTANT.fullmatch(given):
        raise ValueError("must be an RFC 3339 time such as 2026-11-25T10:00:00Z")
    return given


def _instant(given: datetime) -> datetime:
    try:
        return given.astimezone(UTC)
    except OverflowError:
        raise ValueError("must be between the years 1 and 9999 in UTC") from None


Instant = Annotated[AwareDatetime, BeforeValidator(_written), AfterValidator(_instant)]


class AuditQuery(QueryParameters):
    """Query parameters of the audit log."""

    namespace: Namespace | None = None
    name: str | None = Field(None, max_length=audit.LONGEST_NAME, pattern=_TEXT, description="object name")
    username: str | None = Field(None, max_length=audit.LONGEST_USER, pattern=_TEXT)
    verb: str | None = Field(None, max_length=audit.LONGEST_VERB, pattern="^[a-z]+$")
    since: Instant | None = Field(None, alias="from", description="only writes at this time or later")
    until: Instant | None = Field(None, alias="to", description="only writes before this time")
    limit: int = Field(100, ge=1, le=500, description="entries per page")
    cursor: str | None = Field(None, max_length=LONGEST, description="nextCursor of the previous page")

    def filters_json(self) -> str:
        """Return the filters, which all pages of one list share, as JSON."""
        return self.model_dump_json(exclude={"limit", "cursor"})


class AuditOutcome(Schema):
    """Result of a write."""

    at: datetime
    status: int = Field(description="HTTP status; after a 503 the write may have happened all the same")
    message: str = Field(description="reason for the refusal; empty for a successful write")


class AuditEvent(Schema):
    """A write that a caller requested."""

    id: int
    at: datetime = Field(description="time of the request, before the API called Kubernetes")
    request_id: str
    username: str
    user_uid: str
    groups: list[str] = Field(
        description="first 64 groups, of 1 KiB in all; a last entry counts the omitted ones"
    )
    verb: str
    resource: str = Field(examples=["trainingruns.footplate.dev"])
    namespace: str
    name: str = Field(description="name of the object; empty if the API had not read it before a refusal")
    uid: str = Field(description="uid of the object; empty if Kubernetes returned none")
    result: AuditOutcome | None = Field(
        description="null if unknown: the API stopped, or lost its database, before it stored the result"
    )


class AuditList(Schema):
    """A page of the audit log, newest first."""

    items: list[AuditEvent]
    next_cursor: str | None = Field(description="null on the last page")
