"""REST routes of prices and profiles."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Request, Response, status

from footplate_api.audit.dependencies import Writing
from footplate_api.creation.parameters import Creating, idempotency_key
from footplate_api.dependencies import Contextual, Reading
from footplate_api.errors import (
    ClusterRefused,
    ClusterUnavailable,
    DatabaseFull,
    DatabaseUnavailable,
    InstallationLacksRights,
    PriceBookNotOwned,
    ProfileNotFound,
)
from footplate_api.http import bodies
from footplate_api.http.openapi import ROUTER, Responses, raises
from footplate_api.identity.caller import PROFILES
from footplate_api.identity.rights import require_right
from footplate_api.serialization.schemas import NoQueryParameters
from footplate_api.tariff import prices, profiles
from footplate_api.tariff.dependencies import Pricing
from footplate_api.tariff.schemas import (
    Name,
    PriceItem,
    PriceList,
    PriceQuery,
    PriceSubmission,
    ProfileItem,
    ProfileList,
)
from footplate_ledger.intervals import unix_second

LIMIT: Final = 64 * 1024  # bytes of a price
IdempotencyKey = Annotated[
    str | None,
    idempotency_key(
        "unique key of the request: a repeated request with it creates no second price and returns the first"
    ),
]


async def _submitted(request: Request, context: Contextual) -> PriceSubmission:
    return prices.submission(await bodies.read(request, LIMIT, context.body_timeout))


async def _enter(
    asked: Annotated[PriceSubmission, Depends(_submitted)],
    context: Contextual,
    writer: Writing,
    options: Creating,
    key: IdempotencyKey = None,
) -> Response:
    if options.dry_run:
        made = await prices.preview(writer, context.cluster, context.database, asked, context.now())
    else:
        made = await prices.create_price(writer, context.cluster, context.database, asked, key, context.now)
    answered = status.HTTP_200_OK if options.dry_run else status.HTTP_201_CREATED
    return Response(made.model_dump_json(by_alias=True), answered, media_type="application/json")


async def _keeps_the_book(context: Contextual) -> None:
    context.served.check_owns_price_book()


router = APIRouter(prefix="/v1", tags=["costs"], **ROUTER)

_PREVIEW: Responses = {200: {"model": PriceItem, "description": "Entry as it would be created, for `dryRun`"}}


@router.post(
    "/prices",
    status_code=status.HTTP_201_CREATED,
    response_model=PriceItem,
    summary="Create a price",
    dependencies=[require_right("update", PROFILES, everywhere=True), Depends(_keeps_the_book)],
    openapi_extra=bodies.openapi_request_body(PriceSubmission),
    responses=raises(
        PriceBookNotOwned,
        ClusterRefused,
        ClusterUnavailable,
        InstallationLacksRights,
        DatabaseUnavailable,
        DatabaseFull,
    )
    | _PREVIEW,
)
async def create_price(answer: Annotated[Response, Depends(_enter)]) -> Response:
    """Create a PriceEntry in Kubernetes, for callers who may `update` ComputeProfiles.

    Entries cannot be changed or deleted: to correct one, create another that supersedes it.
    """
    return answer


@router.get(
    "/prices",
    summary="List of prices",
    dependencies=[require_right("list", PROFILES, everywhere=True)],
    responses=raises(DatabaseUnavailable),
)
async def list_prices(query: Annotated[PriceQuery, Query()], session: Reading) -> PriceList:
    """List all entries, superseded ones included; with `at`, those in force in that second."""
    return await prices.list_prices(session, query)


@router.get(
    "/profiles",
    summary="Prices, power and carbon intensity of all profiles",
    dependencies=[require_right("list", PROFILES, everywhere=True)],
    responses=raises(DatabaseUnavailable),
)
async def list_profiles(
    _: Annotated[NoQueryParameters, Query()], context: Contextual, tariffs: Pricing
) -> ProfileList:
    """List all ComputeProfiles, by name."""
    tariff = await tariffs.read()
    async with context.database.read() as session:
        return await profiles.list_profiles(session, tariff, unix_second(context.now()))


@router.get(
    "/profiles/{name}",
    summary="Prices, power and carbon intensity of a profile",
    dependencies=[require_right("get", PROFILES, named=True, everywhere=True)],
    responses=raises(ProfileNotFound, DatabaseUnavailable),
)
async def get_profile(
    name: Name, _: Annotated[NoQueryParameters, Query()], context: Contextual, tariffs: Pricing
) -> ProfileItem:
    """Return a ComputeProfile with its prices, power, carbon intensities and nodes."""
    tariff = await tariffs.read()
    async with context.database.read() as session:
        return await profiles.get_profile(session, name, tariff, unix_second(context.now()))
