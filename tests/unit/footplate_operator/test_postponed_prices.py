"""A price that was announced and then postponed: what docs/costs.md says of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from footplate_contracts.v1alpha1.computeprofile import Price
from footplate_contracts.v1alpha1.priceentry import PriceEntrySpec
from footplate_ledger.conversion import build_price_entry, format_time, parse_time
from footplate_ledger.prices import PriceBook, PriceBookEntry
from footplate_ledger.units import HourlyRate
from footplate_ledger.usage import Sku
from footplate_operator.tariff.profile_prices import PriceStatement, build_missing_entries

PAGE = Path(__file__).parents[3] / "docs" / "costs.md"
CREATED, ANNOUNCED, POSTPONED = (
    parse_time(f"{day}T00:00:00Z") for day in ("2026-01-01", "2026-12-01", "2026-12-05")
)
STORY = [  # when the profile says which price, from when on
    (CREATED, Price(dollars_per_node_hour=10)),
    (ANNOUNCED, Price(dollars_per_node_hour=20, effective_from="2026-12-15T00:00:00Z")),
    (POSTPONED, Price(dollars_per_node_hour=20, effective_from="2027-02-01T00:00:00Z")),
]


def book(corrected: int | None) -> PriceBook:
    """After the story, with the page's correction written at a moment."""
    entries: list[PriceBookEntry] = []
    steps: list[tuple[int, Price | None]] = [*STORY, *([] if corrected is None else [(corrected, None)])]
    for now, said in sorted(steps, key=lambda step: step[0]):
        if said is None:
            announced = next(
                entry for entry in entries if entry.effective_from == parse_time("2026-12-15T00:00:00Z")
            )
            entries.append(correction(announced, now))
            continue
        own = [entry for entry in entries if entry.source == "ComputeProfile h100"]
        for new in build_missing_entries(PriceStatement("h100", said, CREATED, now), own, now):
            entries.append(build_price_entry(new.name, format_time(now), new.spec))
    return PriceBook(entries)


def correction(announced: PriceBookEntry, now: int) -> PriceBookEntry:
    """The page's example, of the entry that there is here: the end of its name is a digest."""
    [example] = re.findall(r"```yaml\n(apiVersion[^`]*kind: PriceEntry\n[^`]*)```", PAGE.read_text())
    made = yaml.safe_load(example)
    named = made["spec"]["supersedes"]
    assert named.rpartition("-")[0] == announced.id.rpartition("-")[0]
    spec = PriceEntrySpec.from_json({**made["spec"], "supersedes": announced.id})
    return build_price_entry(made["metadata"]["name"], format_time(now), spec)


def costs(found: PriceBook, day: str) -> HourlyRate | None:
    return found.rate(Sku("h100"), parse_time(f"{day}T12:00:00Z"))


def test_what_was_announced_comes_into_force_although_it_was_postponed() -> None:
    assert costs(book(None), "2026-12-14") == HourlyRate.dollars_per_hour(10)
    assert costs(book(None), "2026-12-15") == HourlyRate.dollars_per_hour(20)


@pytest.mark.parametrize(
    "corrected",
    [
        pytest.param(POSTPONED - 1, id="before-the-profile-is-changed"),
        pytest.param(POSTPONED + 1, id="after-it"),
        pytest.param(parse_time("2026-12-20T00:00:00Z"), id="too-late"),
    ],
)
def test_the_correction_of_the_page_keeps_the_price_until_the_later_day(corrected: int) -> None:
    found = book(corrected)
    for day, dollars in {"2026-12-14": 10, "2026-12-15": 10, "2027-01-31": 10, "2027-02-01": 20}.items():
        assert costs(found, day) == HourlyRate.dollars_per_hour(dollars), day
