"""When a run ended: what is known, what is estimated, and never the moment at which somebody noticed."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from footplate_api.db.database import Database
from footplate_api.kubernetes.client import EventType
from footplate_api.registry import repository
from tests.component.footplate_api.builders import RUNS, batch, eventually, row
from tests.component.footplate_api.conftest import Api
from tests.component.footplate_api.fakes import FakeCluster
from tests.component.footplate_api.mirrors import NOW, Clock, event, following, found, mirror, running


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"2026-11-25T{text}:00Z")


LIVED = running(
    7,
    lastTransitionTime="2026-11-25T11:00:00Z",
    attempts=[{"number": 1, "start": "2026-11-25T10:30:00Z"}],
)
LIVED["progress"]["lastUpdatedTime"] = "2026-11-25T11:20:00Z"


async def end(database: Database, name: str = "gpt") -> tuple[datetime | None, bool | None]:
    run = await found(database, name)
    assert run is not None
    return run.ended_at, run.end_estimated


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
async def test_of_a_run_that_came_to_its_end_the_status_says_it(database: Database, phase: str) -> None:
    cluster = FakeCluster()
    await cluster.put("research", "gpt", status={"phase": phase, "completionTime": "2026-11-25T11:30:00Z"})
    watcher = mirror(database, cluster)
    await watcher.list()
    assert await end(database) == (at("11:30"), False)
    await cluster.remove("research", "gpt")
    await watcher.list()
    assert await end(database) == (at("11:30"), False)


async def test_a_run_that_trains_has_not_ended(database: Database) -> None:
    await mirror(database, FakeCluster()).apply([event(EventType.MODIFIED, 5, LIVED)])
    assert await end(database) == (None, False)


async def test_of_a_deletion_that_was_watched_the_moment_is_known(database: Database) -> None:
    cluster, clock = FakeCluster(), Clock(NOW)
    async with following(mirror(database, cluster, clock)):
        await cluster.put("research", "gpt", status=LIVED)
        await eventually(lambda: found(database, "gpt"), lambda run: run is not None)
        await cluster.remove("research", "gpt")
        run = await eventually(lambda: found(database, "gpt"), lambda run: bool(run and run.deleted_at))
    assert run is not None and run.ended_at is not None
    assert (run.ended_at - NOW < timedelta(minutes=1), run.end_estimated) == (True, False)


async def test_a_deletion_says_itself_when_it_was_asked_for(database: Database) -> None:
    deleted = event(EventType.DELETED, 6, LIVED)
    deleted.manifest["metadata"]["deletionTimestamp"] = "2026-11-25T11:45:00Z"
    await mirror(database, FakeCluster()).apply([event(EventType.MODIFIED, 5, LIVED), deleted])
    assert await end(database) == (at("11:45"), False)


async def went_unseen(database: Database, status: dict[str, Any], noticed: datetime = NOW) -> None:
    """A run is listed, deleted while nobody watches, and missing in the list of `noticed`."""
    cluster, clock = FakeCluster(), Clock(at("11:21"))
    await cluster.put("research", "gpt", status=status, metadata={"uid": "uid-1"})
    watcher = mirror(database, cluster, clock)
    await watcher.list()
    cluster.silent = True
    await cluster.remove("research", "gpt")
    clock.time = noticed
    await watcher.list()


@pytest.mark.parametrize(
    ("status", "last"),
    [
        pytest.param(LIVED, at("11:20"), id="progress"),
        pytest.param(
            {"phase": "Queued", "lastTransitionTime": "2026-11-25T11:00:00Z"}, at("11:00"), id="phase"
        ),
        pytest.param(
            {**LIVED, "checkpoint": {"lastCommittedTime": "2026-11-25T11:40:00Z"}},
            at("11:40"),
            id="checkpoint",
        ),
        pytest.param(
            {"attempts": [{"number": 1, "start": "2026-11-25T11:02:00Z", "end": "2026-11-25T11:10:00Z"}]},
            at("11:10"),
            id="attempt",
        ),
        pytest.param({}, at("10:00"), id="nothing-but-its-creation"),
        pytest.param({"lastTransitionTime": "2026-11-25T23:00:00Z"}, NOW, id="a-clock-that-is-ahead"),
    ],
)
async def test_of_a_run_found_missing_it_is_the_last_sign_of_life(
    database: Database, status: dict[str, Any], last: datetime
) -> None:
    await went_unseen(database, status)
    ended, estimated = await end(database)
    assert ended is not None and estimated is True
    assert timedelta() <= ended - last < timedelta(seconds=1)


async def test_the_last_metric_row_is_a_sign_of_life(api: Api) -> None:
    stored = await api.cluster.put("research", "gpt", status={"phase": "Running"})
    await eventually(lambda: get(api), lambda run: "uid" in run)
    rows = [row(1), row(2)]
    rows[1]["metrics"]["time"] = at("10:30").timestamp()
    body = batch(stored["metadata"]["uid"], rows)
    headers = await api.coordinator(body["runUid"])
    await api.client.post(f"{RUNS}/gpt/telemetry", json=body, headers=headers)
    api.cluster.silent = True
    await api.cluster.remove("research", "gpt")
    api.cluster.silent = False
    api.cluster.forget()
    gone = await eventually(lambda: get(api), lambda run: run["deletedAt"] is not None)
    assert (datetime.fromisoformat(gone["endedAt"]), gone["endEstimated"]) == (at("10:30"), True)


async def test_a_deletion_that_a_lagging_watch_brings_replaces_the_estimate(database: Database) -> None:
    await went_unseen(database, LIVED)
    late = event(EventType.DELETED, 102, running(9))
    late.manifest["metadata"]["deletionTimestamp"] = "2026-11-25T11:45:00Z"
    watcher = mirror(database, FakeCluster())
    await watcher.apply([late])
    run = await found(database, "gpt")
    assert run is not None and (run.step, run.ended_at, run.end_estimated) == (9, at("11:45"), False)


@pytest.mark.parametrize(
    ("sent", "ended"),
    [
        pytest.param(at("11:30"), at("11:30"), id="later"),
        pytest.param(at("11:10"), at("11:20"), id="earlier"),
        pytest.param(at("13:00"), None, id="not-beyond-the-moment-it-was-noticed"),
    ],
)
async def test_evidence_that_comes_later_moves_an_estimate(
    database: Database, sent: datetime, ended: datetime | None
) -> None:
    await went_unseen(database, LIVED)
    async with database.write() as session:
        await repository.extend_estimated_end(session, "uid-1", sent)
    run = await found(database, "gpt")
    assert run is not None and (run.ended_at, run.end_estimated) == (ended or run.deleted_at, True)


async def test_evidence_moves_no_end_that_is_known(database: Database) -> None:
    status = {"phase": "Succeeded", "completionTime": "2026-11-25T11:30:00Z"}
    await mirror(database, FakeCluster()).apply([event(EventType.MODIFIED, 5, status)])
    async with database.write() as session:
        await repository.extend_estimated_end(session, "uid-1", NOW)
    assert await end(database) == (at("11:30"), False)


async def get(api: Api) -> Any:
    return (await api.client.get(f"{RUNS}/gpt")).json()
