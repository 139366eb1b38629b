"""Of several installations in a cluster each looks after its own, and one after what the cluster has once."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from footplate_operator.errors import RequestForbidden
from footplate_operator.runtime.kinds import Json, Kind
from footplate_operator.scope import Scope
from footplate_operator.tariff.tariffs import PRICE_ENTRY
from footplate_operator.usage.writes import USAGE_RECORD, build_completed_patch
from tests.support.fake_cluster import FakeCluster, copied
from tests.support.operator_fakes import profile_manifest
from tests.support.operator_world import World
from tests.support.pod_usage import NOON, Bookkeeping, begun, node

ELSEWHERE = Scope(("another",), cluster=False)


async def books_of(scope: Scope, cluster: type[FakeCluster] = FakeCluster) -> Bookkeeping:
    """Records of a run of `default` that another installation keeps, and an operator of `scope`."""
    books = await begun(cluster=cluster)
    body = copied(books.cluster.objects[USAGE_RECORD, "uid-1-0"])
    owner = {**body["spec"]["owner"], "name": "theirs", "uid": "theirs"}
    metadata = {"labels": body["metadata"]["labels"], "name": "theirs-0"}
    books.cluster.put({**body, "metadata": metadata, "spec": {**body["spec"], "owner": owner}})
    books.sweeper = replace(books.sweeper, scope=scope)
    return books


async def test_records_of_runs_elsewhere_are_not_looked_after() -> None:
    ours = await books_of(Scope())
    await ours.sweeper.sweep()
    assert ours.keeper.kept.keys() == {"uid-1", "theirs"}
    theirs = await books_of(ELSEWHERE)
    await theirs.sweeper.sweep()
    assert theirs.keeper.kept.keys() == {"uid-1"}


async def test_once_nobody_says_for_a_day_that_their_pods_go_on_somebody_has_to_end_them() -> None:
    books = await books_of(ELSEWHERE)
    books.clock.advance(86_500)
    await books.sweeper.sweep()
    assert "theirs" in books.keeper.kept


class Guarded(FakeCluster):
    """A policy of another installation lets nobody else delete its records."""

    async def delete(self, kind: Kind, namespace: str, name: str, *more: object, **others: object) -> None:
        if name.startswith("theirs"):
            raise RequestForbidden("records of usage are written by the operator", 403, "Forbidden")
        await super().delete(kind, namespace, name)


async def test_records_elsewhere_that_may_not_be_deleted_keep_the_sweep_from_nothing() -> None:
    books = await books_of(ELSEWHERE, Guarded)
    body = copied(books.cluster.objects[USAGE_RECORD, "theirs-0"])
    told = build_completed_patch(NOON)
    for number in range(20):
        about = {"labels": body["metadata"]["labels"], "name": f"theirs-{number}", **told["metadata"]}
        books.cluster.put({**body, "metadata": about, "spec": {**body["spec"], **told["spec"]}})
    books.clock.advance(8 * 86_400)
    await books.sweeper.sweep()
    assert len([name for name in books.cluster.names(USAGE_RECORD) if name.startswith("theirs")]) == 20


async def test_nodes_are_noted_by_one() -> None:
    def written(books: Bookkeeping) -> list[str]:
        return [name for name in books.cluster.names(USAGE_RECORD) if name.startswith("node-")]

    noting, other = await begun(), await begun()
    other.keeper.nodes.notes = False
    for books in (noting, other):
        body: Json = books.cluster.put(node("n9", NOON))
        books.keeper.nodes.put(body)
        books.bind("w9", "n9")
        await books.note()
        before = written(books)
        await books.keeper.write_due()
        assert (written(books) == before) is (books is other)
    other.keeper.nodes.drop(other.cluster.put(node("n8", NOON)))
    assert await other.keeper.nodes.list_deletable({}, ()) == []


async def test_the_price_of_a_profile_is_entered_by_one() -> None:
    for scope, entered in ((Scope(), 1), (Scope(("default",), cluster=False), 0)):
        world = World()
        world.scope = scope
        world.cluster.put(profile_manifest(price={"dollarsPerNodeHour": 2}))
        world.start_operator()
        world.submit()
        await world.reconcile()
        keeping = asyncio.create_task(world.recorder.run())
        for _ in range(200):  # nothing here waits for anybody else
            await asyncio.sleep(0)
        keeping.cancel()
        await asyncio.wait([keeping])
        assert len(world.cluster.all(PRICE_ENTRY)) == entered
