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

    number: int = Field(description="number of the attempt, from 1")
    start: datetime | None
    end: datetime | None = Field(description="null while the attempt runs, or if no end was reported")
    nodes: int = Field(description="number of worker pods")
    incarnation: int | None = Field(description="newest incarnation of any worker at the start")
    generation: str = Field(description="<epoch>.<number> that trained in the attempt")
    start_step: int
    end_step: int | None
    cause: str | None = Field(
        description="cause of the end; a newer operator may report causes that this API does not know"
    )
    reason: str
    node: str = Field(description="name of the node at fault")
    rank: int | None = Field(description="first rank that failed")
    exit_code: int | None = Field(description="exit code of that rank")
    message: str
    lost_steps: int = Field(description="number of steps to train again")


class AttemptHole(Schema):
    """Attempt numbers, from `first` to `last`, that no status reported."""

    first: int
    last: int


class AttemptList(Schema):
    """Attempts of a run, newest first."""

    run_uid: str
    items: list[AttemptRecord]
    holes: list[AttemptHole] = Field(
        description="gaps in the attempts of the whole run: a status lists only the newest twenty, and more"
        " ended between two updates of it"
    )
    next_cursor: str | None = Field(description="null on the last page")
