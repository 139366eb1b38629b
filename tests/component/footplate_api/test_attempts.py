"""Attempts are kept beyond the twenty that a status holds, and what nobody saw is said."""

from __future__ import annotations

from typing import Any

import pytest

from footplate_api.attempts import repository, routes
from footplate_api.attempts.schemas import AttemptQuery
from footplate_api.db.database import Database
from footplate_api.kubernetes.client import EventType
from footplate_contracts.v1alpha1.status import ATTEMPT_LIMIT, Attempt
from tests.component.footplate_api.builders import RUNS, eventually
from tests.component.footplate_api.conftest import Api
from tests.component.footplate_api.fakes import FakeCluster
from tests.component.footplate_api.mirrors import event, mirror, running

WHOLE = {
    "number": 1,
    "start": "2026-11-25T10:00:00Z",
    "end": "2026-11-25T10:05:00Z",
    "nodes": 2,
    "incarnation": 3,
    "generation": "1.4",
    "startStep": 5,
    "endStep": 9,
    "cause": "Hang",
    "reason": "ProgressDeadlineExceeded",
    "node": "node-1",
    "rank": 1,
    "exitCode": 70,
    "message": "no step in 600 s",
    "lostSteps": 4,
}


def attempts(newest: int, **of_newest: Any) -> dict[str, Any]:
    """A status after so many attempts, which holds the newest twenty."""
    first = max(newest - ATTEMPT_LIMIT, 0) + 1
    known = [{"number": number, "start": "2026-11-25T10:00:00Z"} for number in range(first, newest + 1)]
    known[-1] |= of_newest
    return running(newest, attempts=known)


async def numbers(database: Database) -> tuple[list[int], list[tuple[int, int]]]:
    async with database.read() as session:
        found = await routes.list_attempts("research", "gpt", AttemptQuery(), session)
    return [item.number for item in found.items], [(hole.first, hole.last) for hole in found.holes]


async def cause(database: Database, number: int) -> str | None:
    async with database.read() as session:
        rows = await repository.newest_first(session, "uid-1", number + 1, 1)
    return rows[0].cause


@pytest.mark.parametrize(
    ("away", "holes"),
    [pytest.param(20, [], id="twenty"), pytest.param(25, [(21, 25)], id="twenty-five")],
)
async def test_while_the_api_is_away_twenty_attempts_are_none_lost(
    database: Database, away: int, holes: list[tuple[int, int]]
) -> None:
    cluster, total = FakeCluster(), 20 + away
    watcher = mirror(database, cluster)
    await cluster.put("research", "gpt", status=attempts(20))
    await watcher.list()
    for number in range(21, total + 1):
        await cluster.put("research", "gpt", status=attempts(number))
    await watcher.list()
    lost = {number for first, last in holes for number in range(first, last + 1)}
    assert await numbers(database) == (sorted(set(range(1, total + 1)) - lost, reverse=True), holes)


async def test_forty_five_attempts_the_api_away_for_twenty_of_them(database: Database) -> None:
    cluster = FakeCluster()
    watcher = mirror(database, cluster)
    await watcher.apply([event(EventType.MODIFIED, version, attempts(version)) for version in range(1, 26)])
    await watcher.apply([event(EventType.MODIFIED, 45, attempts(45))])
    assert await numbers(database) == (list(range(45, 0, -1)), [])


async def test_below_the_first_that_was_seen_there_is_a_hole(database: Database) -> None:
    await mirror(database, FakeCluster()).apply([event(EventType.MODIFIED, 50, attempts(50))])
    assert await numbers(database) == (list(range(50, 30, -1)), [(1, 30)])


async def test_events_that_come_together_all_count(database: Database) -> None:
    both = [event(EventType.MODIFIED, version, attempts(version)) for version in (20, 60)]
    await mirror(database, FakeCluster()).apply(both)
    found, holes = await numbers(database)
    assert (len(found), holes) == (40, [(21, 40)])


async def test_a_correction_replaces_and_an_older_status_does_not(database: Database) -> None:
    watcher = mirror(database, FakeCluster())
    await watcher.apply([event(EventType.MODIFIED, 30, attempts(3, cause="Unknown"))])
    await watcher.apply([event(EventType.MODIFIED, 31, attempts(3, cause="Hang"))])
    await watcher.apply([event(EventType.MODIFIED, 29, attempts(3))])
    assert await cause(database, 3) == "Hang"


async def test_a_late_status_still_tells_of_attempts_that_nobody_saw(database: Database) -> None:
    watcher = mirror(database, FakeCluster())
    await watcher.apply([event(EventType.MODIFIED, 90, attempts(60))])
    await watcher.apply([event(EventType.MODIFIED, 70, attempts(40))])
    assert await numbers(database) == (list(range(60, 20, -1)), [(1, 20)])


async def test_what_a_status_says_of_an_attempt_is_shown_whole(api: Api) -> None:
    assert set(WHOLE) == {field.alias for field in Attempt.model_fields.values()}
    status = {"attempts": [WHOLE, {"number": 2, "start": "2026-11-25T10:06:00Z"}, {"number": "x"}, 3]}
    await api.cluster.put("research", "gpt", status=status)
    page = await eventually(lambda: listed(api), lambda page: bool(page.get("items")))
    newest, first = page["items"]
    assert first == WHOLE
    assert (newest["number"], newest["end"], newest["cause"]) == (2, None, None)
    assert (page["holes"], page["nextCursor"]) == ([], None)


async def test_pages_join(api: Api) -> None:
    await api.cluster.put("research", "gpt", status=attempts(5))
    await eventually(lambda: listed(api), lambda page: bool(page.get("items")))
    first = await listed(api, limit=2)
    rest = await listed(api, cursor=first["nextCursor"])
    assert [item["number"] for item in first["items"] + rest["items"]] == [5, 4, 3, 2, 1]
    assert (first["nextCursor"], rest["nextCursor"]) == ("4", None)


async def test_text_that_a_database_refuses_stops_nothing(database: Database) -> None:
    strange = attempts(1, message="a\0b\ud800", node="n" * 300, reason=5, exitCode=2**70)
    await mirror(database, FakeCluster()).apply([event(EventType.MODIFIED, 5, strange)])
    async with database.read() as session:
        [attempt] = await repository.newest_first(session, "uid-1", None, 9)
    assert (attempt.message, len(attempt.node), attempt.reason, attempt.exit_code) == ("ab?", 253, "", None)


async def listed(api: Api, **query: int) -> Any:
    return (await api.client.get(f"{RUNS}/gpt/attempts", params=query)).json()
