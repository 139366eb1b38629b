"""UsageRecord: time for which pods held nodes, for the bill.

The operator writes it while the pods exist; it outlives them, their run and their namespace, until the API
has stored it. A record is named `<uid of the owner>-<number>`, or `node-<uid of the Node>`.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

from pydantic import Field

from footplate_contracts.names import Role
from footplate_contracts.rules import required_rule
from footplate_contracts.v1alpha1.computeprofile import Amount, Capacity
from footplate_contracts.v1alpha1.types import ApiModel, Time, Whole

PODS_LIMIT: Final = 256  # of one record: some 100 KiB
Uid = Annotated[str, Field(min_length=1, max_length=64)]
_Short = Annotated[str, Field(max_length=253)]


class UsageOwner(ApiModel):
    """The object that owns the pods."""

    kind: Annotated[str, Field(min_length=1, max_length=63)] = Field(description="such as TrainingRun")
    namespace: Annotated[str, Field(min_length=1, max_length=63)] = Field(description="its namespace")
    name: Annotated[str, Field(min_length=1, max_length=253)] = Field(description="its name")
    uid: Uid = Field(description="its uid")


class UsageInterval(ApiModel):
    """A priced quantity over a time: half-open, whole seconds, UTC."""

    profile: _Short = Field("", description="ComputeProfile; empty: none fits")
    capacity: Capacity = Field(Capacity.ON_DEMAND, description="how the node was bought")
    region: _Short = Field("", description="topology.kubernetes.io/region of the Node")
    provider: _Short = Field("", description="the scheme of the Node's providerID, such as aws")
    devices: Whole = Field(0, description="accelerators")
    millicores: Whole = Field(0, description="CPU, in thousandths of a core")
    start: Time = Field(description="the first second")
    end: Time | None = Field(None, description="the first second after it; absent while it goes on")
    seen: Time | None = Field(None, description="when it was last seen to go on; absent once it has ended")
    estimated: bool = Field(False, description="nobody saw it end: the last evidence counts")


class PowerRating(ApiModel):
    """The node's power by its profile when the pod was created; absent is unknown."""

    device_watts: Amount | None = Field(None, description="rated power of one device (TDP)")
    node_watts: Amount | None = Field(None, description="of the node beside its devices")
    power_usage_effectiveness: Annotated[float, Field(ge=1.0, le=10.0)] = Field(
        1.0, description="the data centre's total power over the computers' power"
    )
    grams_per_kilowatt_hour: Amount | None = Field(None, description="carbon intensity that it states")
    carbon_zone: Annotated[str, Field(max_length=16)] = Field("", description="zone of the grid")


class EnergyUsed(ApiModel):
    """Sums since the pod began, as its agent measured them; they only grow."""

    millijoules: Whole = Field(0, description="of all its devices")
    counter_seconds: Whole = Field(0, description="of a device, known by its energy counter")
    power_seconds: Whole = Field(0, description="of a device, known by its power")


class PodUsage(UsageInterval):
    """Usage of one pod on its node, from its binding until its containers had ended."""

    name: _Short = Field("", description="of the pod")
    role: Role = Field(description="what it is in its run")
    attempt: Whole = Field(0, description="of the run, in which it began")
    node: Annotated[str, Field(min_length=1, max_length=253)] = Field(
        description="uid of the Node, or its name where Nodes cannot be seen"
    )
    node_devices: Whole = Field(0, description="accelerators of such a node, by the profile; 0: not known")
    rating: PowerRating | None = Field(None, description="absent: no profile says anything")
    energy: EnergyUsed | None = Field(None, description="absent: nobody measured it")


class NodeUsage(UsageInterval):
    """Lifetime of one Node, from its creation until it was gone."""

    name: _Short = Field(description="of the Node")


class UsageRecordSpec(ApiModel):
    """Usage of an owner's pods, or of Nodes; entries that have ended do not change."""

    owner: UsageOwner | None = Field(None, description="whose pods they are; absent: they are Nodes")
    pods: Annotated[dict[Uid, PodUsage], Field(max_length=PODS_LIMIT)] = Field({}, description="by uid")
    nodes: Annotated[dict[Uid, NodeUsage], Field(max_length=PODS_LIMIT)] = Field({}, description="by uid")
    completed: bool = Field(False, description="its owner has ended and all of it too: nothing will be added")

    rules: ClassVar = (
        required_rule(
            "has(self.owner) || self.pods.size() == 0",
            "owner is required where there are pods: say whose they are",
            field="owner",
        ),
    )
