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
        raise ValueError(f"must be between the years {_FIRST} and {_LAST}")
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
        None, description="how the nodes are bought; default: as in the superseded entry, else OnDemand"
    )
    provider: _Short = Field("", description="informational, such as aws")
    region: _Short | None = Field(
        None,
        description="topology.kubernetes.io/region; empty: regions without an entry of their own; default:"
        " as in the superseded entry, else empty",
    )
    dollars_per_node_hour: Annotated[Decimal, Field(ge=0, le=1_000_000, decimal_places=9)] = Field(
        description="price of one node for one hour; at most nine decimal places"
    )
    effective_from: Counted | None = Field(None, description="first second in force; default: now")
    effective_to: Counted | None = Field(
        None, description="first second not in force; default: until a later one begins"
    )
    source: _Long = Field("", description="source of the price")
    supersedes: Name | None = Field(
        None, description="id of the entry that this one replaces from its beginning"
    )


class PriceQuery(QueryParameters):
    """Filters of a list of prices."""

    profile: Name | None = Field(None, description="only entries of this ComputeProfile")
    at: Counted | None = Field(None, description="only entries in force in this second")


class PriceItem(Schema):
    """Entry of the price book."""

    id: str = Field(description="name of the PriceEntry")
    profile: str
    capacity: Capacity
    provider: str
    region: str
    dollars_per_node_hour: float
    effective_from: Moment
    effective_to: Moment | None = Field(description="null: until a later entry begins")
    source: str
    created_by: str
    created_at: Moment
    supersedes: str | None
    superseded_by: str | None = Field(description="id of the entry that replaces this one from its beginning")


class PriceList(Schema):
    """Entries of the price book, in the order in which they begin."""

    items: list[PriceItem]


class CarbonItem(Schema):
    """Carbon intensity where nodes of a profile are."""

    provider: str
    region: str
    grams_per_kilowatt_hour: float
    rank: IntensitySource = Field(
        description="source of the intensity: the profile, a series, the mean of a zone, of the world"
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
    product: str | None = Field(description="product name of the devices; null without devices")
    devices: int
    device_watts: float | None = Field(description="rated power of one device (TDP)")
    node_watts: float | None = Field(
        description="power of a node without its devices; null: energy counts the devices only"
    )
    power_usage_effectiveness: float
    prices: list[PriceItem] = Field(description="prices in force now, by capacity and region")
    carbon: list[CarbonItem] = Field(description="current carbon intensity at each location of such nodes")
    nodes: list[NodesItem]


class ProfileList(Schema):
    """All ComputeProfiles, by name."""

    items: list[ProfileItem]
