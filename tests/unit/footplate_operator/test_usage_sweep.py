"""All records of a cluster are more than fits: a sweep has a page of them at once."""

from __future__ import annotations

import json
import weakref
from collections.abc import AsyncIterator
from typing import Any

import pytest

from footplate_operator.errors import ClusterError, NotFound
from footplate_operator.runtime.kinds import Json, Kind
from footplate_operator.usage.sweep import RECORDS_A_PAGE
from footplate_operator.usage.writes import USAGE_RECORD, build_completed_patch
from tests.support.fake_cluster import FakeCluster, copied
from tests.support.pod_usage import NOON, Bookkeeping, begun, node


class Part(dict[str, Any]):
    """An object of a manifest, whose end can be seen."""


class Weighed(FakeCluster):
    """Counts, when a page is asked for, what of the pages before it is still held by somebody."""

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self.held: list[int] = []
        self.sizes: list[int] = []

    async def pages(self, *given: Any, **more: Any) -> AsyncIterator[list[Json]]:
        parts: list[weakref.ref[Part]] = []

        def weighed(found: Json) -> Json:
            part = Part(found)
            parts.append(weakref.ref(part))
            return part

        async for page in super().pages(*given, **more):
            self.held.append(sum(part() is not None for part in parts))
            self.sizes.append(len(page))
            yield json.loads(json.dumps(page), object_hook=weighed)
        self.held.append(sum(part() is not None for part in parts))


async def test_no_more_than_a_page_is_held_at_once() -> None:
    books = Bookkeeping(Weighed)
    cluster = books.cluster
    assert isinstance(cluster, Weighed)
    for number in range(3):
        books.keeper.nodes.put(cluster.put(node(f"n{number}", NOON)))
        books.bind(f"w{number}", f"n{number}")
    await books.note()
    await books.keeper.write_due()
    body = copied(cluster.objects[USAGE_RECORD, "uid-1-0"])
    for number in range(2 * RECORDS_A_PAGE):
        name = f"other-{number}"
        spec = {**body["spec"], "owner": {**body["spec"]["owner"], "name": name, "uid": name}}
        told = build_completed_patch(NOON) if number % 2 else {"metadata": {}, "spec": {}}
        metadata = {"labels": body["metadata"]["labels"], "name": f"{name}-0", **told["metadata"]}
        cluster.put({**body, "metadata": metadata, "spec": {**spec, **told["spec"]}})
    books.clock.advance(8 * 86_400)
    await books.sweeper.sweep()
    assert cluster.sizes == [RECORDS_A_PAGE, RECORDS_A_PAGE, 4] and cluster.held == [0, 0, 0, 0]
    others = {f"other-{number}" for number in range(0, 2 * RECORDS_A_PAGE, 2)}
    assert books.keeper.kept.keys() == {"uid-1", *others}, "all pages were looked at"
    assert len(books.records()) == 4 + len(others), "those that nobody took went"


async def test_a_record_that_was_taken_meanwhile_stops_nothing() -> None:
    books = await begun()
    books.end("w0")
    await books.note()
    [body] = books.cluster.all(USAGE_RECORD)
    books.cluster.objects[USAGE_RECORD, "uid-1-0"] = {**body, "spec": {**body["spec"], "completed": True}}
    books.cluster.refuse["merge", USAGE_RECORD] = NotFound("taken", 404)
    await books.sweeper.sweep()
    assert books.cluster.calls[-1] == "merge UsageRecord"


class Refusing(FakeCluster):
    """Refuses to delete some records, and to list beyond the first page."""

    refused: frozenset[str] = frozenset()
    breaks = False

    async def delete(self, kind: Kind, namespace: str, name: str, *more: Any, **others: Any) -> None:
        if name in self.refused:
            raise ClusterError("Invalid")
        await super().delete(kind, namespace, name, *more, **others)

    async def pages(self, *given: Any, **more: Any) -> AsyncIterator[list[Json]]:
        async for page in super().pages(*given, **more):
            yield page
            if self.breaks:
                raise ClusterError("the token has expired")


async def overdue(records: int) -> tuple[Bookkeeping, Refusing]:
    """Records that nobody took."""
    books = await begun(cluster=Refusing)
    assert isinstance(books.cluster, Refusing)
    body = copied(books.cluster.objects[USAGE_RECORD, "uid-1-0"])
    for number in range(records):
        told = build_completed_patch(NOON)
        name = f"r{number:02}"
        metadata = {"labels": body["metadata"]["labels"], "name": name, **told["metadata"]}
        books.cluster.put({**body, "metadata": metadata, "spec": {**body["spec"], **told["spec"]}})
    books.clock.advance(8 * 86_400)
    return books, books.cluster


def left(cluster: FakeCluster) -> set[str]:
    return {body["metadata"]["name"] for body in cluster.all(USAGE_RECORD)} & {f"r{n:02}" for n in range(99)}


async def test_a_few_records_that_cannot_go_keep_none_of_the_others() -> None:
    books, cluster = await overdue(5)
    cluster.refused = frozenset({"r00", "r03"})
    await books.sweeper.sweep()
    assert left(cluster) == {"r00", "r03"}


async def test_many_failures_end_a_sweep() -> None:
    books, cluster = await overdue(20)
    cluster.refused = frozenset(f"r{number:02}" for number in range(20))
    with pytest.raises(ClusterError, match="Invalid"):
        await books.sweeper.sweep()


async def test_a_list_that_breaks_off_leaves_less_for_the_next() -> None:
    books, cluster = await overdue(3 * RECORDS_A_PAGE)
    cluster.breaks = True
    with pytest.raises(ClusterError, match="expired"):
        await books.sweeper.sweep()
    assert 2 * RECORDS_A_PAGE <= len(left(cluster)) <= 2 * RECORDS_A_PAGE + 1
