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
        raise ValueError("must be an instant as RFC 3339 has it, such as 2026-11-25T10:00:00Z")
    return given


def _instant(given: datetime) -> datetime:
    try:
        return given.astimezone(UTC)
    except OverflowError:
        raise ValueError("must be within the years 1 to 9999 of UTC") from None


Instant = Annotated[AwareDatetime, BeforeValidator(_written), AfterValidator(_instant)]


class AuditQuery(QueryParameters):
    """Query parameters of the audit log."""

    namespace: Namespace | None = None
    name: str | None = Field(None, max_length=audit.LONGEST_NAME, pattern=_TEXT, description="of the object")
    username: str | None = Field(None, max_length=audit.LONGEST_USER, pattern=_TEXT)
    verb: str | None = Field(None, max_length=audit.LONGEST_VERB, pattern="^[a-z]+$")
    since: Instant | None = Field(None, alias="from", description="asked for at this instant or later")
    until: Instant | None = Field(None, alias="to", description="asked for before this instant")
    limit: int = Field(100, ge=1, le=500, description="entries a page")
    cursor: str | None = Field(None, max_length=LONGEST, description="nextCursor of the page before")

    def filters_json(self) -> str:
        """Return the filters, which all pages of one list share, as JSON."""
        return self.model_dump_json(exclude={"limit", "cursor"})


class AuditOutcome(Schema):
    """Result of a write."""

    at: datetime
    status: int = Field(description="of the HTTP answer; after a 503 it may have been done all the same")
    message: str = Field(description="why it was refused; empty where it was done")


class AuditEvent(Schema):
    """A write that a caller requested."""

    id: int
    at: datetime = Field(description="when it was asked for, before Kubernetes was")
    request_id: str
    username: str
    user_uid: str
    groups: list[str] = Field(
        description="the first 64, of 1 KiB in all; a last one says how many more there are"
    )
    verb: str
    resource: str = Field(examples=["trainingruns.footplate.dev"])
    namespace: str
    name: str = Field(description="of the object; empty where it was refused before its name was read")
    uid: str = Field(description="of the object; empty where Kubernetes told none")
    result: AuditOutcome | None = Field(
        description="null where it is not known: the API was ended, or its database away, before it was noted"
    )


class AuditList(Schema):
    """A page of the audit log, newest first."""

    items: list[AuditEvent]
    next_cursor: str | None = Field(description="null on the last page")
