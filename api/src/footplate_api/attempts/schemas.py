"""Request and response schemas of attempts."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from footplate_api.serialization.schemas import FormerNamespaces, PageQuery, Schema, Uid


class AttemptQuery(PageQuery):
    """Query parameters of a run's attempts."""

    uid: Uid | None = None
    former_namespaces: FormerNamespaces = False
    limit: int = Field(100, ge=1, le=1000)


class AttemptRecord(Schema):
    """Training between two interruptions, as the run's status reported it."""

    number: int = Field(description="from 1")
    start: datetime | None
    end: datetime | None = Field(description="null while it goes on, or where nobody was told")
    nodes: int = Field(description="worker pods")
    incarnation: int | None = Field(description="newest incarnation of any worker when it began")
    generation: str = Field(description="<epoch>.<number> that trained in it")
    start_step: int
    end_step: int | None
    cause: str | None = Field(
        description="why it ended; a newer operator may know causes that this one does not"
    )
    reason: str
    node: str = Field(description="the node to blame")
    rank: int | None = Field(description="the first rank that failed")
    exit_code: int | None = Field(description="of that rank")
    message: str
    lost_steps: int = Field(description="steps to be trained again")


class AttemptHole(Schema):
    """Attempt numbers, from `first` to `last`, that no status reported."""

    first: int
    last: int


class AttemptList(Schema):
    """Attempts of a run, newest first."""

    run_uid: str
    items: list[AttemptRecord]
    holes: list[AttemptHole] = Field(
        description="of the whole run: a status holds the newest twenty attempts, and more than that came to"
        " pass between two looks"
    )
    next_cursor: str | None = Field(description="null on the last page")
