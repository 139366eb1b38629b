"""History belongs to a namespace's uid: one that is made anew does not show its predecessor's runs."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from footplate_api.db.database import Database
from tests.component.footplate_api.builders import RUNS, batch, checkpoint, eventually, row
from tests.component.footplate_api.conftest import Api
from tests.component.footplate_api.fakes import FakeCluster
from tests.component.footplate_api.mirrors import found, mirror, namespaces, running

FIRST, SECOND = "2026-11-25T09:00:00Z", "2026-11-25T11:00:00Z"
LATER = {"creationTimestamp": "2026-11-25T11:30:00Z"}
ATTEMPT = {"number": 1, "start": "2026-11-25T10:00:00Z"}
PARTS = ("", "/metrics", "/checkpoints", "/attempts")


async def names(api: Api, **query: str) -> list[str]:
    page = (await api.client.get(RUNS, params={"includeDeleted": "true", **query})).json()
    return [item["name"] for item in page["items"]]


async def made_anew(api: Api) -> str:
    """A run with telemetry in `research`, which is then made anew, without any run; the run's uid."""
    await api.cluster.make_namespace("research", FIRST)
    stored = await api.cluster.put("research", "gpt", status=running(1, attempts=[ATTEMPT]))
    uid = str(stored["metadata"]["uid"])
    body, headers = batch(uid, [row(1)], [checkpoint(1)]), await api.coordinator(uid)
    await api.client.post(f"{RUNS}/gpt/telemetry", json=body, headers=headers)
    await eventually(lambda: names(api), lambda found: found == ["gpt"])
    await api.cluster.make_namespace("research", SECOND)
    await eventually(lambda: names(api), lambda found: found == [])
    return uid


@pytest.mark.parametrize("part", PARTS)
async def test_the_predecessors_runs_are_shown_on_request_only(api: Api, part: str) -> None:
    uid = await made_anew(api)
    path = f"{RUNS}/gpt{part}"
    assert (await api.client.get(path)).status_code == 404
    assert (await api.client.get(path, params={"uid": uid})).status_code == 404
    former = await api.client.get(path, params={"formerNamespaces": "true"})
    assert former.status_code == 200
    assert uid in former.text
    assert await names(api, formerNamespaces="true") == ["gpt"]


async def test_runs_of_the_new_one_are_its_own(api: Api) -> None:
    await made_anew(api)
    await api.cluster.put("research", "bert", metadata=LATER)
    await eventually(lambda: names(api), lambda found: found == ["bert"])
    assert await names(api, formerNamespaces="true") == ["bert", "gpt"]


async def test_a_namespace_that_is_gone_keeps_its_history_until_the_name_is_given_again(api: Api) -> None:
    await api.cluster.make_namespace("research", FIRST)
    await api.cluster.put("research", "gpt")
    await eventually(lambda: names(api), lambda found: found == ["gpt"])
    await api.cluster.remove("research", "gpt")
    del api.cluster.namespaces["research"]
    api.cluster.forget()
    gone = await eventually(lambda: get(api), lambda run: run["deletedAt"] is not None)
    assert gone["name"] == "gpt"


async def uid_of(database: Database, name: str = "gpt") -> Any:
    async with database.read() as session:
        return await session.scalar(text("SELECT namespace_uid FROM runs WHERE name = :name"), {"name": name})


@pytest.mark.parametrize("runs_first", [True, False], ids=["runs-first", "namespaces-first"])
async def test_whichever_is_heard_of_first(database: Database, runs_first: bool) -> None:
    cluster = FakeCluster()
    uid = await cluster.make_namespace("research", FIRST)
    await cluster.put("research", "gpt")
    watchers = [mirror(database, cluster), namespaces(database, cluster)]
    for watcher in watchers if runs_first else reversed(watchers):
        await watcher.list()
    assert await uid_of(database) == uid


async def test_a_run_that_is_older_than_its_namespace_is_a_predecessors(database: Database) -> None:
    cluster = FakeCluster()
    await cluster.make_namespace("research", SECOND)
    await cluster.put("research", "gpt")
    for watcher in (namespaces(database, cluster), mirror(database, cluster)):
        await watcher.list()
    assert (await uid_of(database), await found(database, "gpt")) == (None, None)


async def test_a_run_that_is_heard_of_before_its_new_namespace_is_given_to_it(database: Database) -> None:
    cluster = FakeCluster()
    first = await cluster.make_namespace("research", FIRST)
    watcher = namespaces(database, cluster)
    await watcher.list()
    second = await cluster.make_namespace("research", SECOND)
    await cluster.put("research", "old")
    await cluster.put("research", "gpt", metadata=LATER)
    await mirror(database, cluster).list()
    assert await uid_of(database) == first
    await watcher.list()
    assert (await uid_of(database), await uid_of(database, "old")) == (second, first)


async def get(api: Api) -> Any:
    return (await api.client.get(f"{RUNS}/gpt")).json()
