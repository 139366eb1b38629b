"""The HTTP protocol between agents and coordinator, shared by both ends.

Paths, headers and the token by which a long-poll detects news: the agent sends back the `answer_token` token
of the last answer it has read, so an answer that was lost on the way is simply sent again at once.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from footplate_contracts.rendezvous import HeartbeatResponse

JOIN: Final = "/v1/join"
HEARTBEAT: Final = "/v1/heartbeat"
CONNECTION: Final = "/v1/connection"
LEAVE: Final = "/v1/leave"
GRANT: Final = "/v1/grant"
STATE: Final = "/v1/state"
DIRECTIVES: Final = "/v1/directives"
DIAGNOSE: Final = "/v1/diagnose"
HEALTH: Final = "/healthz"

EPOCH_HEADER: Final = "Footplate-Epoch"  # on every answer: lets an agent refuse a stale coordinator

HEARTBEAT_SECONDS: Final = 1.0  # how long a heartbeat waits for news
SUSPECT_SECONDS: Final = 0.2  # while silence is suspect, which must not be the silence of a wait
# A generation of one has no peer that holds it back. So its ranks begin no step later than this after its
# agent put the last question that a coordinator answered, and no coordinator starts another one before.
LEASE_SECONDS: Final = 20.0
JOIN_SECONDS: Final = 10.0  # how long a join waits before it is asked again (202)


class AgentRefusal(Enum):
    """Reason for which an agent is turned away; the text is what it reads."""

    EVICTED = "evicted"
    CLOSED = "closed"
    SUPERSEDED = "superseded"  # we are the stale one: a coordinator of a higher epoch exists


def answer_token(answer: HeartbeatResponse) -> str:
    """Return a token without spaces for all parts of an answer that an agent must act upon."""
    flags = f"{int(answer.rendezvous_open)}{int(answer.evicted)}{int(answer.closed)}"
    asked = answer.diagnosis.number if answer.diagnosis else 0
    limits = answer.limits.number if answer.limits else 0
    told = f"{answer.epoch}/{answer.generation or '-'}/{flags}/{answer.command}/{asked}/{limits}"
    # Only while it is asked: an agent of an earlier release, which answers no probe, says the rest.
    return f"{told}/{answer.probe.number}" if answer.probe else told
