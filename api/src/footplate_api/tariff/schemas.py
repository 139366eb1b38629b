"""Request and response schemas of prices and profiles."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Final

from pydantic import AfterValidator, ConfigDict, Field
from pydantic.config import JsonDict

from footplate_api.serialization.schemas import Instant, QueryParameters, Schema
from footplate_contracts.v1alpha1.computeprofile import Capacity
from footplate_ledger.carbon import IntensitySource

EXAMPLE: Final[JsonDict] = {
    "profile": "h100-infiniband",
    "dollarsPerNodeHour": 24.6,
    "effectiveFrom": "2026-12-01T00:00:00Z",
    "source": "contract 2026-117",
}
Name = Annotated[str, Field(max_length=253, pattern="^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$")]
_FIRST, _LAST = 1970, 9998  # years


def _in_time(moment: datetime) -> datetime:
    if not _FIRST <= moment.year <= _LAST:
        raise ValueError(f"must be in the years {_FIRST} to {_LAST}")
    return moment


Counted = Annotated[Instant, AfterValidator(_in_time)]
"""A moment for which there may be prices, with room for a month before and after it."""
Moment = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
_TEXT: Final = r"^[^\x00]*$"  # PostgreSQL knows no other
_Short = Annotated[str, Field(max_length=63, pattern=_TEXT)]
_Long = Annotated[str, Field(max_length=253, pattern=_TEXT)]


class PriceSubmission(Schema):
    """Entry of the price book; it cannot be changed or deleted."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [EXAMPLE]})

    profile: Name = Field(description="ComputeProfile of the nodes")
    capacity: Capacity | None = Field(
        None, description="how they are bought; default: as the entry says that is superseded, else OnDemand"
    )
    provider: _Short = Field("", description="for people, such as aws")
    region: _Short | None = Field(
        None,
        description="topology.kubernetes.io/region; empty: those that have no entry of their own; default: as"
        " the entry says that is superseded, else empty",
    )
    dollars_per_node_hour: Annotated[Decimal, Field(ge=0, le=1_000_000, decimal_places=9)] = Field(
        description="of one node for one hour; at most nine decimal places"
    )
    effective_from: Counted | None = Field(
        None, description="the first second in which it holds; default: now"
    )
    effective_to: Counted | None = Field(
        None, description="the first second in which it does not any more; default: until a later one begins"
    )
    source: _Long = Field("", description="where the price is from")
    supersedes: Name | None = Field(
        None, description="id of the entry that this one takes the place of, as if that had never been"
    )


class PriceQuery(QueryParameters):
    """Filters of a list of prices."""

    profile: Name | None = Field(None, description="only of this ComputeProfile")
    at: Counted | None = Field(None, description="only what is in force in this second")


class PriceItem(Schema):
    """Entry of the price book."""

    id: str = Field(description="name of the PriceEntry")
    profile: str
    capacity: Capacity
    provider: str
    region: str
    dollars_per_node_hour: float
    effective_from: Moment
    effective_to: Moment | None = Field(description="null: until a later one begins")
    source: str
    created_by: str
    created_at: Moment
    supersedes: str | None
    superseded_by: str | None = Field(description="by which it never was")


class PriceList(Schema):
    """Entries of the price book, in the order in which they begin."""

    items: list[PriceItem]


class CarbonItem(Schema):
    """Carbon intensity where nodes of a profile are."""

    provider: str
    region: str
    grams_per_kilowatt_hour: float
    rank: IntensitySource = Field(
        description="where it is from: the profile, a series, the mean of a zone, of the world"
    )
    source: str


class NodesItem(Schema):
    """Number of running nodes of a profile."""

    capacity: Capacity
    provider: str
    region: str
    count: int


class ProfileItem(Schema):
    """Prices, power and carbon intensity of a profile's nodes; null is unknown."""

    name: str
    product: str | None = Field(description="of its devices; null: it has none")
    devices: int
    device_watts: float | None = Field(description="rated power of one device (TDP)")
    node_watts: float | None = Field(
        description="of the node beside its devices; null: they alone are counted"
    )
    power_usage_effectiveness: float
    prices: list[PriceItem] = Field(description="in force now, by capacity and region")
    carbon: list[CarbonItem] = Field(description="now, for each place in which there are nodes of it")
    nodes: list[NodesItem]


class ProfileList(Schema):
    """All ComputeProfiles, by name."""

    items: list[ProfileItem]
