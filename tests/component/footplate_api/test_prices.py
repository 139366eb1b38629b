"""The price book by REST: who enters what, what is refused, and what is told of profiles."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio

from footplate_api.errors import ClusterUnavailable
from footplate_api.identity.caller import Caller, Right
from footplate_api.kubernetes.client import Manifest, Resource
from footplate_api.tariff import prices, repository, tariff_rows
from footplate_api.tariff.schemas import PriceQuery
from footplate_api.tariff.service import TariffReader
from footplate_contracts.names import REQUESTED_BY_ANNOTATION
from footplate_ledger.conversion import format_time
from footplate_ledger.units import HourlyRate
from footplate_ledger.usage import Sku
from tests.component.footplate_api.builders import eventually
from tests.component.footplate_api.conftest import Api, running
from tests.component.footplate_api.fakes import FakeCluster
from tests.component.footplate_api.usages import enter, price, store
from tests.support.loop_lag import loop_lag
from tests.support.usage_worlds import DAY, H100, SPOT, T0, node, pod

PRICES = "/v1/prices"
PROFILES = "/v1/profiles"
LONGEST_BITE = 0.06  # seconds of CPU; to put a book together takes longer
NOW = datetime.fromtimestamp(T0, UTC)
H100_SPEC = {
    "gpu": {
        "count": 8,
        "product": "H100",
        "memoryGiB": 80,
        "peakTflops": {"bf16": 989, "fp32": 67},
        "tdpWatts": 700,
    },
    "processesPerNode": 8,
    "energy": {"carbonZone": "FRA", "nodeWatts": 900, "powerUsageEffectiveness": 1.1},
}
ASKED = {
    "profile": "h100",
    "dollarsPerNodeHour": 24.6,
    "effectiveFrom": "2026-12-01T00:00:00Z",
    "source": "bid",
}


class Losing(FakeCluster):
    """Creates a price, and the answer is lost."""

    lost = 0

    async def create_price(self, manifest: Manifest, dry_run: bool = False) -> Manifest:
        created = await super().create_price(manifest, dry_run)
        if self.lost:
            self.lost -= 1
            raise ClusterUnavailable("the answer was lost")
        return created


@pytest_asyncio.fixture
async def priced(database_url: str) -> AsyncIterator[Api]:
    async with running(database_url, Losing(), now=lambda: NOW) as api:
        await api.cluster.put_object(Resource.PROFILES, "h100", H100_SPEC)
        yield api


async def asked(api: Api, **changed: Any) -> Any:
    body = {name: value for name, value in {**ASKED, **changed}.items() if value is not None}
    return await api.client.post(PRICES, json=body)


def entries(api: Api) -> dict[str, Any]:
    return api.cluster.others[Resource.PRICES]


async def book(api: Api, **query: Any) -> list[dict[str, Any]]:
    answer = await api.client.get(PRICES, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()["items"]


async def test_an_entry_is_created_for_its_caller_noted_and_told_of(priced: Api) -> None:
    answer = await asked(priced)
    assert answer.status_code == 201, answer.text
    [(name, made)] = entries(priced).items()
    assert name.startswith("h100-")
    assert made["metadata"]["annotations"] == {REQUESTED_BY_ANNOTATION: "admin"}
    assert made["spec"]["createdBy"] == "admin" and made["spec"]["dollarsPerNodeHour"] == 24.6
    told = {
        "id": name,
        "profile": "h100",
        "capacity": "OnDemand",
        "provider": "",
        "region": "",
        "dollarsPerNodeHour": 24.6,
        "effectiveFrom": "2026-12-01T00:00:00Z",
        "effectiveTo": None,
        "source": "bid",
        "createdBy": "admin",
        "createdAt": "2026-11-25T10:00:00Z",
        "supersedes": None,
        "supersededBy": None,
    }
    assert answer.json() == told and await book(priced) == [told]
    [event] = (await priced.client.get("/v1/audit")).json()["items"]
    said = (event["verb"], event["resource"], event["name"], event["result"]["status"])
    assert said == ("create", "priceentries.footplate.dev", name, 201)


async def test_it_holds_from_now_on_unless_it_says_otherwise(priced: Api) -> None:
    answer = await asked(priced, effectiveFrom=None)
    assert answer.json()["effectiveFrom"] == "2026-11-25T10:00:00Z"


async def test_a_dry_run_creates_nothing(priced: Api) -> None:
    answer = await priced.client.post(PRICES, json=ASKED, params={"dryRun": "true"})
    assert (answer.status_code, answer.json()["dollarsPerNodeHour"]) == (200, 24.6)
    refused = await priced.client.post(PRICES, json={**ASKED, "profile": "x"}, params={"dryRun": "true"})
    assert refused.status_code == 422
    assert entries(priced) == {} and await book(priced) == []
    assert (await priced.client.get("/v1/audit")).json()["items"] == []


async def test_who_misspells_a_dry_run_enters_nothing(priced: Api) -> None:
    for name in ("dryrun", "dry_run"):
        answer = await priced.client.post(PRICES, params={name: "true"}, json=ASKED)
        assert answer.status_code == 422
        assert [wrong["field"] for wrong in answer.json()["errors"]] == [f"query.{name}"]
    assert not entries(priced)


async def test_a_correction_is_of_the_nodes_of_what_it_supersedes(priced: Api) -> None:
    spot = (await asked(priced, capacity="Spot", region="eu-1")).json()
    right = (await asked(priced, supersedes=spot["id"], dollarsPerNodeHour=9)).json()
    assert (right["capacity"], right["region"]) == ("Spot", "eu-1")
    bought = (await asked(priced, supersedes=right["id"], capacity="Reserved", region="")).json()
    assert (bought["capacity"], bought["region"]) == ("Reserved", "")


async def test_who_asks_twice_under_a_key_enters_one_price(priced: Api) -> None:
    key = {"Idempotency-Key": "one"}
    assert isinstance(priced.cluster, Losing)
    priced.cluster.lost = 1
    assert (await priced.client.post(PRICES, json=ASKED, headers=key)).status_code == 503
    answers = await asyncio.gather(*(priced.client.post(PRICES, json=ASKED, headers=key) for _ in range(3)))
    assert [answer.status_code for answer in answers] == [201] * 3
    assert len(entries(priced)) == len({answer.text for answer in answers}) == len(await book(priced)) == 1
    other = await priced.client.post(PRICES, json={**ASKED, "dollarsPerNodeHour": 1}, headers=key)
    assert other.status_code == 422
    assert [wrong["field"] for wrong in other.json()["errors"]] == ["header.Idempotency-Key"]
    bob = priced.reviewer.add("b", Caller("bob"), lambda right: True)
    later = {**ASKED, "effectiveFrom": "2026-12-02T00:00:00Z"}
    assert (await priced.client.post(PRICES, json=later, headers={**key, **bob})).status_code == 201
    assert len(entries(priced)) == 2


async def test_who_asks_again_for_what_superseded_another_is_answered_as_before(priced: Api) -> None:
    earlier = {"Idempotency-Key": "one"}
    first = (await priced.client.post(PRICES, json=ASKED, headers=earlier)).json()["id"]
    body = {**ASKED, "supersedes": first, "dollarsPerNodeHour": 20}
    key = {"Idempotency-Key": "two"}
    answers = [await priced.client.post(PRICES, json=body, headers=key) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    again = (await priced.client.post(PRICES, json=ASKED, headers=earlier)).json()
    assert (again["id"], again["supersededBy"]) == (first, answers[0].json()["id"])
    found = {entry["id"]: entry["supersededBy"] for entry in await book(priced)}
    assert found == {first: answers[0].json()["id"], answers[0].json()["id"]: None}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "negative": ({"dollarsPerNodeHour": -1}, "body.dollarsPerNodeHour"),
    "beyond reason": ({"dollarsPerNodeHour": 1e7}, "body.dollarsPerNodeHour"),
    "too fine": ({"dollarsPerNodeHour": "0.0000000001"}, "body.dollarsPerNodeHour"),
    "no number": ({"dollarsPerNodeHour": "NaN"}, "body.dollarsPerNodeHour"),
    "no price": ({"dollarsPerNodeHour": None}, "body.dollarsPerNodeHour"),
    "at no time": ({"effectiveTo": "2026-12-01T00:00:00Z"}, "body.effectiveTo"),
    "backwards": ({"effectiveTo": "2026-11-01T00:00:00Z"}, "body.effectiveTo"),
    "no moment": ({"effectiveFrom": "tomorrow"}, "body.effectiveFrom"),
    "long ago": ({"effectiveFrom": "0001-01-01T00:00:00Z"}, "body.effectiveFrom"),
    "in a year of five digits": ({"effectiveFrom": "9999-12-31T23:59:59-01:00"}, "body.effectiveFrom"),
    "until after all years": ({"effectiveTo": "9999-12-31T00:00:00Z"}, "body.effectiveTo"),
    "unknown profile": ({"profile": "a100"}, "body.profile"),
    "no name": ({"profile": "H 100"}, "body.profile"),
    "unknown capacity": ({"capacity": "stolen"}, "body.capacity"),
    "supersedes nothing": ({"supersedes": "nothing"}, "body.supersedes"),
    "supersedes what was superseded": ({"supersedes": "old"}, "body.supersedes"),
    "from when another one holds": ({"effectiveFrom": "2026-11-24T10:00:00Z"}, "body.effectiveFrom"),
    "a character that no database takes": ({"region": "a\0"}, "body.region"),
    "what only the API says": ({"createdBy": "me"}, "body.createdBy"),
}


async def test_what_cannot_be_entered_is_said_by_its_field(priced: Api) -> None:
    anywhere = {"region": ""}
    await enter(priced.context.database, "old", {**price(10), **anywhere})
    await enter(priced.context.database, "new", {**price(11), **anywhere, "supersedes": "old"})
    for name, (changed, field) in REFUSED.items():
        answer = await asked(priced, **changed)
        assert answer.status_code == 422, (name, answer.text)
        assert [wrong["field"] for wrong in answer.json()["errors"]] == [field], name
    assert entries(priced) == {}


async def test_what_contradicts_nothing_is_entered(priced: Api) -> None:
    await enter(priced.context.database, "new", {**price(11), "region": ""})
    before = {"effectiveFrom": "2026-11-01T00:00:00Z", "effectiveTo": "2026-11-24T10:00:00Z"}
    for changed in (
        before,
        {"dollarsPerNodeHour": "0.123456789"},
        {"capacity": "Spot", "dollarsPerNodeHour": 0},
    ):
        answer = await asked(priced, **changed)
        assert answer.status_code == 201, answer.text
        assert answer.json()["dollarsPerNodeHour"] == float(changed.get("dollarsPerNodeHour", 24.6))


async def test_the_book_is_filtered_by_profile_and_by_what_is_in_force(priced: Api) -> None:
    database = priced.context.database
    await enter(database, "a", price(10))
    await enter(database, "b", price(11, since=T0 + DAY))
    await enter(database, "spot", price(4, sku=SPOT))
    await enter(database, "other", {**price(1), "profile": "cpu"})
    assert {entry["id"] for entry in await book(priced, profile="h100")} == {"a", "b", "spot"}
    assert {entry["id"] for entry in await book(priced, at="2026-11-25T10:00:00Z")} == {"a", "spot", "other"}
    at = {"profile": "h100", "at": "2026-11-26T10:00:00Z"}
    assert {entry["id"] for entry in await book(priced, **at)} == {"b", "spot"}


async def test_an_entry_of_another_profile_ends_none(priced: Api) -> None:
    """As kubectl may enter it: book, profiles and ledger say the same of it."""
    database = priced.context.database
    await enter(database, "of-h100", price(10))
    await enter(database, "of-a100", price(20, sku=Sku("a100"), supersedes="of-h100"))
    [known] = await book(priced, profile="h100", at=format_time(T0))
    assert (known["id"], known["supersededBy"]) == ("of-h100", None)
    assert {known["id"] for known in await book(priced, at=format_time(T0))} == {"of-h100", "of-a100"}
    listed = (await priced.client.get("/v1/profiles")).json()["items"]
    for profile in (*listed, (await priced.client.get("/v1/profiles/h100")).json()):
        assert [known["id"] for known in profile["prices"]] == ["of-h100"]
    assert (await TariffReader(database).read()).book.rate(H100, T0) == HourlyRate.dollars_per_hour(10)


@pytest.mark.long
async def test_a_large_book_keeps_nobody_waiting(priced: Api) -> None:
    """Ten thousand entries, as of a price of every hour of a year."""
    database = priced.context.database
    rows = [
        tariff_rows.price_row(
            {
                "metadata": {"name": f"e{hour}", "uid": f"u{hour}", "creationTimestamp": format_time(T0)},
                "spec": price(1 + hour % 9, since=T0 - 10_000 * 3600 + hour * 3600),
            }
        )
        for hour in range(10_000)
    ]
    for start in range(0, len(rows), 500):
        async with database.write() as session:
            await repository.add_prices(session, rows[start : start + 500])
    async with loop_lag() as of_tariff:
        await TariffReader(database).read()
    async with loop_lag() as of_list, database.read() as session:
        found = await prices.list_prices(session, PriceQuery(at=datetime.fromtimestamp(T0 - 1, UTC)))
    async with loop_lag() as of_entering:
        assert (await asked(priced, region="eu-1")).status_code == 201
    bites = of_tariff.longest, of_list.longest, of_entering.longest
    print("longest bites, in seconds of CPU:", *(f"{seconds:.3f}" for seconds in bites))
    assert [known.id for known in found.items] == ["e9999"] and max(bites) < LONGEST_BITE


async def test_a_name_that_is_taken_is_refused(priced: Api) -> None:
    key = {"Idempotency-Key": "one"}
    name = (await priced.client.post(PRICES, json=ASKED, headers=key)).json()["id"]
    del entries(priced)[name]["metadata"]["annotations"]  # somebody else's
    answer = await priced.client.post(PRICES, json=ASKED, headers=key)
    assert answer.status_code == 422


def only(*rights: Right) -> Any:
    return lambda right: right in rights


async def test_who_may_update_profiles_enters_prices_and_who_may_list_them_reads_them(priced: Api) -> None:
    reads = priced.reviewer.add("r", Caller("reader"), only(Right("list", "computeprofiles")))
    writes = priced.reviewer.add("w", Caller("writer"), only(Right("update", "computeprofiles")))
    gets = priced.reviewer.add("g", Caller("getter"), only(Right("get", "computeprofiles", name="h100")))
    await eventually(lambda: status(priced, f"{PROFILES}/h100", gets), lambda found: found == 200)
    for path, allowed in ((PRICES, reads), (PROFILES, reads), (f"{PROFILES}/h100", gets)):
        statuses = [await status(priced, path, who) for who in (reads, writes, gets)]
        assert statuses == [200 if who is allowed else 403 for who in (reads, writes, gets)], path
    answers = [await priced.client.post(PRICES, json=ASKED, headers=who) for who in (reads, writes, gets)]
    assert [answer.status_code for answer in answers] == [403, 201, 403]


async def status(api: Api, path: str, headers: dict[str, str]) -> int:
    return (await api.client.get(path, headers=headers)).status_code


async def test_a_profile_tells_what_an_hour_costs_draws_and_emits(priced: Api) -> None:
    await store(
        priced.context.database, [pod()], [node(), node("n2"), node("n3", sku=SPOT), node("n4", sku=SPOT)]
    )
    await enter(priced.context.database, "a", price(10))
    await enter(priced.context.database, "b", price(11, since=T0 + DAY))
    await eventually(lambda: status(priced, f"{PROFILES}/h100", {}), lambda found: found == 200)
    shown = (await priced.client.get(f"{PROFILES}/h100")).json()
    assert [entry["id"] for entry in shown.pop("prices")] == ["a"]
    [carbon] = shown.pop("carbon")
    assert carbon["rank"] == "zone" and carbon["source"].startswith("France")
    assert (carbon["provider"], carbon["region"]) == ("aws", "eu-1")
    where = {"provider": "aws", "region": "eu-1", "count": 2}
    assert shown == {
        "name": "h100",
        "product": "H100",
        "devices": 8,
        "deviceWatts": 700,
        "nodeWatts": 900,
        "powerUsageEffectiveness": 1.1,
        "nodes": [{"capacity": "OnDemand", **where}, {"capacity": "Spot", **where}],
    }
    assert [item["name"] for item in (await priced.client.get(PROFILES)).json()["items"]] == ["h100"]
    missing = await priced.client.get(f"{PROFILES}/a100")
    assert (missing.status_code, missing.json()["title"]) == (404, "Profile not found")


async def test_a_series_that_is_loaded_is_told(priced: Api) -> None:
    points = [{"from": "2026-11-25T00:00:00Z", "gramsPerKilowattHour": 31}]
    await priced.cluster.put_object(Resource.CARBON, "fra", {"zone": "FRA", "points": points})

    async def rank() -> Any:
        answer = (await priced.client.get(f"{PROFILES}/h100")).json()
        return answer.get("carbon", [{}])[0].get("rank")

    await eventually(rank, lambda found: found == "series")
    [carbon] = (await priced.client.get(f"{PROFILES}/h100")).json()["carbon"]
    assert carbon["gramsPerKilowattHour"] == 31
