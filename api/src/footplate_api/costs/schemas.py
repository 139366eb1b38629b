"""Request and response schemas of costs."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from footplate_api.costs.grouping import Dimension
from footplate_api.costs.rows import CostKind
from footplate_api.serialization.schemas import FormerNamespaces, QueryParameters, Schema, Uid
from footplate_api.tariff.schemas import Counted

Moment = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
_NAMES: Final = ", ".join(f"`{name}`" for name in Dimension)


class CostQuery(QueryParameters):
    """Query parameters of costs: window, steps and grouping."""

    group_by: str = Field(
        Dimension.NAMESPACE.value,
        max_length=1000,
        pattern=r"^[^\x00]+$",
        description=f"one or several of {_NAMES} and `label:KEY`, separated by commas; `owner` is who asked"
        " for the run here",
    )
    since: Counted | None = Field(
        None, alias="from", description="the first second; default: the beginning of the month of `to`"
    )
    until: Counted | None = Field(None, alias="to", description="the first second after; default: now")
    step: str | None = Field(
        None,
        max_length=20,
        pattern=r"^[^\x00]+$",
        description="`hour`, `day`, `week`, `month`, or seconds; default: all of the time is one",
    )
    idle: bool = Field(
        False, description="also what nobody held of nodes; for who may list the runs of all namespaces"
    )
    share_idle: bool = Field(
        False,
        description="share what nobody held out among those who held such nodes meanwhile, by how much each"
        " held; rows of kind `idle` are what is left; for who may list the runs of all namespaces",
    )
    former_namespaces: FormerNamespaces = False


class RunCostQuery(QueryParameters):
    """Query parameters of one run's costs."""

    uid: Uid | None = None
    former_namespaces: FormerNamespaces = False
    pods: bool = Field(False, description="also each pod, of 10,000 at most")


class CostRow(Schema):
    """Cost of one group in one part of time; null means unknown, not zero."""

    kind: CostKind = Field(
        description="what runs held; `idle`: what nobody held; `adjustment`, `idleAdjustment`: what prices"
        " that were written after a month had ended changed about it"
    )
    since: Moment = Field(serialization_alias="from")
    until: Moment = Field(serialization_alias="to")
    at: Moment | None = Field(description="when an adjustment was written")
    group: dict[str, str | None] = Field(description="by the dimensions that were asked for")
    dollars: float | None = Field(description="of what has a price; four decimal places")
    kilowatt_hours: float | None
    carbon_kilograms: float | None = Field(description="CO2 equivalent, where it was consumed")
    node_seconds: float | None = Field(description="of whole nodes")
    unpriced_node_seconds: float | None = Field(description="of them, without a price")
    estimated_node_seconds: float | None = Field(description="of them, of pods that nobody saw end")
    device_seconds: int | None
    coordinator_dollars: float | None = Field(description="of `dollars`, for coordinators")
    idle_dollars: float | None = Field(
        description="beside `dollars`: its share of what nobody held, where `shareIdle` asks for it"
    )
    idle_node_seconds: float | None = Field(description="of whole nodes, for which `idleDollars` are")


class CostTable(Schema):
    """Costs over a window; a closed month appears as it stood when it ended."""

    since: Moment = Field(serialization_alias="from")
    until: Moment = Field(serialization_alias="to")
    counted_until: Moment = Field(description="what goes on is counted up to this second")
    group_by: list[str]
    step: str | None
    rows: list[CostRow]


class Joules(Schema):
    """Energy by the method that measured it."""

    counter: float
    power: float
    rated: float


class Amounts(Schema):
    """Amounts of some pods, as in `status.cost`; null means unknown, not zero."""

    dollars: float | None
    kilowatt_hours: float | None
    joules: Joules | None
    carbon_kilograms: float | None
    method: str = Field(description="how energy was found: shares of counter, power, rated, unknown")
    devices_only: bool = Field(description="the rest of the nodes is not in the energy")
    carbon_source: str = Field(description="shares of profile, series, zone, world")
    node_seconds: float
    unpriced_node_seconds: float
    estimated_node_seconds: float
    held_device_seconds: float = Field(description="seconds of a device that the pods held")


class DeviceSeconds(Schema):
    """Device-seconds by activity, as the operator reports them in `status.cost`."""

    productive: float
    checkpointing: float
    recomputed: float
    starting: float
    restarting: float
    waiting: float


class AttemptCost(Amounts):
    """Cost of one attempt's time, over all pods in it."""

    attempt: int


class PodCost(Amounts):
    """Cost of one pod."""

    uid: str
    name: str
    role: str
    attempt: int
    node: str = Field(description="uid of the Node, or its name where nobody could see Nodes")
    start: Moment
    end: Moment | None = Field(description="null while it goes on")
    estimated: bool = Field(description="nobody saw it end: the last evidence counts")


class MonthCost(Schema):
    """Cost of a month as of its closing, or so far."""

    since: Moment = Field(serialization_alias="from")
    until: Moment = Field(serialization_alias="to")
    dollars: float | None = Field(description="null: nobody had said a price")


class CostAdjustment(Schema):
    """Change in a closed month's cost by a price that was written after its end."""

    since: Moment = Field(serialization_alias="from")
    until: Moment = Field(serialization_alias="to")
    dollars: float
    at: Moment


class Ratio(Schema):
    """Cost per unit of the run's output."""

    dollars: float | None
    kilowatt_hours: float | None
    carbon_kilograms: float | None


class RunCost(Schema):
    """Cost of a run; months and adjustments add up to `total.dollars` before each is rounded."""

    namespace: str
    name: str
    uid: str
    counted_until: Moment = Field(description="what goes on is counted up to this second")
    total: Amounts = Field(description="of all its pods")
    coordinator: Amounts = Field(description="of it, of coordinators: they cost only what has a price")
    device_seconds: DeviceSeconds | None = Field(description="null where the operator has not told it")
    attempts: list[AttemptCost]
    pods: list[PodCost] | None = Field(description="null unless asked for")
    months: list[MonthCost]
    adjustments: list[CostAdjustment]
    tokens: int = Field(description="that the run has trained")
    per_million_tokens: Ratio | None = Field(description="null before the first token")
    checkpoints: int = Field(
        description="durable ones, those that are removed included; of more than 10,000 the newest"
    )
    per_checkpoint: Ratio | None = Field(
        description="null before the first one, and from 10,000 on, as older ones are forgotten"
    )
