"""All records of a cluster are more than fits: a sweep has a page of them at once."""

from __future__ import annotations

import json
import weakref
from collections.abc import AsyncIterator
from typing import Any

from footplate_operator.errors import NotFound
from footplate_operator.runtime.kinds import Json
from footplate_operator.usage.sweep import RECORDS_A_PAGE
from footplate_operator.usage.writes import USAGE_RECORD, over
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
    await books.keeper.tend()
    body = copied(cluster.objects[USAGE_RECORD, "uid-1-0"])
    for number in range(2 * RECORDS_A_PAGE):
        name = f"other-{number}"
        spec = {**body["spec"], "owner": {**body["spec"]["owner"], "name": name, "uid": name}}
        told = over(NOON) if number % 2 else {"metadata": {}, "spec": {}}
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
    books.cluster.objects[USAGE_RECORD, "uid-1-0"] = {**body, "spec": {**body["spec"], "over": True}}
    books.cluster.refuse["merge", USAGE_RECORD] = NotFound("taken", 404)
    await books.sweeper.sweep()
    assert books.cluster.calls[-1] == "merge UsageRecord"
