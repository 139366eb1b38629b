"""A database belongs to one cluster: another's is refused, once Kubernetes answers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from footplate_api.db.database import Database
from footplate_api.errors import AnotherCluster
from footplate_api.instruments import MirrorHealth
from footplate_api.mirror.kubernetes_sync import verify_cluster
from tests.component.footplate_api.builders import RUNS, eventually
from tests.component.footplate_api.conftest import running
from tests.component.footplate_api.fakes import FakeCluster
from tests.component.footplate_api.mirrors import found


async def test_the_first_cluster_takes_the_database_and_comes_back_to_it(database: Database) -> None:
    for _ in range(2):
        await verify_cluster(FakeCluster(uid="a"), database, MirrorHealth())


async def test_another_cluster_is_refused_with_both_uids_and_a_way_out(database: Database) -> None:
    await verify_cluster(FakeCluster(uid="a"), database, MirrorHealth())
    with pytest.raises(AnotherCluster) as refused:
        await verify_cluster(FakeCluster(uid="b"), database, MirrorHealth())
    assert all(word in str(refused.value) for word in ("'a'", "'b'", "FOOTPLATE_DATABASE_URL"))
    await verify_cluster(FakeCluster(uid="a"), database, MirrorHealth())


async def test_it_waits_until_kubernetes_answers(database: Database) -> None:
    cluster, health = FakeCluster(), MirrorHealth()
    cluster.available = False
    waiting = asyncio.create_task(verify_cluster(cluster, database, health, chance=lambda: 0.0))

    async def trouble() -> str | None:
        return health.failure

    await eventually(trouble, lambda said: "does not answer" in str(said))
    cluster.available = True
    await asyncio.wait_for(waiting, 20)


async def test_an_answer_without_sense_is_waited_out(database: Database) -> None:
    class Confused(FakeCluster):
        asked = 0

        async def get_cluster_uid(self) -> str:
            self.asked += 1
            return {}["metadata"] if self.asked == 1 else await super().get_cluster_uid()

    health = MirrorHealth()
    await verify_cluster(Confused(), database, health, chance=lambda: 0.0)
    assert health.failure == "The mirror cannot start (KeyError)."


async def test_nothing_of_another_cluster_is_mirrored_and_no_run_deleted(
    database_url: str,
) -> None:
    ours, theirs = FakeCluster(uid="a"), FakeCluster(uid="b")
    await ours.put("research", "gpt")
    await theirs.put("research", "bert")
    async with running(database_url, ours) as api:
        await eventually(lambda: names(api.client), lambda found: found == ["gpt"])
    async with running(database_url, theirs) as api:
        await asyncio.wait_for(api.context.mirror.refused.wait(), 20)
        assert await names(api.client) == ["gpt"]
        assert "another cluster" in (await api.client.get("/readyz")).json()["detail"]
        assert await found(api.context.database, "bert") is None


async def test_without_kubernetes_the_history_is_served(database_url: str) -> None:
    cluster = FakeCluster()
    await cluster.put("research", "gpt")
    async with running(database_url, cluster) as api:
        await eventually(lambda: names(api.client), lambda found: found == ["gpt"])
    cluster.available = False
    async with running(database_url, cluster) as api:
        assert await names(api.client) == ["gpt"]
        cluster.available = True
        await cluster.put("research", "bert")
        await eventually(lambda: names(api.client), lambda found: found == ["bert", "gpt"])


async def names(client: Any) -> list[str]:
    return [item["name"] for item in (await client.get(RUNS)).json()["items"]]
