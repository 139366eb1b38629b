"""Converts PriceEntries, CarbonIntensities and ComputeProfiles into rows, and rows for the ledger; pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any

from footplate_api.kubernetes.client import Manifest
from footplate_contracts.v1alpha1.carbonintensity import CarbonIntensitySpec
from footplate_contracts.v1alpha1.computeprofile import Capacity, ComputeProfileSpec
from footplate_contracts.v1alpha1.priceentry import PriceEntrySpec
from footplate_ledger import conversion
from footplate_ledger.carbon import IntensitySeries
from footplate_ledger.prices import FOREVER, PriceBook, PriceBookEntry
from footplate_ledger.units import HourlyRate
from footplate_ledger.usage import Sku


def price_row(manifest: Manifest) -> dict[str, Any]:
    """Return a row of the table `price_entries`; raises ValueError, with the name, for a bad object."""
    about = manifest["metadata"]
    try:
        spec = PriceEntrySpec.from_any_release(manifest.get("spec"))
        entry = conversion.build_price_entry(about["name"], about["creationTimestamp"], spec)
        row = {
            "name": entry.id,
            "uid": about["uid"],
            "profile": entry.sku.profile,
            "capacity": entry.sku.capacity.value,
            "provider": spec.provider,
            "region": entry.sku.region,
            "nano_dollars": int(entry.rate.exact),
            "effective_from": entry.effective_from,
            "effective_to": None if spec.effective_to is None else entry.effective_to,
            "created_at": entry.created_at,
            "source": entry.source,
            "created_by": entry.created_by,
            "supersedes": entry.supersedes or "",
        }
        _check(row)
    except (KeyError, ValueError, OverflowError) as error:
        raise ValueError(f"PriceEntry {about['name']!r} cannot be read: {error}") from error
    return row


def entries_of(rows: Iterable[Any]) -> list[PriceBookEntry]:
    """Convert rows into entries; ten thousand take a tenth of a second, in a thread."""
    return [entry_of(row) for row in rows]


def book_of(rows: Iterable[Any]) -> PriceBook:
    """Convert rows into the ledger's book; with ten thousand rows, call it in a thread."""
    return PriceBook(entries_of(rows))


def entry_of(row: Any) -> PriceBookEntry:
    """Convert a row into an entry of the book."""
    return PriceBookEntry(
        id=row.name,
        sku=Sku(row.profile, Capacity(row.capacity), row.region),
        rate=HourlyRate(Fraction(row.nano_dollars)),
        effective_from=row.effective_from,
        effective_to=FOREVER if row.effective_to is None else row.effective_to,
        created_at=row.created_at,
        supersedes=row.supersedes or None,
        source=row.source,
        created_by=row.created_by,
    )


def carbon_row(manifest: Manifest) -> dict[str, Any]:
    """Return a row of the table `carbon_series`; raises ValueError, with the name, for a bad object."""
    about = manifest["metadata"]
    try:
        spec = CarbonIntensitySpec.from_any_release(manifest.get("spec"))
        conversion.build_series({about["name"]: spec})
        return _row(about, spec.to_json())
    except (ValueError, OverflowError) as error:
        raise ValueError(f"CarbonIntensity {about['name']!r} cannot be read: {error}") from error


def series_of(specs: Mapping[str, Mapping[str, Any]]) -> IntensitySeries:
    """Convert name -> spec into the ledger's carbon series."""
    return conversion.build_series(
        {name: CarbonIntensitySpec.from_json(spec) for name, spec in specs.items()}
    )


def profile_row(manifest: Manifest) -> dict[str, Any]:
    """Return a row of the table `profiles`; raises ValueError, with the name, for a bad object."""
    about = manifest["metadata"]
    try:
        spec = ComputeProfileSpec.from_any_release(manifest.get("spec"))
        return _row(about, spec.to_json())
    except (ValueError, OverflowError) as error:
        raise ValueError(f"ComputeProfile {about['name']!r} cannot be read: {error}") from error


def _row(about: Mapping[str, Any], spec: dict[str, Any]) -> dict[str, Any]:
    row = {"name": about["name"], "resource_version": about["resourceVersion"], "spec": spec}
    _check({**row, "spec": json.dumps(spec, ensure_ascii=False)})
    return row


def _check(row: Mapping[str, Any]) -> None:
    """Raise ValueError for a text that no database stores."""
    texts: Iterable[str] = (value for value in row.values() if isinstance(value, str))
    for text in texts:
        text.encode()
        if "\0" in text or "\\u0000" in text:
            raise ValueError("a string has a NUL character, which databases refuse")
