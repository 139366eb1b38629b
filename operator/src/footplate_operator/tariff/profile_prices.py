"""Price entries derived from the price in a ComputeProfile; pure.

A profile states its nodes' cost from a moment on, and every statement becomes an entry of its own. A new
price holds from then on; with `effectiveFrom` it holds from that time on, and entries of the profile that
begin later are superseded. Nodes that are bought in another way (`capacity`) have prices of their own.
Removing the price ends all of them: a node's cost is unknown then. Entries that others have written into the
book are left as they are.

No state but the entries themselves is used: they have numbers, and the new ones follow from the existing
ones. So a replica that stops in the middle, or writes beside another one, writes the same.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

from footplate_contracts.names import FIELD_MANAGER, REQUESTED_BY_ANNOTATION
from footplate_contracts.v1alpha1.computeprofile import Price
from footplate_contracts.v1alpha1.priceentry import OF_A_PROFILE, PriceEntrySpec
from footplate_ledger.conversion import decimal_fraction, format_time, parse_time
from footplate_ledger.prices import FOREVER, PriceBookEntry, corrections
from footplate_ledger.units import HourlyRate, Money
from footplate_ledger.usage import Sku
from footplate_operator.runtime.objects import read

_STEM: Final = 200  # characters of a profile's name in that of an entry, which may have 253
_NUMBER: Final = re.compile(r"-(\d{6,})-[0-9a-f]{8}$")
# An entry cannot be empty. One that never came into force is superseded by the first second of all.
_NEVER: Final = (0, 1)


@dataclass(frozen=True)
class PriceStatement:
    """The price statement of one profile; moments in whole seconds since 1970."""

    profile: str
    price: Price | None
    created: int
    changed: int | None = None  # when its price was written, as the API server noted it
    by: str = FIELD_MANAGER

    @property
    def source(self) -> str:
        """The source that its entries name."""
        return entry_source(self.profile)


@dataclass(frozen=True)
class NewEntry:
    """An entry to write."""

    name: str
    spec: PriceEntrySpec


def entry_source(profile: str) -> str:
    """Return the source that a profile's entries name.

    >>> entry_source("h100")
    'ComputeProfile h100'
    """
    return f"{OF_A_PROFILE}{profile}"[:253]


def read_statement(body: Mapping[str, Any]) -> PriceStatement:
    """Return the statement of the ComputeProfile in `body`; raises ValueError (Undecodable) if unreadable."""
    metadata, price = body["metadata"], body.get("spec", {}).get("price")
    return PriceStatement(
        profile=metadata["name"],
        price=None if price is None else read(Price, price),
        created=parse_time(metadata["creationTimestamp"]),
        changed=_written_at(metadata.get("managedFields", ())),
        by=metadata.get("annotations", {}).get(REQUESTED_BY_ANNOTATION, "")[:253] or FIELD_MANAGER,
    )


def _written_at(managers: Iterable[Mapping[str, Any]]) -> int | None:
    """Return when the price was last written; where no manager has it, when the spec was."""
    specs = [
        (manager["time"], manager.get("fieldsV1", {}).get("f:spec", {}))
        for manager in managers
        if manager.get("time") and not manager.get("subresource")
    ]
    priced = [parse_time(time) for time, spec in specs if "f:price" in spec]
    return max(priced or (parse_time(time) for time, spec in specs if spec), default=None)


def build_missing_entries(said: PriceStatement, known: Iterable[PriceBookEntry], now: int) -> list[NewEntry]:
    """Return the missing entries, in the order to write them; raises ValueError for an invalid time.

    Args:
        known: entries of the book that name the profile as their source.
        now: when a removed price ends, as the API server notes no time for that.
    """
    own = sorted(
        (entry for entry in known if entry.sku.profile == said.profile and _number(entry)), key=_order
    )
    superseded = corrections(own)
    stands = [entry for entry in own if entry.id not in superseded and now < entry.effective_to]
    count = _number(own[-1]) if own else 0
    if said.price is None:
        return _ends(said, stands, now, count)
    sku = Sku(said.profile, said.price.capacity)
    last = next((entry for entry in reversed(own) if entry.effective_to == FOREVER), None)
    done = last if last is not None and last in stands and _says(said.price, sku, last) else None
    begins = _begins(said, first=not own, now=now) if done is None else done.effective_from
    # Those that would begin later, or at once, are not what the profile says any more.
    wrong: list[PriceBookEntry | None] = [
        entry
        for entry in stands
        if entry.sku == sku and begins <= entry.effective_from and not (done and _same(done, entry))
    ]
    return [
        _entry(said, sku, _rate(said.price), (begins, FOREVER), old.id if old else "", count + place)
        for place, old in enumerate(wrong or ([None] if done is None else []), start=1)
    ]


def _same(entry: PriceBookEntry, other: PriceBookEntry) -> bool:
    """Return whether both hold the same price; one statement has an entry for each one it supersedes."""
    return (entry.rate, entry.effective_from) == (other.rate, other.effective_from)


def _says(price: Price, sku: Sku, last: PriceBookEntry) -> bool:
    """Return whether the newest entry, `last`, equals the profile's statement."""
    if (last.sku, last.rate) != (sku, _rate(price)):
        return False
    return price.effective_from is None or parse_time(price.effective_from) == last.effective_from


def _begins(said: PriceStatement, first: bool, now: int) -> int:
    """Return the second from which the price holds."""
    assert said.price is not None, "a price is stated"
    if said.price.effective_from:
        return parse_time(said.price.effective_from)
    return said.created if first else (now if said.changed is None else said.changed)


def _ends(said: PriceStatement, stands: Iterable[PriceBookEntry], end: int, count: int) -> list[NewEntry]:
    """Return entries that end those in `stands` at `end`."""
    return [
        _entry(
            said,
            entry.sku,
            entry.rate,
            (entry.effective_from, end) if entry.effective_from < end else _NEVER,
            entry.id,
            count + place,
        )
        for place, entry in enumerate(stands, start=1)
    ]


def _entry(
    said: PriceStatement, sku: Sku, rate: HourlyRate, holds: tuple[int, int], supersedes: str, number: int
) -> NewEntry:
    spec = PriceEntrySpec(
        profile=sku.profile,
        capacity=sku.capacity,
        dollars_per_node_hour=float(rate.exact / Money.NANO),
        effective_from=format_time(holds[0]),
        effective_to=None if holds[1] == FOREVER else format_time(holds[1]),
        source=said.source,
        created_by=said.by,
        supersedes=supersedes,
    )
    return NewEntry(_name(said, spec, number), spec)


def _name(said: PriceStatement, spec: PriceEntrySpec, number: int) -> str:
    """Return a name that is the same for the same statement after the same predecessors."""
    price = said.price
    since = price.effective_from if price is not None else None
    what = (spec.profile, spec.capacity, spec.dollars_per_node_hour, spec.supersedes, number, since)
    digest = hashlib.sha256(repr(what).encode()).hexdigest()[:8]
    return f"{said.profile[:_STEM].rstrip('-.')}-{number:06d}-{digest}"


def _number(entry: PriceBookEntry) -> int:
    """Return the number of an entry that was made here, from 1; 0 for any other."""
    found = _NUMBER.search(entry.id)
    return int(found[1]) if found else 0


def _order(entry: PriceBookEntry) -> tuple[int, int, str]:
    return _number(entry), entry.created_at, entry.id


def _rate(price: Price) -> HourlyRate:
    """Return whole nano-dollars an hour, as in the ledger."""
    return HourlyRate(Fraction(round(decimal_fraction(price.dollars_per_node_hour) * Money.NANO)))
