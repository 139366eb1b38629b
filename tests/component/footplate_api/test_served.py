"""An installation that serves some namespaces follows these alone, and takes no other run for gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml
from sqlalchemy import select

from cluster.kubernetes.envtest import ApiServer
from footplate_api.db.database import Database
from footplate_api.instruments import RUNS as KIND
from footplate_api.instruments import ApiMetrics, MirrorHealth
from footplate_api.kubernetes.client import KubernetesClient, Resource
from footplate_api.kubernetes.http import HttpKubernetesClient
from footplate_api.kubernetes.namespace_scope import NamespaceScope
from footplate_api.mirror import kubernetes_sync as pipelines
from footplate_api.models.run import RunRow
from footplate_api.models.usage import NodeUsageRow
from footplate_ledger.usage import TOLD, EndTime
from tests.component.footplate_api.builders import eventually
from tests.component.footplate_api.conftest import running as serving
from tests.component.footplate_api.fakes import FakeCluster
from tests.component.footplate_api.kube import kubectl
from tests.component.footplate_api.mirrors import Clock, running
from tests.component.footplate_api.test_gauges import export, scraped
from tests.component.footplate_api.test_kubernetes import manifest, with_token
from tests.component.footplate_api.usages import node_record, record
from tests.support.chart import NAMESPACE, rendered
from tests.support.usage_worlds import RUN, T0, node, pod

TEAMS = ("team-a", "team-b", "team-c")
TWO = NamespaceScope(TEAMS[:2])
Asking = Callable[[], Awaitable[bool]]


@asynccontextmanager
async def followed(
    database: Database, cluster: KubernetesClient, served: NamespaceScope, health: MirrorHealth | None = None
) -> AsyncIterator[MirrorHealth]:
    """All that is followed in Kubernetes, for the block."""
    health = health or MirrorHealth.of(served.watched_namespaces)
    following = pipelines.run_reflectors(cluster, database, ApiMetrics(), health, Clock(), served)
    task = asyncio.create_task(following)
    try:
        await eventually(_heard(health), bool, seconds=30)
        yield health
    finally:
        task.cancel()
        await asyncio.wait([task])


def _heard(health: MirrorHealth) -> Asking:
    async def heard() -> bool:
        return health.heard_at is not None

    return heard


async def shown(database: Database) -> Mapping[str, bool]:
    """Namespace -> whether its run is known to be gone."""
    async with database.read() as session:
        return {run.namespace: run.deleted_at is not None for run in await session.scalars(select(RunRow))}


async def in_all(cluster: FakeCluster) -> None:
    """A run in each namespace."""
    for name in TEAMS:
        await cluster.make_namespace(name, "2026-11-25T09:00:00Z")
        await cluster.put(name, "gpt", status=running(1))


async def test_runs_of_the_namespaces_that_are_served(database: Database) -> None:
    cluster = FakeCluster()
    await in_all(cluster)
    async with followed(database, cluster, TWO):
        assert await shown(database) == {"team-a": False, "team-b": False}
        await cluster.put("team-c", "bert")
        await cluster.remove("team-b", "gpt")
        gone = {"team-a": False, "team-b": True}
        await eventually(lambda: shown(database), lambda found: found == gone)


async def test_what_is_not_served_any_more_is_not_taken_for_gone(database: Database) -> None:
    cluster = FakeCluster()
    await in_all(cluster)
    async with followed(database, cluster, NamespaceScope()):
        assert await shown(database) == dict.fromkeys(TEAMS, False)
    await cluster.remove("team-a", "gpt")  # while nobody looks: the next list lacks it
    cluster.forget()
    async with followed(database, cluster, TWO):
        pass
    assert await shown(database) == {"team-a": True, "team-b": False, "team-c": False}
    await export(database)
    assert (await scraped(database, served=TWO))["footplate_runs"] == {"Running": 1.0}
    assert (await scraped(database))["footplate_runs"] == {"Running": 2.0}


async def test_a_cluster_that_was_set_back_is_taken_over_in_all_places(database: Database) -> None:
    cluster = FakeCluster()
    await in_all(cluster)
    backup = cluster.backup()
    await cluster.put("team-a", "late")
    for _ in range(9):
        await cluster.put("team-b", "gpt", status=running(7))
    async with followed(database, cluster, TWO):
        pass
    cluster.restore(backup)
    async with followed(database, cluster, TWO):

        async def live() -> list[tuple[str, str, int | None]]:
            async with database.read() as session:
                runs = await session.scalars(select(RunRow).where(RunRow.deleted_at.is_(None)))
                return sorted((run.namespace, run.name, run.step) for run in runs)

        expected = [("team-a", "gpt", 1), ("team-b", "gpt", 1)]
        await eventually(live, lambda found: found == expected)


async def test_usage_of_runs_elsewhere_is_left_to_whom_it_belongs(database: Database) -> None:
    cluster = FakeCluster()
    await cluster.put_object(Resource.USAGE, "theirs", record([pod()], completed=True), {})
    await cluster.put_object(Resource.USAGE, "ours", record([pod()], completed=True), {})
    assert RUN.namespace == "research"
    async with followed(database, cluster, TWO) as health:
        await eventually(_known(health, "UsageRecords"), bool)
        assert set(cluster.others[Resource.USAGE]) == {"theirs", "ours"}
    async with followed(database, cluster, NamespaceScope(("research",))):

        async def left() -> set[str]:
            return set(cluster.others[Resource.USAGE])

        await eventually(left, lambda names: not names)


async def test_one_installation_of_several_keeps_what_the_cluster_has_once(sqlite_url: str) -> None:
    cluster, other = FakeCluster(), NamespaceScope(TEAMS[:1], cluster=False)
    over = node_record([node(end=EndTime(TOLD, T0 + 60))], completed=True)
    async with serving(sqlite_url, cluster, served=other) as api:
        await cluster.put_object(Resource.USAGE, "node-1", over, {})
        asked = {"profile": "small", "dollarsPerNodeHour": "0.1"}
        refused = await api.client.post("/v1/prices", json=asked)
        assert (refused.status_code, refused.json()["title"]) == (409, "Price book not owned")

        async def stored() -> int:
            async with api.context.database.read() as session:
                return len((await session.scalars(select(NodeUsageRow))).all())

        await eventually(stored, lambda count: count == 1)
        assert set(cluster.others[Resource.USAGE]) == {"node-1"}, "the other one takes it away"


def _known(health: MirrorHealth, kind: str) -> Asking:
    async def known() -> bool:
        return kind in health.heard

    return known


async def test_of_several_places_the_one_that_is_worst_off_counts() -> None:
    now, health = Clock()(), MirrorHealth.of(TEAMS[:2])
    assert health.failure == "no list of runs has been read yet"
    health.record_run_contact("team-a", now)
    assert health.stale_since(now) == "unknown"
    health.troubles.clear()
    health.record_run_contact("team-b", now)
    assert health.stale_since(now) is None
    health.troubles[f"{KIND} in team-b"] = "away"
    assert health.stale_since(now) == now.isoformat(timespec="seconds")


async def test_nothing_is_written_where_nobody_would_act_upon_it(sqlite_url: str) -> None:
    cluster = FakeCluster()
    await in_all(cluster)
    async with serving(sqlite_url, cluster, served=TWO) as api:
        posted = await api.client.post("/v1/namespaces/team-c/runs", json=manifest("late"))
        deleted = await api.client.delete("/v1/namespaces/team-c/runs/gpt")
        assert (posted.status_code, deleted.status_code) == (404, 404)
        assert posted.json()["title"] == "Namespace not served"
        assert posted.json()["detail"].startswith(
            "namespace: this installation of Footplate serves the namespaces team-a, team-b, not 'team-c': no"
        )
        assert ("team-c", "gpt") in cluster.objects
        listed = await api.client.get("/v1/namespaces/team-c/runs")
        assert listed.headers["Footplate-Stale-Since"] == "unknown"
        posted = await api.client.post("/v1/namespaces/team-a/runs", json=manifest("late"))
        assert posted.status_code == 201


async def test_it_needs_no_right_elsewhere(
    kubernetes: ApiServer, sqlite_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With the rights that the chart gives the API where it watches one namespace."""
    for name in (NAMESPACE, "served", "other"):
        kubectl(kubernetes, "create", "namespace", name)
    narrowed = rendered("--set-json", 'operator.watchNamespaces=["served"]')
    account = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "RoleBinding")
    (tmp_path / "rights.yaml").write_text(
        yaml.safe_dump_all(
            item
            for item in narrowed
            if item["kind"] in account and item["metadata"]["name"].startswith("footplate-api")
        )
    )
    kubectl(kubernetes, "apply", "--server-side", "--filename", str(tmp_path / "rights.yaml"))
    for namespace in ("served", "other"):
        (tmp_path / "run.yaml").write_text(yaml.safe_dump(manifest("gpt")))
        kubectl(kubernetes, "create", "--namespace", namespace, "--filename", str(tmp_path / "run.yaml"))
    token = kubectl(kubernetes, "create", "token", "footplate-api", "--namespace", NAMESPACE).strip()
    database = Database(sqlite_url)
    async with with_token(kubernetes, tmp_path, token) as client:
        assert isinstance(client, HttpKubernetesClient)
        async with followed(database, client, NamespaceScope(("served",))) as health:
            assert await shown(database) == {"served": False}
            await asyncio.to_thread(kubectl, kubernetes, "delete", "trun", "gpt", "--namespace", "served")
            await eventually(lambda: shown(database), lambda found: found == {"served": True}, seconds=30)
            assert not health.troubles
    await database.close()
    assert not [line for line in caplog.messages if "may not" in line]
