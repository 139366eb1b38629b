"""What a ComputeProfile says of its price, and what the book says after it; and the keeper that writes it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import strategies as st

from footplate_contracts.v1alpha1.computeprofile import Capacity, Price
from footplate_ledger import conversion
from footplate_ledger.conversion import parse_time
from footplate_ledger.prices import PriceBook, PriceBookEntry
from footplate_ledger.units import HourlyRate
from footplate_ledger.usage import Sku
from footplate_operator.errors import ClusterError, RequestForbidden
from footplate_operator.runtime.kinds import Json
from footplate_operator.tariff.price_entry_writer import PriceEntryWriter
from footplate_operator.tariff.profile_prices import (
    NewEntry,
    PriceStatement,
    build_missing_entries,
    read_statement,
)
from footplate_operator.tariff.tariffs import PRICE_ENTRY, TariffCache
from tests.support.fake_cluster import Clock, FakeCluster
from tests.support.operator_fakes import profile_manifest
from tests.support.properties import given

H100, SPOT = Sku("h100"), Sku("h100", Capacity.SPOT)
CREATED = parse_time("2026-01-01T00:00:00Z")
DAY = 86400


def price(dollars: float, capacity: str = "OnDemand", since: int | None = None) -> Price:
    said: dict[str, Any] = {"dollarsPerNodeHour": dollars, "capacity": capacity}
    return Price.from_json(
        said if since is None else {**said, "effectiveFrom": conversion.format_time(since)}
    )


@dataclass
class Desk:
    """A profile `h100` and the entries that follow from it; `day` counts from its creation."""

    entries: list[PriceBookEntry] = field(default_factory=list)

    def says(self, said: Price | None, day: int = 0, changed: bool = True, **more: Any) -> list[NewEntry]:
        """What is written when the profile says this on a day, an hour after it was changed."""
        at = CREATED + DAY * day
        about = PriceStatement("h100", said, CREATED, at if changed and said is not None else None, **more)
        news = build_missing_entries(about, self.entries, at + 3600)
        self.entries += [
            conversion.build_price_entry(new.name, conversion.format_time(at + 3600), new.spec)
            for new in news
        ]
        return news

    def costs(self, day: int, sku: Sku = H100, hour: int = 12) -> HourlyRate | None:
        """What the book says of noon, or another hour."""
        return PriceBook(self.entries).rate(sku, CREATED + DAY * day + 3600 * hour)


def dollars(number: str) -> HourlyRate:
    return HourlyRate.dollars_per_hour(number)


def test_a_price_seen_first_holds_since_the_profile_was_made() -> None:
    desk = Desk()
    (new,) = desk.says(price(12.5), day=3, by="oidc:ada")
    assert new.spec.to_json() == {
        "profile": "h100",
        "capacity": "OnDemand",
        "provider": "",
        "region": "",
        "dollarsPerNodeHour": 12.5,
        "effectiveFrom": "2026-01-01T00:00:00Z",
        "source": "ComputeProfile h100",
        "createdBy": "oidc:ada",
        "supersedes": "",
    }
    assert desk.costs(0) == dollars("12.5")


def test_what_says_the_same_writes_nothing() -> None:
    desk = Desk()
    for said in (price(0.1), price(0.1), price(0.1, since=CREATED), price(0.10)):
        desk.says(said)
    assert len(desk.entries) == 1


def test_another_price_holds_from_its_change_on_by_kubernetes_time() -> None:
    desk = Desk()
    desk.says(price(10))
    (new,) = desk.says(price(11), day=5)
    assert (new.spec.effective_from, new.spec.supersedes) == ("2026-01-06T00:00:00Z", "")
    assert [desk.costs(day) for day in (4, 5)] == [dollars("10"), dollars("11")]


def test_where_the_api_server_noted_no_time_it_holds_from_now_on() -> None:
    desk = Desk()
    desk.says(price(10))
    (new,) = desk.says(price(11), day=5, changed=False)
    assert new.spec.effective_from == "2026-01-06T01:00:00Z"


def test_there_and_back_are_three_entries() -> None:
    desk = Desk()
    for day, said in enumerate((price(1), price(2), price(1))):
        desk.says(said, day)
    assert [desk.costs(day) for day in range(3)] == [dollars("1"), dollars("2"), dollars("1")]
    assert len({entry.id for entry in desk.entries}) == 3


def test_a_price_that_is_taken_away_ends_and_is_unknown_then() -> None:
    desk = Desk()
    for day, said in ((0, price(1)), (2, price(2)), (4, None)):
        desk.says(said, day)
    assert [desk.costs(day) for day in (1, 3)] == [dollars("1"), dollars("2")]
    assert desk.costs(4, hour=0) == dollars("2")
    assert desk.costs(4) is None
    assert desk.says(None, day=6) == [], "it has ended"
    desk.says(price(3), day=8)
    assert [desk.costs(day) for day in (3, 7, 8)] == [dollars("2"), None, dollars("3")]


def test_a_price_of_the_future_comes_into_force_then_and_can_be_taken_back() -> None:
    desk = Desk()
    desk.says(price(1))
    desk.says(price(2, since=CREATED + 10 * DAY), day=1)
    assert [desk.costs(day) for day in (9, 10)] == [dollars("1"), dollars("2")]
    desk.says(price(1.5), day=2)
    assert [desk.costs(day) for day in (1, 2, 10)] == [dollars("1"), dollars("1.5"), dollars("1.5")]
    desk.says(price(4, since=CREATED + 20 * DAY), day=3)
    desk.says(None, day=4)
    assert [desk.costs(day) for day in (3, 4, 21)] == [dollars("1.5"), None, None]


def test_who_says_since_when_corrects_what_began_later() -> None:
    desk = Desk()
    for day, dollar in ((0, 1), (4, 2), (6, 3)):
        desk.says(price(dollar), day)
    news = desk.says(price(5, since=CREATED + 2 * DAY), day=8)
    assert {new.spec.supersedes for new in news} == {entry.id for entry in desk.entries[1:3]}
    assert [desk.costs(day) for day in (1, 2, 5, 9)] == [dollars("1"), *[dollars("5")] * 3]
    (moved,) = desk.says(price(5, since=CREATED + 3 * DAY), day=9)
    assert moved.spec.effective_from == "2026-01-04T00:00:00Z"


def test_nodes_that_are_bought_in_another_way_have_a_price_of_their_own() -> None:
    desk = Desk()
    desk.says(price(10))
    desk.says(price(4, "Spot"), day=2)
    assert [desk.costs(day, SPOT) for day in (1, 2)] == [None, dollars("4")]
    assert desk.costs(3) == dollars("10"), "pods of before still hold such nodes"
    assert desk.says(price(4, "Spot"), day=3) == []
    desk.says(None, day=5)
    assert (desk.costs(6), desk.costs(6, SPOT)) == (None, None)


def test_what_breaks_off_in_the_middle_is_completed_and_not_written_twice() -> None:
    desk = Desk()
    for day, said in enumerate((price(1), price(2), None)):
        whole = desk.says(said, day)
    assert len(whole) == 2
    desk.entries.pop()
    assert [new.name for new in desk.says(None, day=2)] == [whole[1].name]


SAID = st.one_of(
    st.none(),
    st.builds(
        price,
        st.sampled_from([1, 2, 3]),
        st.sampled_from(["OnDemand", "Spot"]),
        st.none() | st.integers(0, 9).map(lambda day: CREATED + DAY * day),
    ),
)


@given(st.lists(st.tuples(SAID, st.integers(0, 2)), max_size=6))
def test_whoever_breaks_off_at_any_entry_writes_the_same_in_the_end(
    history: list[tuple[Price | None, int]],
) -> None:
    whole, broken = Desk(), Desk()
    for day, (said, written) in enumerate(history):
        whole.says(said, day)
        before = list(broken.entries)
        broken.says(said, day)
        del broken.entries[len(before) + written :]
        broken.says(said, day)
        assert broken.entries == whole.entries
        assert broken.says(said, day) == []


def test_another_operator_and_a_later_look_name_it_alike() -> None:
    first, second = Desk(), Desk()
    names = [[new.name for new in desk.says(price(7), day)] for desk, day in ((first, 0), (second, 9))]
    assert names[0] == names[1] and len(names[0]) == 1


def test_what_others_wrote_is_left_as_it_is() -> None:
    desk = Desk()
    (own,) = desk.says(price(10))
    theirs = replace(
        desk.entries[0], id="negotiated", rate=dollars("8"), supersedes=own.name, source="offer 7"
    )
    desk.entries.append(theirs)
    assert desk.says(price(10), day=3) == []
    assert desk.costs(3) == dollars("8")


def test_a_long_name_of_a_profile_leaves_room_for_a_number() -> None:
    (new,) = build_missing_entries(PriceStatement("a" * 199 + ".b" * 27, price(1), CREATED), [], CREATED)
    assert len(new.name) <= 253 and new.name.startswith("a" * 199 + "-000001-")


@pytest.mark.parametrize(
    ("managers", "changed"),
    [
        pytest.param([], None, id="none"),
        pytest.param(
            [
                {"time": "2026-01-02T00:00:00Z", "fieldsV1": {"f:spec": {"f:price": {}}}},
                {"time": "2026-01-05T00:00:00Z", "fieldsV1": {"f:spec": {"f:gpu": {}}}},
                {"time": "2026-01-07T00:00:00Z", "fieldsV1": {"f:metadata": {}}},
            ],
            "2026-01-02T00:00:00Z",
            id="who-says-the-price",
        ),
        pytest.param(
            [
                {"time": "2026-01-02T00:00:00Z", "fieldsV1": {"f:spec": {}}},
                {"time": "2026-01-03T00:00:00Z", "fieldsV1": {"f:spec": {"f:gpu": {}}}},
                {
                    "time": "2026-01-04T00:00:00Z",
                    "fieldsV1": {"f:spec": {"f:gpu": {}}},
                    "subresource": "status",
                },
            ],
            "2026-01-03T00:00:00Z",
            id="who-says-anything",
        ),
    ],
)
def test_when_it_was_said(managers: list[Json], changed: str | None) -> None:
    body = profile_manifest("h100", price={"dollarsPerNodeHour": 1})
    body["metadata"] |= {"creationTimestamp": "2026-01-01T00:00:00Z", "managedFields": managers}
    assert read_statement(body).changed == (None if changed is None else parse_time(changed))


# -- the keeper -------------------------------------------------------------------------


class Office:
    """A cluster with one profile, and who keeps its price."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.cluster = FakeCluster(self.clock, kinds=(PRICE_ENTRY,))
        self.prices = self.newcomer()

    def newcomer(self) -> PriceEntryWriter:
        """An operator that has just begun to lead."""
        return PriceEntryWriter(self.cluster, TariffCache(self.cluster, self.clock), self.clock)

    def profile(self, dollars: float | None) -> Json:
        body = profile_manifest(
            "h100", **({} if dollars is None else {"price": {"dollarsPerNodeHour": dollars}})
        )
        body["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
        return body

    def book(self) -> list[tuple[float, str]]:
        """Prices, and what they supersede."""
        specs = [body["spec"] for body in self.cluster.all(PRICE_ENTRY)]
        return [(spec["dollarsPerNodeHour"], spec["supersedes"]) for spec in specs]


async def test_the_keeper_writes_once_whoever_looks_again() -> None:
    office = Office()
    for prices in (office.prices, office.newcomer()):
        for _ in range(2):
            prices.enqueue(office.profile(3.0))
            assert await prices.write_pending()
    assert office.book() == [(3.0, "")]


async def test_two_that_write_at_once_make_one_entry() -> None:
    office = Office()
    other = office.newcomer()
    await other.tariffs.ensure_listed()
    for prices in (office.prices, other):
        prices.enqueue(office.profile(3.0))
        assert await prices.write_pending()
    assert office.book() == [(3.0, "")]
    assert other.tariffs.current_tariff().book.entries == office.prices.tariffs.current_tariff().book.entries


async def test_what_is_refused_is_tried_again_and_names_the_profile(caplog: pytest.LogCaptureFixture) -> None:
    office = Office()
    office.cluster.refuse["create", PRICE_ENTRY] = RequestForbidden("no right", 403)
    office.prices.enqueue(office.profile(3.0))
    assert not await office.prices.write_pending()
    assert [vars(line)["fields"]["profile"] for line in caplog.records] == ["h100"]
    del office.cluster.refuse["create", PRICE_ENTRY]
    assert await office.prices.write_pending()
    assert office.book() == [(3.0, "")]


async def test_a_price_that_cannot_be_read_holds_no_other_up() -> None:
    office = Office()
    office.prices.enqueue({**office.profile(3.0), "spec": {"price": {"dollarsPerNodeHour": "free"}}})
    good = office.profile(4.0)
    office.prices.enqueue({**good, "metadata": {**good["metadata"], "name": "a100"}})
    assert not await office.prices.write_pending()
    assert office.book() == [(4.0, "")]


async def test_it_writes_when_it_is_told_and_not_before_the_cluster_answers() -> None:
    office = Office()
    office.cluster.refuse["find", PRICE_ENTRY] = ClusterError("down")
    running = asyncio.create_task(office.prices.run())
    office.prices.enqueue(office.profile(3.0))
    await _turns()
    assert office.book() == []
    office.cluster.refuse.clear()
    office.prices.enqueue(office.profile(5.0))
    await _turns()
    assert office.book() == [(5.0, "")]
    running.cancel()


async def _turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)
