"""Of two prices for one second nobody has to know which was written last."""

from __future__ import annotations

from dataclasses import replace

import pytest

from footplate_api.errors import Invalid
from footplate_api.tariff.price_rules import check
from footplate_contracts.v1alpha1.computeprofile import Capacity
from footplate_ledger.prices import FOREVER, PriceBookEntry
from footplate_ledger.units import HourlyRate
from footplate_ledger.usage import Sku

H100 = Sku("h100", Capacity.ON_DEMAND, "eu")
OLD = PriceBookEntry("old", H100, HourlyRate.dollars_per_hour(9), 100)
STANDING = PriceBookEntry("standing", H100, HourlyRate.dollars_per_hour(10), 100, supersedes="old")
LATER = PriceBookEntry("later", H100, HourlyRate.dollars_per_hour(11), 300)
BOOK = [OLD, STANDING, LATER]


def asked(start: int, end: int = FOREVER, sku: Sku = H100, supersedes: str | None = None) -> PriceBookEntry:
    return PriceBookEntry("", sku, HourlyRate.dollars_per_hour(12), start, end, supersedes=supersedes)


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param(asked(301), id="later-than-all"),
        pytest.param(asked(0, 100), id="over-before-the-first"),
        pytest.param(asked(150, 300), id="over-before-the-next"),
        pytest.param(asked(300, supersedes="later"), id="in-its-place"),
        pytest.param(asked(200, supersedes="later"), id="in-its-place-and-earlier"),
        pytest.param(asked(100, 300, supersedes="standing"), id="in-the-place-of-what-corrected-another"),
        pytest.param(asked(0, sku=replace(H100, capacity=Capacity.SPOT)), id="of-another-capacity"),
        pytest.param(asked(0, sku=replace(H100, region="us")), id="of-another-region"),
        pytest.param(asked(0, sku=replace(H100, region="")), id="of-all-regions"),
        pytest.param(asked(0, sku=replace(H100, profile="a100")), id="of-another-profile"),
    ],
)
def test_what_contradicts_nothing(entry: PriceBookEntry) -> None:
    check(entry, BOOK)


@pytest.mark.parametrize(
    ("entry", "field", "says"),
    [
        pytest.param(asked(300), "effectiveFrom", "when later begins", id="with-another"),
        pytest.param(asked(200), "effectiveFrom", "or set supersedes to later", id="into-a-later-one"),
        pytest.param(asked(0, 101), "effectiveFrom", "when standing begins", id="a-second-too-long"),
        pytest.param(asked(100, supersedes="later"), "effectiveFrom", "standing", id="in-the-place-of-one"),
        pytest.param(
            asked(400, supersedes="none"), "supersedes", "an entry of the price book", id="of-nothing"
        ),
        pytest.param(
            asked(400, sku=Sku("a100"), supersedes="later"),
            "supersedes",
            "of the same profile: this one is of",
            id="of-another-profile",
        ),
        pytest.param(asked(400, supersedes="old"), "supersedes", "standing supersedes this one", id="again"),
        pytest.param(
            replace(asked(400), source="ComputeProfile h100"), "source", "of a profile's price", id="as-if"
        ),
    ],
)
def test_what_contradicts_the_book(entry: PriceBookEntry, field: str, says: str) -> None:
    with pytest.raises(Invalid, match=rf"body\.{field}: must (not )?be.*{says}"):
        check(entry, BOOK)
