"""What a coordinator asks agents about each other: whom of their peers do they reach?

It hears all of them, and so cannot see that two of them do not hear each other. Agents that wait for the
next generation listen for it already, each on a port of its own, and so may try to connect to each other.
"""

from __future__ import annotations

from pydantic import Field

from footplate_contracts.model import Report
from footplate_contracts.v1alpha1.types import ShortText


class Peer(Report):
    """Where an agent listens while it waits for the next generation."""

    pod_name: str
    address: str
    port: int


class Probe(Report):
    """A question to an agent: which of these do you reach?"""

    number: int = Field(ge=1, description="of the round of questions, counts up within one epoch")
    peers: list[Peer]


class ProbeResult(Report):
    """The answer to the probe `number` of the coordinator of `epoch`."""

    epoch: int
    number: int
    unreached: list[ShortText] = Field(default_factory=list, description="names of their pods")
