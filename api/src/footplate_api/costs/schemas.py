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
        description=f"one or more of {_NAMES} and `label:KEY`, separated by commas; `owner` is the user who"
        " created the run through this API",
    )
    since: Counted | None = Field(
        None, alias="from", description="first second; default: the start of the month of `to`"
    )
    until: Counted | None = Field(None, alias="to", description="end, exclusive; default: now")
    step: str | None = Field(
        None,
        max_length=20,
        pattern=r"^[^\x00]+$",
        description="`hour`, `day`, `week`, `month`, or seconds; default: one step for the whole window",
    )
    idle: bool = Field(
        False, description="also unallocated node time; requires the right to list the runs of all namespaces"
    )
    share_idle: bool = Field(
        False,
        description="distribute unallocated node time over the groups that used such nodes meanwhile, by use;"
        " rows of kind `idle` are the rest; requires the right to list the runs of all namespaces",
    )
    former_namespaces: FormerNamespaces = False


class RunCostQuery(QueryParameters):
    """Query parameters of one run's costs."""

    uid: Uid | None = None
    former_namespaces: FormerNamespaces = False
    pods: bool = Field(False, description="also the cost of each pod, for at most 10,000 pods")


class CostRow(Schema):
    """Cost of one group in one part of time; null means unknown, not zero."""

    kind: CostKind = Field(
        description="`usage`: node time of runs; `idle`: unallocated node time; `adjustment`,"
        " `idleAdjustment`: changes of a closed month's cost by prices that were written after its end"
    )
    since: Moment = Field(serialization_alias="from")
    until: Moment = Field(serialization_alias="to")
    at: Moment | None = Field(description="time when the adjustment was written")
    group: dict[str, str | None] = Field(description="values of the requested dimensions")
    dollars: float | None = Field(description="cost of priced node time; four decimal places")
    kilowatt_hours: float | None
    carbon_kilograms: float | None = Field(description="CO2 equivalent at the place of consumption")
    node_seconds: float | None = Field(description="seconds of whole nodes")
    unpriced_node_seconds: float | None = Field(description="part of `nodeSeconds` without a price")
    estimated_node_seconds: float | None = Field(
        description="part of `nodeSeconds` of pods with an estimated end"
    )
    device_seconds: int | None
    coordinator_dollars: float | None = Field(description="part of `dollars` for coordinators")
    idle_dollars: float | None = Field(
        description="share of idle cost, not part of `dollars`; null without `shareIdle`"
    )
    idle_node_seconds: float | None = Field(description="seconds of whole nodes that `idleDollars` covers")


class CostTable(Schema):
    """Costs over a window; a closed month appears as it stood when it ended."""

    since: Moment = Field(serialization_alias="from")
    until: Moment = Field(serialization_alias="to")
    counted_until: Moment = Field(description="time up to which running pods are counted")
    group_by: list[str]
    step: str | None
    rows: list[CostRow]


class Joules(Schema):
    """Energy by the method that measured it."""

    counter: float
    power: float
    rated: float


class UsageCost(Schema):
    """Amounts of some pods, as in `status.cost`; null means unknown, not zero."""

    dollars: float | None
    kilowatt_hours: float | None
    joules: Joules | None
    carbon_kilograms: float | None
    method: str = Field(description="methods of measuring energy: shares of counter, power, rated, unknown")
    devices_only: bool = Field(description="true if energy excludes the rest of the nodes")
    carbon_source: str = Field(description="sources of intensity: shares of profile, series, zone, world")
    node_seconds: float
    unpriced_node_seconds: float
    estimated_node_seconds: float
    held_device_seconds: float = Field(description="device-seconds allocated to the pods")


class DeviceSeconds(Schema):
    """Device-seconds by activity, as the operator reports them in `status.cost`."""

    productive: float
    checkpointing: float
    recomputed: float
    starting: float
    restarting: float
    waiting: float


class AttemptCost(UsageCost):
    """Cost of one attempt's time, over all pods in it."""

    attempt: int


class PodCost(UsageCost):
    """Cost of one pod."""

    uid: str
    name: str
    role: str
    attempt: int
    node: str = Field(description="uid of the Node, or its name if Nodes were not readable")
    start: Moment
    end: Moment | None = Field(description="null while the pod runs")
    estimated: bool = Field(description="true if its end was not observed: the last evidence counts")


class MonthCost(Schema):
    """Cost of a month as of its closing, or so far."""

    since: Moment = Field(serialization_alias="from")
    until: Moment = Field(serialization_alias="to")
    dollars: float | None = Field(description="null without a price")


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
    counted_until: Moment = Field(description="time up to which running pods are counted")
    total: UsageCost = Field(description="amounts of all pods")
    coordinator: UsageCost = Field(description="part of `total` for coordinators, only what has a price")
    device_seconds: DeviceSeconds | None = Field(description="null if the operator has not reported it")
    attempts: list[AttemptCost]
    pods: list[PodCost] | None = Field(description="null unless requested")
    months: list[MonthCost]
    adjustments: list[CostAdjustment]
    tokens: int = Field(description="tokens that the run has trained on")
    per_million_tokens: Ratio | None = Field(description="null before the first token")
    checkpoints: int = Field(
        description="durable checkpoints, removed ones included; at most the newest 10,000"
    )
    per_checkpoint: Ratio | None = Field(
        description="null before the first checkpoint, and from 10,000 on, as older ones are not counted"
    )
