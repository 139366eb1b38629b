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

    kind: Annotated[str, Field(min_length=1, max_length=63)] = Field(description="kind, such as TrainingRun")
    namespace: Annotated[str, Field(min_length=1, max_length=63)] = Field(description="its namespace")
    name: Annotated[str, Field(min_length=1, max_length=253)] = Field(description="its name")
    uid: Uid = Field(description="its uid")


class UsageInterval(ApiModel):
    """A priced quantity over a time: half-open, whole seconds, UTC."""

    profile: _Short = Field("", description="ComputeProfile of the node; empty: no profile matches")
    capacity: Capacity = Field(Capacity.ON_DEMAND, description="terms of purchase of the node")
    region: _Short = Field("", description="topology.kubernetes.io/region of the Node")
    provider: _Short = Field("", description="scheme of the Node's providerID, such as aws")
    devices: Whole = Field(0, description="number of accelerators")
    millicores: Whole = Field(0, description="CPU, in thousandths of a core")
    start: Time = Field(description="first second of the interval")
    end: Time | None = Field(None, description="first second after the interval; absent while it is open")
    seen: Time | None = Field(None, description="time last seen open; absent once the interval has ended")
    estimated: bool = Field(False, description="true: the end was not observed; it is the last evidence")


class PowerRating(ApiModel):
    """The node's power by its profile when the pod was created; absent values are unknown."""

    device_watts: Amount | None = Field(None, description="rated power of one device (TDP)")
    node_watts: Amount | None = Field(None, description="power of the node without its devices")
    power_usage_effectiveness: Annotated[float, Field(ge=1.0, le=10.0)] = Field(
        1.0, description="the data centre's total power over the computers' power"
    )
    grams_per_kilowatt_hour: Amount | None = Field(None, description="carbon intensity in the profile")
    carbon_zone: Annotated[str, Field(max_length=16)] = Field("", description="zone of the power grid")


class EnergyUsed(ApiModel):
    """Sums since the pod began, as its agent measured them; they only grow."""

    millijoules: Whole = Field(0, description="energy of all its devices")
    counter_seconds: Whole = Field(0, description="device-seconds measured by energy counters")
    power_seconds: Whole = Field(0, description="device-seconds measured by power samples")


class PodUsage(UsageInterval):
    """Usage of one pod on its node, from its binding until its containers had ended."""

    name: _Short = Field("", description="name of the pod")
    role: Role = Field(description="role of the pod in its run")
    attempt: Whole = Field(0, description="number of the run's attempt in which it started")
    node: Annotated[str, Field(min_length=1, max_length=253)] = Field(
        description="uid of the Node, or its name if the operator cannot read Nodes"
    )
    node_devices: Whole = Field(0, description="accelerators of such a node by its profile; 0: unknown")
    rating: PowerRating | None = Field(
        None, description="node's power by its profile; absent if none has any"
    )
    energy: EnergyUsed | None = Field(None, description="measured energy; absent when not measured")


class NodeUsage(UsageInterval):
    """Lifetime of one Node, from its creation until it was gone."""

    name: _Short = Field(description="name of the Node")


class UsageRecordSpec(ApiModel):
    """Usage of an owner's pods, or of Nodes; entries that have ended do not change."""

    owner: UsageOwner | None = Field(None, description="owner of the pods; absent for Nodes")
    pods: Annotated[dict[Uid, PodUsage], Field(max_length=PODS_LIMIT)] = Field({}, description="by uid")
    nodes: Annotated[dict[Uid, NodeUsage], Field(max_length=PODS_LIMIT)] = Field({}, description="by uid")
    completed: bool = Field(False, description="true: owner and entries have ended; none will be added")

    rules: ClassVar = (
        required_rule(
            "has(self.owner) || self.pods.size() == 0",
            "owner is required where there are pods: set the object that owns them",
            field="owner",
        ),
    )
