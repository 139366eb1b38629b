"""Messages between an agent and the coordinator: joins, heartbeats, and grants to commit a checkpoint."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated

from pydantic import Field

from footplate_contracts.base import WireMessage, read_unknown_as
from footplate_contracts.connectivity_probes import ConnectivityProbe, ConnectivityProbeResult
from footplate_contracts.diagnosis import KnownDiagnosis
from footplate_contracts.directives import Command, NumberedLimits
from footplate_contracts.energy import ReadableEnergy
from footplate_contracts.failures import FailureReport
from footplate_contracts.names import FIRST_SPARE, WorkerId
from footplate_contracts.reports import GenerationId, RankReport, TelemetryItem
from footplate_contracts.v1alpha1.types import ShortText


class AgentIdentity(WireMessage):
    """Identity of an agent: the slot in the gang and the process that fills it now."""

    index: int = Field(ge=0, description="worker index, the slot")
    incarnation: int = Field(ge=0, description="number of the slot's pod, ascending")
    pod_name: ShortText
    pod_uid: str = Field(default="", max_length=64)
    node_name: ShortText = ""
    address: ShortText = Field(description="IP address for the other members")
    local_world_size: int = Field(
        ge=1, validation_alias="slots", serialization_alias="slots", description="ranks this agent starts"
    )

    @property
    def worker(self) -> WorkerId:
        """Slot of the agent, and the incarnation of its pod."""
        return WorkerId(self.index, self.incarnation)

    @property
    def is_spare(self) -> bool:
        """True if the agent has no slot yet."""
        return self.index >= FIRST_SPARE


class JoinRequest(WireMessage):
    """Request of an agent that is ready for the next generation; answered when one is sealed."""

    agent: AgentIdentity
    store_port: int = Field(description="port of the TCPStore that this agent would host")
    last_generation: GenerationId | None = None
    failure: FailureReport | None = Field(default=None, description="failure that ended the last generation")


class LeaveRequest(AgentIdentity):
    """Last message of an agent that ends on request; an earlier coordinator reads its identity alone."""

    energy: ReadableEnergy = None


class Member(WireMessage):
    """An agent of a sealed generation."""

    agent: AgentIdentity
    group_rank: int
    first_rank: int
    store_port: int


class SealedGeneration(WireMessage):
    """Response to a join: the membership that all agents start with."""

    generation: GenerationId
    members: list[Member]
    world_size: int = Field(description="total number of ranks")
    limits: NumberedLimits | None = Field(
        default=None, description="current limits; absent in generations sealed by an earlier release"
    )

    @cached_property
    def by_index(self) -> dict[int, Member]:
        """The members by the worker index of their agents."""
        return {member.agent.index: member for member in reversed(self.members)}


class Heartbeat(WireMessage):
    """Heartbeat of an agent to the coordinator; itself the long-poll for changes."""

    agent: AgentIdentity
    generation: GenerationId | None = None
    members: list[Member] = Field(
        default_factory=list,
        description="sealed generation as this agent knows it, for a replacement coordinator",
    )
    ranks: list[RankReport] = Field(default_factory=list)
    total_steps: int | None = Field(default=None, description="total number of steps for this agent's ranks")
    outbox: list[TelemetryItem] = Field(default_factory=list)
    outbox_oldest: int = Field(
        default=0, description="sequence of the oldest item kept; earlier ones are durable or overflowed"
    )
    overflowed: int = Field(
        default=0, description="items that did not fit and no coordinator had received, since its start"
    )
    overflowed_told: int = Field(
        default=0, description="overflowed items already counted by a coordinator, not to be counted again"
    )
    failure: FailureReport | None = None
    finished: bool = Field(default=False, description="true if all its ranks succeeded")
    suspended: bool = Field(default=False, description="true if its ranks ended after a commanded save")
    leaving: bool = Field(
        default=False, description="true if this agent must end and waits until its ranks' work is saved"
    )
    probed: ConnectivityProbeResult | None = Field(default=None, description="newest probe result")
    energy: ReadableEnergy = Field(default=None, description="absent where no device is measured")


class HeartbeatResponse(WireMessage):
    """Response to a heartbeat: the coordinator's state and commands for the agent."""

    epoch: int
    generation: GenerationId | None = Field(default=None, description="newest generation, sealed or adopted")
    rendezvous_open: bool = Field(default=False, description="true: stop the ranks and join again")
    evicted: bool = Field(default=False, description="true: a newer incarnation has this slot; end")
    closed: bool = Field(default=False, description="true: the run is over; end successfully")
    command: Annotated[Command, read_unknown_as(Command.NONE)] = Command.NONE
    limits: NumberedLimits | None = None
    diagnosis: KnownDiagnosis = Field(default=None, description="newest request for a diagnosis")
    probe: ConnectivityProbe | None = Field(default=None, description="probe to answer; absent once answered")
    received: int = Field(default=0, description="sequence up to which items need not be sent again")
    acknowledged: int = Field(default=0, description="sequence up to which outbox items are durable")


class GrantRequest(WireMessage):
    """Request of `generation` to commit the checkpoint of `step`."""

    generation: GenerationId
    step: int


class Grant(WireMessage):
    """Response to a GrantRequest; `granted` only for the newest generation."""

    granted: bool
    reason: str = Field(default="", max_length=1024)
