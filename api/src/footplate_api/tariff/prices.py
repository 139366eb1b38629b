"""Creates and lists entries of the price book."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final

from footplate_api.audit.audited_writer import AuditedWriter
from footplate_api.creation.idempotency import HEADER
from footplate_api.db.database import Database, ReadSession
from footplate_api.errors import ClusterRefused, FieldError, Invalid
from footplate_api.http import json_models
from footplate_api.kubernetes.client import KubernetesClient, Manifest, if_found
from footplate_api.tariff import price_rules, repository, tariff_rows
from footplate_api.tariff.schemas import PriceItem, PriceList, PriceQuery, PriceSubmission
from footplate_ledger.conversion import format_time
from footplate_ledger.intervals import unix_second
from footplate_ledger.prices import PriceBook, PriceBookEntry
from footplate_ledger.units import Money

_CONFLICT: Final = 409


def submission(body: bytes) -> PriceSubmission:
    """Parse the price in `body`; raises Invalid."""
    return json_models.parse_model(PriceSubmission, body)


async def create_price(
    writer: AuditedWriter,
    cluster: KubernetesClient,
    database: Database,
    asked: PriceSubmission,
    key: str | None,
    now: Callable[[], datetime],
) -> PriceItem:
    """Create the entry, or return the one that an earlier request with this key created.

    Raises Invalid, with the field, for an entry that contradicts the book.
    """
    if key is not None:
        standing = await _standing(cluster, asked, writer.username, key)
        if standing is not None:
            return await _note(database, standing)
    made = await _checked(cluster, database, asked, now())
    manifest = price_rules.manifest(asked, made, writer.username, key)
    try:
        created = await writer.create_price(manifest)
    except ClusterRefused as error:
        if error.status != _CONFLICT or key is None:
            raise
        again = await _standing(cluster, asked, writer.username, key)  # an attempt beside this one
        if again is None:
            raise
        created = again
    return await _note(database, created)


async def preview(
    writer: AuditedWriter,
    cluster: KubernetesClient,
    database: Database,
    asked: PriceSubmission,
    now: datetime,
) -> PriceItem:
    """Return the entry as a dry run of Kubernetes shows it; raises as enter() does."""
    made = await _checked(cluster, database, asked, now)
    manifest = price_rules.manifest(asked, made, writer.username, None)
    tried = await writer.create_price(manifest, dry_run=True)
    return _shown(_Row(tariff_rows.price_row(tried)), None)


class _Row:
    """Row that is not stored."""

    def __init__(self, columns: dict[str, Any]) -> None:
        self.__dict__.update(columns)


async def _checked(
    cluster: KubernetesClient, database: Database, asked: PriceSubmission, now: datetime
) -> PriceBookEntry:
    if await cluster.get_profile(asked.profile) is None:
        raise Invalid.field("body.profile", asked.profile, "must be the name of a ComputeProfile")
    async with database.read() as session:
        rows = await repository.book(session)
    book = await asyncio.to_thread(tariff_rows.entries_of, rows)
    if asked.supersedes is not None and asked.supersedes not in {known.id for known in book}:
        book += await _unseen(cluster, asked.supersedes)
    made = price_rules.entry(asked, now, book)
    await asyncio.to_thread(price_rules.check, made, book)
    return made


async def _unseen(cluster: KubernetesClient, name: str) -> list[PriceBookEntry]:
    """Return the entry `name` from Kubernetes, if it exists, as the mirror may not have it yet."""
    found = await if_found(cluster.get_price(name))
    return [] if found is None else [tariff_rows.entry_of(_Row(tariff_rows.price_row(found)))]


async def _standing(
    cluster: KubernetesClient, asked: PriceSubmission, username: str, key: str
) -> Manifest | None:
    """Return the object that an earlier attempt created; raises Invalid if that was another request."""
    found = await if_found(cluster.get_price(price_rules.idempotent_name(username, key)))
    if found is None or price_rules.is_created_by(
        found, username, price_rules.annotation_value(asked, username, key)
    ):
        return found
    message = "must differ from the key of a request for another price"
    raise Invalid(f"header.{HEADER}: {message}", [FieldError(f"header.{HEADER}", None, message)])


async def _note(database: Database, created: Manifest) -> PriceItem:
    """Store the entry at once, so that its creator can read it back."""
    row = tariff_rows.price_row(created)
    async with database.write() as session:
        await repository.add_prices(session, [row])
        own = await repository.book(session, row["profile"])
    by = (await asyncio.to_thread(tariff_rows.book_of, own)).corrected_by(row["name"])
    return _shown(_Row(row), by)


async def list_prices(session: ReadSession, query: PriceQuery) -> PriceList:
    """Return the book, or its entries in force at a time."""
    rows = await repository.book(session, query.profile)
    return await asyncio.to_thread(_list, rows, query)


def _list(rows: Sequence[Any], query: PriceQuery) -> PriceList:
    book = tariff_rows.book_of(rows)
    only = None if query.at is None else in_force(book, unix_second(query.at))
    return PriceList(items=list_items(rows, book, only))


def in_force(book: PriceBook, moment: int) -> frozenset[str]:
    """Return the ids of all entries whose price is in force at `moment`, a second."""
    skus = {known.sku for known in book.entries}
    found = (book.entry(wanted, moment) for wanted in skus)
    return frozenset(known.id for known in found if known is not None)


def list_items(rows: Sequence[Any], book: PriceBook, only: frozenset[str] | None = None) -> list[PriceItem]:
    """Return the entries in `rows` of `book`, filtered by the ids in `only` if given."""
    return [_shown(row, book.corrected_by(row.name)) for row in rows if only is None or row.name in only]


def _shown(row: Any, by: PriceBookEntry | None) -> PriceItem:
    return PriceItem(
        id=row.name,
        profile=row.profile,
        capacity=row.capacity,
        provider=row.provider,
        region=row.region,
        dollars_per_node_hour=row.nano_dollars / Money.NANO,
        effective_from=format_time(row.effective_from),
        effective_to=None if row.effective_to is None else format_time(row.effective_to),
        source=row.source,
        created_by=row.created_by,
        created_at=format_time(row.created_at),
        supersedes=row.supersedes or None,
        superseded_by=None if by is None else by.id,
    )
