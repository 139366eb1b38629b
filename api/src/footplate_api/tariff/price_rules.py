"""Rules for entries of the price book; pure.

An entry holds until a later one of the same sku begins. So an entry that begins later than all others needs
nothing; an entry that begins before an existing price has to end before that begins, or has to supersede it:
the price of a second must not depend on which of two entries was written last.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from footplate_api.errors import Invalid
from footplate_api.labels.run_labels import ASKED_UNDER
from footplate_api.tariff.schemas import PriceSubmission
from footplate_contracts.names import GROUP, REQUESTED_BY_ANNOTATION, VERSION
from footplate_contracts.v1alpha1.priceentry import OF_A_PROFILE
from footplate_ledger.conversion import format_time
from footplate_ledger.intervals import unix_second
from footplate_ledger.prices import FOREVER, PriceBookEntry, corrections
from footplate_ledger.units import HourlyRate
from footplate_ledger.usage import Sku

_PREFIX: Final = 200  # characters of a profile's name in that of an entry
_USER: Final = 253  # characters of createdBy
_DIGEST: Final = 16


def entry(asked: PriceSubmission, now: datetime, book: Sequence[PriceBookEntry]) -> PriceBookEntry:
    """Convert a submission into the ledger's entry; raises Invalid where it would never hold.

    A correction without capacity or region gets those of the entry that it supersedes.
    """
    begins = unix_second(asked.effective_from or now)
    ends = FOREVER if asked.effective_to is None else unix_second(asked.effective_to)
    if ends <= begins:
        raise Invalid.field(
            "body.effectiveTo", format_time(ends), f"must be later than effectiveFrom, {format_time(begins)}"
        )
    like = next((known.sku for known in book if known.id == asked.supersedes), Sku(asked.profile))
    capacity = like.capacity if asked.capacity is None else asked.capacity
    return PriceBookEntry(
        id="",
        sku=Sku(asked.profile, capacity, like.region if asked.region is None else asked.region),
        rate=HourlyRate.dollars_per_hour(str(asked.dollars_per_node_hour)),
        effective_from=begins,
        effective_to=ends,
        supersedes=asked.supersedes,
        source=asked.source,
    )


def check(asked: PriceBookEntry, book: Sequence[PriceBookEntry]) -> None:
    """Raise Invalid if `asked` contradicts the book, or claims a profile as its source."""
    if asked.source.startswith(OF_A_PROFILE):
        said = (
            f"must not begin with {OF_A_PROFILE!r}, which is for the operator's entries of a profile's price"
        )
        raise Invalid.field("body.source", asked.source, said)
    superseded = corrections(book)
    _check_superseded(asked, book, superseded)
    standing = [known for known in book if known.id not in superseded and known.id != asked.supersedes]
    for known in standing:
        later = asked.effective_from <= known.effective_from < asked.effective_to
        if known.sku == asked.sku and later:
            begins = format_time(known.effective_from)
            raise Invalid.field(
                "body.effectiveFrom",
                format_time(asked.effective_from),
                f"must be later than {begins}, when {known.id} begins; or set effectiveTo to at most that,"
                f" or set supersedes to {known.id}",
            )


def _check_superseded(
    asked: PriceBookEntry, book: Sequence[PriceBookEntry], superseded: Mapping[str, PriceBookEntry]
) -> None:
    """Raise Invalid if `asked` cannot supersede its entry; `superseded` maps entries to their corrections."""
    if asked.supersedes is None:
        return
    wrong = next((known for known in book if known.id == asked.supersedes), None)
    said = ""
    if wrong is None:
        said = "must be the id of an entry of the price book"
    elif wrong.sku.profile != asked.sku.profile:
        said = f"must be an entry of the same profile: this one is of {wrong.sku.profile}"
    elif wrong.id in superseded:
        said = f"must be an entry in force: {superseded[wrong.id].id} supersedes this one"
    if said:
        raise Invalid.field("body.supersedes", asked.supersedes, said)


def manifest(asked: PriceSubmission, made: PriceBookEntry, username: str, key: str | None) -> dict[str, Any]:
    """Return the object to create; with a `key`, its name is the same at each attempt."""
    spec: dict[str, Any] = {
        "profile": asked.profile,
        "capacity": made.sku.capacity.value,
        "provider": asked.provider,
        "region": made.sku.region,
        "dollarsPerNodeHour": float(asked.dollars_per_node_hour),
        "effectiveFrom": format_time(made.effective_from),
        "source": asked.source,
        "createdBy": username[:_USER],
        "supersedes": asked.supersedes or "",
    }
    if asked.effective_to is not None:
        spec["effectiveTo"] = format_time(made.effective_to)
    metadata: dict[str, Any] = {"generateName": f"{asked.profile[:_PREFIX].rstrip('.')}-"}
    if key is not None:
        metadata = {
            "name": idempotent_name(username, key),
            "annotations": {ASKED_UNDER: annotation_value(asked, username, key)},
        }
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": "PriceEntry", "metadata": metadata, "spec": spec}


def idempotent_name(username: str, key: str) -> str:
    """Return the name of a user's entry under a key, valid for ever, as no entry is deleted."""
    return f"price-{_digest([username, key])}"


def annotation_value(asked: PriceSubmission, username: str, key: str) -> str:
    """Return the value of the annotation for the requester, the key and the request."""
    return f"{_digest([username, key])}.{_digest(asked.model_dump(mode='json'))}"


def is_created_by(manifest: Any, username: str, mark: str) -> bool:
    """Return whether an earlier attempt at the same request created this object."""
    annotations = manifest["metadata"].get("annotations") or {}
    return {ASKED_UNDER: mark, REQUESTED_BY_ANNOTATION: username}.items() <= annotations.items()


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:_DIGEST]
