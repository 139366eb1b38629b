"""Prices and intensities as the cluster has them, and whom a change of them wakes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest

from footplate_ledger.units import HourlyRate
from footplate_ledger.usage import Sku
from footplate_operator.errors import ClusterError, LeadershipLost, NotFound, RequestForbidden
from footplate_operator.runtime.handlers import Handlers
from footplate_operator.runtime.kinds import Json, Kind
from footplate_operator.runtime.objects import Key
from footplate_operator.runtime.workqueue import WorkQueue
from footplate_operator.tariff.tariffs import (
    CARBON_INTENSITY,
    KINDS,
    LIST_SECONDS,
    PRICE_ENTRY,
    RELIST_SECONDS,
    TariffCache,
)
from footplate_operator.trainingrun.run import TRAINING_RUN
from tests.support.fake_cluster import FakeCluster, copied
from tests.support.operator_fakes import profile_manifest, run_manifest
from tests.support.operator_world import World
from tests.support.simulation.virtual_loop import in_virtual_time

LONG = {**run_manifest()["spec"]["training"], "steps": 10_000}
H100 = Sku("h100")
NOON = 1767268800  # 2026-01-01T12:00:00Z
MIDNIGHT = NOON - 12 * 3600


def entry(name: str = "first", dollars: object = 12.0, **spec: Any) -> Json:
    return {
        "apiVersion": "footplate.dev/v1alpha1",
        "kind": "PriceEntry",
        "metadata": {"name": name, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {
            "profile": "h100",
            "dollarsPerNodeHour": dollars,
            "effectiveFrom": "2026-01-01T00:00:00Z",
            **spec,
        },
    }


def intensity(name: str = "france", grams: object = 50, **spec: Any) -> Json:
    point = {"from": "2026-01-01T00:00:00Z", "gramsPerKilowattHour": grams}
    return {
        "apiVersion": "footplate.dev/v1alpha1",
        "kind": "CarbonIntensity",
        "metadata": {"name": name, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"zone": "FRA", "points": [point], **spec},
    }


class Market:
    """A cluster with prices, and an operator that follows them."""

    def __init__(self, *bodies: Json, cluster: type[FakeCluster] = FakeCluster) -> None:
        self.cluster = cluster(kinds=KINDS)
        for body in bodies:
            self.cluster.put(body)
        self.tariffs = TariffCache(self.cluster, self.cluster.clock)

    def told(self, body: Json) -> int | None:
        """Stored, and told by the watch."""
        kind = PRICE_ENTRY if body["kind"] == "PriceEntry" else CARBON_INTENSITY
        return self.tariffs.put(kind, self.cluster.put(body))

    def says(self, body: Json) -> bool:
        """Whether the book or the series is of what `body` says alone."""
        tariff = self.tariffs.current_tariff()
        told = [known.id for known in tariff.book.entries] or list(tariff.series.points)
        return told == [body["metadata"]["name"] if body["kind"] == "PriceEntry" else "FRA"]

    @property
    def rate(self) -> HourlyRate | None:
        return self.tariffs.current_tariff().book.rate(H100, NOON)


async def test_they_are_listed_before_anything_follows_from_them() -> None:
    market = Market(entry(), intensity())
    await market.tariffs.ensure_listed()
    assert market.rate == HourlyRate.dollars_per_hour(12)
    assert market.tariffs.current_tariff().series.at("FRA", NOON) == 50
    assert market.tariffs.current_tariff() is market.tariffs.current_tariff(), "nothing has changed"


async def test_what_the_watch_lists_again_is_no_news() -> None:
    market = Market(entry())
    listed = market.cluster.all(PRICE_ENTRY)[0]
    assert market.tariffs.put(PRICE_ENTRY, listed) is None, "nobody has decided anything yet"
    await market.tariffs.ensure_listed()
    assert market.tariffs.put(PRICE_ENTRY, listed) is None
    assert market.told(entry("second", 9.0, supersedes="first")) == MIDNIGHT
    assert market.rate == HourlyRate.dollars_per_hour(9)
    assert market.tariffs.put(PRICE_ENTRY, listed) is None, "an older version"


async def test_a_list_that_fails_is_made_again() -> None:
    market = Market(entry())
    market.cluster.refuse["find", CARBON_INTENSITY] = ClusterError("down")
    with pytest.raises(ClusterError):
        await market.tariffs.ensure_listed()
    market.cluster.refuse.clear()
    await market.tariffs.ensure_listed()
    assert market.rate == HourlyRate.dollars_per_hour(12)


async def test_what_went_before_the_list_came_stays_away() -> None:
    market = Market(entry(), entry("gone", 1.0))
    tariffs = market.tariffs
    tariffs.drop(PRICE_ENTRY, entry("gone"))
    await tariffs.ensure_listed()
    assert [known.id for known in tariffs.current_tariff().book.entries] == ["first"]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(entry("bad", "dear"), id="price-is-text"),
        pytest.param(entry("bad", effectiveFrom="yesterday"), id="time-is-none"),
        pytest.param(entry("bad", effectiveFrom="2026-01-01T00:00:00"), id="time-without-zone"),
        pytest.param(entry("bad", discount=5), id="field-of-another-release"),
        pytest.param({**entry("bad"), "spec": None}, id="no-spec"),
        pytest.param(intensity("bad", "clean"), id="intensity-is-text"),
        pytest.param(
            intensity("bad", points=[{"from": "noon", "gramsPerKilowattHour": 1}]), id="point-at-noon"
        ),
    ],
)
async def test_what_cannot_be_read_is_left_out_and_named(
    body: Json, caplog: pytest.LogCaptureFixture
) -> None:
    market = Market(entry(), intensity(), body)
    await market.tariffs.ensure_listed()
    assert market.rate == HourlyRate.dollars_per_hour(12)
    assert market.tariffs.current_tariff().series.points == {"FRA": [(MIDNIGHT, Fraction(50))]}
    (line,) = caplog.records
    assert {"kind": body["kind"], "name": "bad"}.items() <= vars(line)["fields"].items()


async def test_one_that_becomes_unreadable_is_left_out_from_then_on() -> None:
    market = Market(intensity(grams=10))
    await market.tariffs.ensure_listed()
    assert market.told(intensity(grams="clean")) == MIDNIGHT
    assert market.tariffs.current_tariff().series.points == {}
    assert market.told(intensity(grams=20)) == MIDNIGHT
    assert market.tariffs.current_tariff().series.at("FRA", NOON) == 20


async def test_one_that_is_deleted_counts_no_more() -> None:
    market = Market(entry())
    await market.tariffs.ensure_listed()
    assert market.tariffs.drop(PRICE_ENTRY, entry()) == MIDNIGHT
    assert market.rate is None
    assert market.tariffs.drop(PRICE_ENTRY, entry()) is None


async def test_it_is_told_from_which_second_on_amounts_are_others() -> None:
    market = Market(entry(), intensity())
    await market.tariffs.ensure_listed()
    noon = "2026-01-01T12:00:00Z"
    assert market.told(entry("later", 9.0, effectiveFrom=noon)) == NOON
    assert market.told(entry("instead", 8.0, effectiveFrom=noon, supersedes="first")) == MIDNIGHT
    points = [{"from": noon, "gramsPerKilowattHour": 40}]
    first = intensity()["spec"]["points"]
    assert market.told(intensity(points=[*first, *points])) == NOON
    assert market.told(intensity(points=[*points, *first])) is None, "in another order"
    assert market.told(intensity(zone="DEU", points=first)) == MIDNIGHT


async def test_profiles_have_a_price_until_the_last_of_their_entries_ends() -> None:
    market = Market(entry(), entry("other", profile="a100", effectiveTo="2026-01-01T12:00:00Z"))
    assert market.tariffs.list_priced_profiles(NOON) is None, "not listed yet"
    await market.tariffs.ensure_listed()
    assert market.tariffs.list_priced_profiles(NOON - 1) == {"h100", "a100"}
    assert market.tariffs.list_priced_profiles(NOON) == {"h100"}
    market.told(entry("end", effectiveTo="2026-01-01T12:00:00Z", supersedes="first"))
    assert market.tariffs.list_priced_profiles(NOON) == set()


async def test_what_was_written_since_and_concerns_the_past_is_a_correction() -> None:
    market = Market(entry())
    await market.tariffs.ensure_listed()
    corrected = market.tariffs.has_correction
    assert corrected("h100", MIDNIGHT, NOON) and not corrected("a100", MIDNIGHT, NOON)
    assert not corrected("h100", MIDNIGHT + 1, NOON), "it was known"
    assert not corrected("h100", MIDNIGHT, MIDNIGHT), "it ended before"
    late = entry("late", 9.0, effectiveFrom="2026-01-01T18:00:00Z", supersedes="first")
    late["metadata"]["creationTimestamp"] = "2026-01-01T20:00:00Z"
    market.told(late)
    assert corrected("h100", NOON, NOON), "what it supersedes held before"
    other = entry("other", profile="a100", supersedes="late")
    other["metadata"]["creationTimestamp"] = "2026-01-01T23:00:00Z"
    market.told(other)
    assert not corrected("h100", NOON + 9 * 3600, NOON + 8 * 3600), "of another profile it corrects nothing"


# -- whom a change wakes ----------------------------------------------------------------


async def test_a_change_of_the_tariff_wakes_what_trains_and_what_has_ended_when_there_is_time() -> None:
    queue: WorkQueue[Key] = WorkQueue(random.Random(0))
    world = World()
    told = Handlers(world.reconciler.controller, world.cache, queue).watches()
    for version, (name, phase) in enumerate((("ended", "Succeeded"), ("live", "Running")), start=1):
        body = run_manifest(name)
        body["metadata"] |= {"uid": name, "resourceVersion": str(version)}
        await told[TRAINING_RUN]({"type": "MODIFIED", "object": {**body, "status": {"phase": phase}}})
    for _ in range(2):
        await queue._next()
    listed = world.cluster.put(entry())
    await told[PRICE_ENTRY]({"type": None, "object": listed})
    assert len(queue) == 0, "nobody has decided anything yet"
    await world.prices.tariffs.ensure_listed()
    await told[PRICE_ENTRY]({"type": None, "object": listed})
    assert len(queue) == 0, "it was known"
    await told[PRICE_ENTRY]({"type": "ADDED", "object": world.cluster.put(entry("new", supersedes="first"))})
    queue._working.clear()
    await told[CARBON_INTENSITY]({"type": "ADDED", "object": world.cluster.put(intensity())})
    queue.add(Key("default", "urgent"))
    assert [(await queue._next()).name for _ in range(3)] == ["urgent", "ended", "live"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "error",
    [
        pytest.param(RequestForbidden("no right", 403), id="no-right"),
        pytest.param(NotFound("no CRD", 404), id="not-installed"),
        pytest.param(ClusterError("etcd is slow", 500), id="failing"),
    ],
)
async def test_training_waits_for_no_price(kind: Kind, error: ClusterError) -> None:
    world = World()
    dear = entry(profile="local-cpu", dollars=3600.0)
    world.cluster.refuse["find", kind] = error
    world.submit(training=LONG, budget={"dollars": 60})
    await world.live(30, until=lambda: world.phase == "Running")
    world.end_pod("tiny-w1-0", 1)
    await world.live(60, until=lambda: len(world.workers("Running")) == 2)
    assert world.condition("WithinBudget")["reason"] == "SpendingUnknown" and "cost" not in world.status
    world.cluster.put(dear)
    world.cluster.refuse.clear()
    await world.live(400, until=lambda: world.phase == "Suspended")
    assert world.status["cost"]["dollars"] >= 60


async def test_what_was_counted_stands_while_prices_are_unknown() -> None:
    world = World()
    world.cluster.put(entry(profile="local-cpu", dollars=3600.0))
    world.submit(training=LONG)
    await world.live(60)
    cost = world.status["cost"]
    world.start_operator()
    world.cluster.refuse["find", PRICE_ENTRY] = RequestForbidden("no right", 403)
    world.end_pod("tiny-w1-0", 1)
    await world.live(60)
    assert (world.phase, world.status["cost"], len(world.workers("Running"))) == ("Running", cost, 2)


@pytest.mark.parametrize("body", [entry(), intensity()], ids=["prices", "intensities"])
@in_virtual_time
async def test_what_no_watch_tells_of_is_listed_again(body: Json) -> None:
    """Where an operator began before the kind was there, it has no watch of it."""
    kind = PRICE_ENTRY if body["kind"] == "PriceEntry" else CARBON_INTENSITY
    market = Market()
    market.cluster.refuse["find", kind] = NotFound("no CRD", 404)
    keeping = asyncio.create_task(market.tariffs.run_relists())
    await asyncio.sleep(LIST_SECONDS + 1)
    assert market.tariffs.get_listed_tariff() is None
    market.cluster.refuse.clear()
    market.cluster.put(body)
    await asyncio.sleep(LIST_SECONDS)
    assert market.says(body)
    market.cluster.bury(kind, body["metadata"]["name"])
    await asyncio.sleep(LIST_SECONDS)
    assert not market.says(body)
    market.told(body)
    market.cluster.bury(kind, body["metadata"]["name"])
    await asyncio.sleep(LIST_SECONDS)
    assert market.says(body), "the watch will tell of it"
    await asyncio.sleep(RELIST_SECONDS)
    assert not market.says(body), "it has not"
    keeping.cancel()


async def test_what_a_list_finds_of_what_a_watch_should_have_told_is_said_with_its_next_word() -> None:
    market = Market(intensity(), intensity("other", zone="DEU"))
    await market.tariffs.ensure_listed()
    assert market.told(intensity(grams=20)) == MIDNIGHT
    late = market.cluster.put(intensity(grams=30))
    await market.tariffs.list_all()
    assert market.tariffs.put(CARBON_INTENSITY, late) == MIDNIGHT
    assert market.tariffs.put(CARBON_INTENSITY, late) is None
    market.cluster.bury(CARBON_INTENSITY, "other")
    await market.tariffs.list_all()
    assert market.tariffs.put(CARBON_INTENSITY, late) == MIDNIGHT
    assert market.tariffs.put(CARBON_INTENSITY, late) is None


class Meanwhile(FakeCluster):
    """One in which something happens while the answer to a list is on its way."""

    happens: Callable[[], object] = staticmethod(lambda: None)

    async def find(self, kind: Kind, namespace: str, labels: str = "", fields: str = "") -> list[Json]:
        found = await super().find(kind, namespace, labels, fields)
        if kind == CARBON_INTENSITY:
            self.happens()
        return found


async def test_what_the_watch_tells_while_they_are_listed_again_counts() -> None:
    market = Market(intensity(), intensity("other", zone="DEU"), cluster=Meanwhile)
    await market.tariffs.ensure_listed()
    assert isinstance(market.cluster, Meanwhile)
    gone = copied(market.cluster.objects[CARBON_INTENSITY, "other"])
    market.cluster.bury(CARBON_INTENSITY, "france")

    def happens() -> None:
        market.told(intensity(grams=20))
        market.cluster.bury(CARBON_INTENSITY, "other")
        market.tariffs.drop(CARBON_INTENSITY, gone)

    market.cluster.happens = happens
    await market.tariffs.list_all()
    assert market.tariffs.current_tariff().series.points == {"FRA": [(MIDNIGHT, Fraction(20))]}


async def test_what_a_profile_says_of_its_price_is_in_the_book_when_the_watch_has_told_it() -> None:
    world = World()
    world.submit()
    for dollars in (2.0, 3.0, 3.0):
        world.cluster.put(profile_manifest(price={"dollarsPerNodeHour": dollars}))
        await world.reconcile()
        assert await world.prices.write_pending()
    specs = [body["spec"] for body in world.cluster.all(PRICE_ENTRY)]
    assert [spec["dollarsPerNodeHour"] for spec in specs] == [2.0, 3.0]
    now = world.prices.tariffs.current_tariff().book.rate(Sku("local-cpu"), NOON + 10**8)
    assert now == HourlyRate.dollars_per_hour(3)


async def test_who_leads_no_more_says_so() -> None:
    """Not as a group of errors, which nobody at the top looks into."""
    world = World()
    world.cluster.refuse["create", PRICE_ENTRY] = LeadershipLost("another one leads")
    world.cluster.put(profile_manifest(price={"dollarsPerNodeHour": 2.0}))
    await world.reconcile()
    with pytest.raises(LeadershipLost):
        await world.recorder.run()
