"""Asking for runs: twice under one key, only to see what would come of it, and for what one has already."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import func, select, update

from footplate_api.coordinators import repository as coordinators
from footplate_api.db.database import Database
from footplate_api.errors import ClusterUnavailable
from footplate_api.identity.caller import Caller, Right
from footplate_api.kubernetes.client import Manifest
from footplate_api.models.installation import IdempotencyKey
from footplate_api.tasks.retention import RetentionTask
from tests.component.footplate_api.builders import RUNS, eventually
from tests.component.footplate_api.conftest import Api, running
from tests.component.footplate_api.fakes import FakeCluster
from tests.support.review_server import everything, within

KEY = {"Idempotency-Key": "8e03978e-40d5-43dd-bc93-6894a57f9324"}
GPT = {"metadata": {"name": "gpt"}, "spec": {"stage": "pretrain"}}
OTHER = {"metadata": {"name": "other"}, "spec": {"stage": "pretrain"}}


@dataclass
class Clock:
    """What time it is: soon after the runs of a FakeCluster were made, until it is put forward."""

    time: datetime = datetime(2026, 11, 25, 11, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time


class Dated(FakeCluster):
    """Its runs are made when they are made."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    async def create_run(self, namespace: str, manifest: Manifest) -> Manifest:
        metadata = {**manifest["metadata"], "creationTimestamp": self._clock().isoformat()}
        return await super().create_run(namespace, {**manifest, "metadata": metadata})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest_asyncio.fixture
async def api(database_url: str, clock: Clock) -> AsyncIterator[Api]:
    async with running(database_url, Dated(clock), now=clock) as started:
        yield started


# -- twice -----------------------------------------------------------------------------


async def test_whoever_asks_twice_under_one_key_gets_one_run_and_one_answer(api: Api) -> None:
    first = await api.client.post(RUNS, json=GPT, headers=KEY)
    await api.cluster.put("research", "gpt", status={"phase": "Running"})
    again = await api.client.post(RUNS, json=dict(reversed(GPT.items())), headers=KEY)
    assert (first.status_code, again.status_code, len(api.cluster.objects)) == (201, 201, 1)
    assert again.content == first.content


async def test_a_run_that_kubernetes_has_and_the_database_does_not_is_answered_the_second_time(
    database_url: str, clock: Clock
) -> None:
    """As if the database had gone away, or the process been killed, between creating and committing."""

    class Lost(FakeCluster):
        lost = False

        async def create_run(self, namespace: str, manifest: Manifest) -> Manifest:
            created = await super().create_run(namespace, manifest)
            if not self.lost:
                self.lost = True
                raise ClusterUnavailable("The Kubernetes API server does not answer (Fake).")
            return created

    cluster = Lost()
    cluster.silent = True  # the mirror hears of it later
    async with running(database_url, cluster, now=clock) as api:
        assert (await api.client.post(RUNS, json=GPT, headers=KEY)).status_code == 503
        uid = cluster.objects["research", "gpt"]["metadata"]["uid"]
        begun = {"attempts": [{"number": 1}], "coordinator": {"podUID": "pod-1", "epoch": 1}}
        await cluster.put("research", "gpt", status=begun)
        again = await api.client.post(RUNS, json=GPT, headers=KEY)
        assert (again.status_code, again.json()["uid"], len(cluster.objects)) == (201, uid, 1)
        assert (await api.client.get(f"{RUNS}/gpt")).json()["uid"] == uid
        told = (await api.client.get(f"{RUNS}/gpt/attempts")).json()["items"]
        assert [attempt["number"] for attempt in told] == [1]
        async with api.context.database.read() as session:
            assert await coordinators.find(session, "research", "gpt", "pod-1") is not None


async def test_a_run_that_was_gone_before_its_answer_came_is_not_made_anew(api: Api) -> None:
    first = await api.client.post(RUNS, json=GPT, headers=KEY)
    async with api.context.database.write() as session:
        await session.execute(update(IdempotencyKey).values(answer=None))  # killed before the commit
    await api.cluster.remove("research", "gpt")

    async def deleted() -> Any:
        return (await api.client.get(f"{RUNS}/gpt")).json()["deletedAt"]

    await eventually(deleted, lambda at: at is not None)
    again = await api.client.post(RUNS, json=GPT, headers=KEY)
    assert (again.status_code, again.json()["uid"]) == (201, first.json()["uid"])
    assert api.cluster.objects == {}


async def test_requests_of_one_key_that_come_together_make_one_run(api: Api) -> None:
    for body in (GPT, {"metadata": {"generateName": "gpt-"}, "spec": {}}):
        api.cluster.objects.clear()
        headers = {"Idempotency-Key": f"together-{len(str(body))}"}
        answers = await asyncio.gather(*(api.client.post(RUNS, json=body, headers=headers) for _ in range(2)))
        assert {answer.status_code for answer in answers} == {201}
        assert len({answer.content for answer in answers}) == len(api.cluster.objects) == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        pytest.param(RUNS, OTHER, id="another-body"),
        pytest.param("/v1/namespaces/elsewhere/runs", GPT, id="another-namespace"),
    ],
)
async def test_a_key_is_for_one_request(api: Api, path: str, body: Any) -> None:
    await api.client.post(RUNS, json=GPT, headers=KEY)
    answer = await api.client.post(path, json=body, headers=KEY)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == ["header.Idempotency-Key"]
    assert len(api.cluster.objects) == 1


async def test_a_key_is_its_callers_own(api: Api) -> None:
    await api.client.post(RUNS, json=GPT, headers=KEY)
    bob = api.reviewer.add("t", Caller("bob"), everything)
    answer = await api.client.post(RUNS, json=OTHER, headers=KEY | bob)
    assert (answer.status_code, len(api.cluster.objects)) == (201, 2)


async def test_the_key_of_what_was_refused_is_free(api: Api) -> None:
    await api.client.post(RUNS, json=GPT)
    refused = await api.client.post(RUNS, json=GPT, headers=KEY)
    assert refused.status_code == 409  # somebody else's run of this name
    assert (await api.client.post(RUNS, json=OTHER, headers=KEY)).status_code == 201


@pytest.mark.any_database
@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "sch\u00f6n"])
async def test_a_key_that_cannot_be_is_refused_by_name(api: Api, key: str) -> None:
    answer = await api.client.post(RUNS, json=GPT, headers={b"Idempotency-Key": key.encode("latin-1")})
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == ["header.Idempotency-Key"]
    assert api.cluster.objects == {}


@pytest.mark.parametrize("named", [{"name": "gpt"}, {"generateName": "gpt-"}], ids=["name", "prefix"])
@pytest.mark.parametrize("hours", [23, 25])
async def test_keys_are_kept_for_a_day(api: Api, clock: Clock, named: dict[str, str], hours: int) -> None:
    database, body = api.context.database, {"metadata": named, "spec": {}}
    first = await api.client.post(RUNS, json=body, headers=KEY)
    await api.client.delete(f"{RUNS}/{first.json()['name']}")
    clock.time += timedelta(hours=hours)
    again = await api.client.post(RUNS, json=body, headers=KEY)
    assert again.status_code == 201
    assert (again.content == first.content) is (hours < 24)
    assert len(api.cluster.objects) == (0 if hours < 24 else 1)
    assert await kept(database) == 1
    await RetentionTask(database, lambda: clock() + timedelta(hours=25)).enforce()
    assert await kept(database) == 0


async def test_tomorrow_a_prefix_makes_another_name_and_a_name_is_taken(api: Api, clock: Clock) -> None:
    prefixed = {"metadata": {"generateName": "gpt-"}, "spec": {}}
    bodies = {"key-0": prefixed, "key-1": GPT}
    for day in range(2):
        answers = {
            key: await api.client.post(RUNS, json=body, headers={"Idempotency-Key": key})
            for key, body in bodies.items()
        }
        assert [answer.status_code for answer in answers.values()] == [201, 201 if day == 0 else 409]
        clock.time += timedelta(hours=25)
    assert len(api.cluster.objects) == 3


async def kept(database: Database) -> int:
    async with database.read() as session:
        return await session.scalar(select(func.count()).select_from(IdempotencyKey)) or 0


# -- without creating ------------------------------------------------------------------

GPU = {
    "count": 8,
    "product": "H100",
    "memoryGiB": 80,
    "peakTflops": {"bf16": 989, "fp32": 67},
    "tdpWatts": 700.0,
}
PROFILE = {
    "spec": {
        "price": {"dollarsPerNodeHour": 24.6},
        "gpu": GPU,
        "energy": {"powerUsageEffectiveness": 1.1, "gramsPerKilowattHour": 56.0},
    }
}
ASKED = {"metadata": {"name": "gpt"}, "spec": {"compute": {"profile": "h100", "nodes": 2, "spares": 1}}}


async def test_a_dry_run_says_what_would_be_and_what_an_hour_would_cost(api: Api) -> None:
    api.cluster.profiles["h100"] = PROFILE
    answer = await api.client.post(RUNS, json=ASKED, params={"dryRun": "true"}, headers=KEY)
    assert answer.status_code == 200
    assert answer.json() == {
        "namespace": "research",
        "name": "gpt",
        "labels": {},
        "annotations": {"footplate.dev/requested-by": "admin"},
        "spec": ASKED["spec"],
        "hourly": {
            "nodes": 3,
            "dollars": 73.8,
            "kilowattHours": 18.48,
            "carbonKilograms": 1.03488,
            "devicesOnly": True,
            "carbonRank": "profile",
            "carbonSource": "the profile's gramsPerKilowattHour",
        },
    }
    assert api.cluster.objects == {} and await kept(api.context.database) == 0


async def test_what_a_profile_does_not_say_is_unknown(api: Api) -> None:
    answer = await api.client.post(RUNS, json=ASKED, params={"dryRun": "true"})
    hourly = answer.json()["hourly"]
    assert hourly.pop("nodes") == 3 and set(hourly.values()) == {None} and len(hourly) == 6


async def test_a_dry_run_tells_the_price_that_is_in_force(api: Api) -> None:
    api.cluster.profiles["h100"] = PROFILE
    entry = {"profile": "h100", "dollarsPerNodeHour": 30, "effectiveFrom": "2026-01-01T00:00:00Z"}
    assert (await api.client.post("/v1/prices", json=entry)).status_code == 201
    answer = await api.client.post(RUNS, json=ASKED, params={"dryRun": "true"})
    assert answer.json()["hourly"]["dollars"] == 90


async def test_what_an_hour_would_cost_is_told_to_whoever_may_read_the_profile(api: Api) -> None:
    api.cluster.profiles["h100"] = PROFILE
    runs = within("research", verbs=("create",))
    profile = Right("get", "computeprofiles", name="h100")
    alice = api.reviewer.add("a", Caller("alice"), runs)
    bob = api.reviewer.add("b", Caller("bob"), lambda right: right == profile or runs(right))
    for who, dollars in ((alice, None), (bob, 73.8)):
        answer = await api.client.post(RUNS, json=ASKED, params={"dryRun": "true"}, headers=who)
        assert (answer.status_code, answer.json()["hourly"]["dollars"]) == (200, dollars)
        assert answer.json()["hourly"]["nodes"] == 3


async def test_a_dry_run_is_refused_as_the_run_would_be(api: Api) -> None:
    await api.client.post(RUNS, json=ASKED)
    answer = await api.client.post(RUNS, json=ASKED, params={"dryRun": "true"})
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:footplate:problem:cluster-refused")
    reader = api.reviewer.add("t", Caller("alice"), within("research"))
    assert (
        await api.client.post(RUNS, json=ASKED, params={"dryRun": "true"}, headers=reader)
    ).status_code == 403
    answer = await api.client.post(RUNS, json=ASKED, params={"dryRun": "All"})
    assert [error["field"] for error in answer.json()["errors"]] == ["query.dryRun"]


async def test_who_misspells_a_dry_run_creates_nothing(api: Api) -> None:
    for name in ("dryrun", "dry_run"):
        answer = await api.client.post(RUNS, json=ASKED, params={name: "true"})
        assert [error["field"] for error in answer.json()["errors"]] == [f"query.{name}"]
    assert (await api.client.post(RUNS, json=ASKED)).status_code == 201


# -- what one has already --------------------------------------------------------------


@pytest.mark.any_database
@pytest.mark.parametrize("path", [f"{RUNS}/gpt", RUNS, "/v1/runs"])
async def test_what_a_caller_has_is_not_sent_again(api: Api, path: str) -> None:
    await api.client.post(RUNS, json=GPT)
    await api.cluster.put("research", "gpt", status={"phase": "Queued"})

    async def phase() -> str:
        return (await api.client.get(path)).text

    await eventually(phase, lambda said: '"phase":"Queued"' in said)
    first = await api.client.get(path)
    tag = first.headers["etag"]
    assert re.fullmatch(r'"[0-9a-f]{32}"', tag) and first.headers["cache-control"] == "private, no-cache"
    for known in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        same = await api.client.get(path, headers={"If-None-Match": known})
        assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
    await api.cluster.put("research", "gpt", status={"phase": "Running"})
    await eventually(phase, lambda said: '"phase":"Running"' in said)
    changed = await api.client.get(path, headers={"If-None-Match": tag})
    assert changed.status_code == 200 and changed.headers["etag"] != tag


# -- of all namespaces -----------------------------------------------------------------


async def test_a_caller_sees_the_runs_of_the_namespaces_that_they_may_list(api: Api) -> None:
    for namespace in ("research", "team-a", "team-b"):
        for name in ("x", "y", "z"):
            await api.client.post(
                f"/v1/namespaces/{namespace}/runs", json={"metadata": {"name": name}, "spec": {}}
            )
    alice = api.reviewer.add("alice", Caller("alice"), within("team-a", "research"))
    nobody = api.reviewer.add("nobody", Caller("nobody"), within())
    api.reviewer.asked.clear()
    assert await seen(api, alice) == {"team-a", "research"}
    asked = [right for right in api.reviewer.asked if not isinstance(right, str)]
    assert len(asked) == 4  # all namespaces, and each of those that have runs; not each run
    assert await seen(api, nobody) == set()
    assert await seen(api, {}) == {"research", "team-a", "team-b"}
    denied = await api.client.get("/v1/runs", params={"formerNamespaces": "true"}, headers=alice)
    assert denied.status_code == 403


async def seen(api: Api, headers: dict[str, str]) -> set[str]:
    namespaces, cursor = set(), None
    while True:
        query = {"limit": "2", **({"cursor": cursor} if cursor else {})}
        page = (await api.client.get("/v1/runs", params=query, headers=headers)).json()
        namespaces |= {item["namespace"] for item in page["items"]}
        cursor = page["nextCursor"]
        if cursor is None:
            return namespaces


@pytest.mark.any_database
@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"sort": "name"}, id="sort"),
        pytest.param({"phase": "Running"}, id="filter"),
        pytest.param({"labelSelector": "a"}, id="labels"),
        pytest.param({"formerNamespaces": "true"}, id="former-namespaces"),
    ],
)
async def test_a_cursor_of_another_query_is_refused(api: Api, other: dict[str, str]) -> None:
    for name in ("x", "y"):
        await api.client.post(RUNS, json={"metadata": {"name": name}, "spec": {}})
    cursor = (await api.client.get(RUNS, params={"limit": 1})).json()["nextCursor"]
    assert (await api.client.get(RUNS, params={"limit": 5, "cursor": cursor})).status_code == 200
    for path, query in ((RUNS, other), ("/v1/runs", {}), ("/v1/namespaces/other/runs", {})):
        answer = await api.client.get(path, params={"cursor": cursor, **query})
        assert answer.status_code == 422
        assert [error["field"] for error in answer.json()["errors"]] == ["query.cursor"]
