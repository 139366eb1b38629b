"""Usage as an operator would write it down: records of pods and nodes of the ledger."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from footplate_api.db.database import Database
from footplate_api.instruments import ApiMetrics, MirrorHealth
from footplate_api.kubernetes.client import Resource
from footplate_api.mirror.objects import ObjectReflector
from footplate_api.tariff import repository as tariff
from footplate_api.tariff.tariff_rows import price_row
from footplate_api.usage import repository
from footplate_api.usage.usage_rows import UsageBatch
from footplate_contracts.v1alpha1.usagerecord import UsageRecordSpec
from footplate_ledger.conversion import build_node_entry, build_pod_entry, format_time, owner_of
from footplate_ledger.prices import FOREVER, PriceBookEntry
from footplate_ledger.units import Money
from footplate_ledger.usage import NodeLifetime, PodAllocation, Sku
from tests.component.footplate_api.fakes import FakeCluster
from tests.component.footplate_api.mirrors import Clock
from tests.support.usage_worlds import DAY, H100, T0


def record(pods: Iterable[PodAllocation], completed: bool = False) -> dict[str, Any]:
    """The spec of a UsageRecord of one owner's pods."""
    those = list(pods)
    [owner] = {known.owner for known in those}
    return UsageRecordSpec(
        owner=owner_of(owner),
        pods={known.uid: build_pod_entry(known) for known in those},
        completed=completed,
    ).to_json()


def node_record(nodes: Iterable[NodeLifetime], completed: bool = False) -> dict[str, Any]:
    """The spec of a UsageRecord of Nodes."""
    return UsageRecordSpec(
        nodes={known.uid: build_node_entry(known) for known in nodes}, completed=completed
    ).to_json()


def price(dollars: float, since: int = T0 - DAY, sku: Sku = H100, **changed: Any) -> dict[str, Any]:
    """The spec of a PriceEntry."""
    return {
        "profile": sku.profile,
        "capacity": sku.capacity.value,
        "region": sku.region,
        "dollarsPerNodeHour": dollars,
        "effectiveFrom": format_time(since),
        **changed,
    }


def follower(kind: type[ObjectReflector], database: Database, cluster: FakeCluster) -> Any:
    """A follower that is not running yet."""
    return kind(
        cluster, database, ApiMetrics(), MirrorHealth(), Clock(), chance=lambda: 0.0, gather_seconds=0.01
    )


async def put(cluster: FakeCluster, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    """Writes a UsageRecord."""
    return await cluster.put_object(Resource.USAGE, name, spec)


async def store(
    database: Database, pods: Iterable[PodAllocation], nodes: Iterable[NodeLifetime] = ()
) -> None:
    """Puts usage into the database as the follower does."""
    told = UsageBatch({known.uid: known for known in pods}, {known.uid: known for known in nodes})
    async with database.write(None) as session:
        await repository.store_usage(session, told)


async def known(database: Database, uids: Iterable[str], nodes: Iterable[str] = ()) -> UsageBatch:
    """What the database has of them."""
    asked = UsageBatch(dict.fromkeys(uids), dict.fromkeys(nodes))
    async with database.read() as session:
        return await repository.get_stored(session, asked)


async def enter(database: Database, name: str, spec: Mapping[str, Any], created: int = T0 - DAY) -> None:
    """Puts an entry into the book as the follower does."""
    about = {"name": name, "uid": f"uid-of-{name}", "creationTimestamp": format_time(created)}
    async with database.write() as session:
        await tariff.add_prices(session, [price_row({"metadata": about, "spec": spec})])


async def enter_all(database: Database, entries: Iterable[PriceBookEntry]) -> None:
    """As enter(), of entries of the ledger."""
    for entry in entries:
        dollars = float(entry.rate.exact / Money.NANO)
        ends = {} if entry.effective_to == FOREVER else {"effectiveTo": format_time(entry.effective_to)}
        more = {**ends, **({"supersedes": entry.supersedes} if entry.supersedes else {})}
        spec = price(dollars, entry.effective_from, entry.sku, **more)
        await enter(database, entry.id, spec, entry.created_at)
