"""Connectivity checks between agents, which the coordinator requests.

The coordinator receives heartbeats from all agents, and so cannot see that two of them do not reach each
other. Agents that wait for the next generation listen for it already, each on a port of its own, and so may
try to connect to each other.
"""

from __future__ import annotations

from pydantic import Field

from footplate_contracts.base import WireMessage
from footplate_contracts.v1alpha1.types import ShortText


class Peer(WireMessage):
    """Address on which an agent listens while it waits for the next generation."""

    pod_name: str
    address: str
    port: int


class ConnectivityProbe(WireMessage):
    """Request to an agent to connect to its peers and report those that it does not reach."""

    number: int = Field(ge=1, description="number of the probe round, ascending within an epoch")
    peers: list[Peer]


class ConnectivityProbeResult(WireMessage):
    """Response to the probe `number` of the coordinator of `epoch`."""

    epoch: int
    number: int
    unreached: list[ShortText] = Field(default_factory=list, description="pod names of unreachable peers")
