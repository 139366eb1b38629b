"""Interpretation of the coordinator's answers to an agent; pure except for logging."""

from __future__ import annotations

import json
import logging

from footplate_contracts.rendezvous import AgentIdentity, Grant, SealedGeneration
from footplate_elastic.agent.client import CoordinatorResponse
from footplate_elastic.agent.errors import RunOver, SlotTaken
from footplate_elastic.protocol import wire

_log = logging.getLogger(__name__)


def parse_join_response(answer: CoordinatorResponse, agent: AgentIdentity) -> SealedGeneration | None:
    """Return the generation in the answer to a join; None: ask again. Raises SlotTaken or RunOver."""
    if answer.status == 200:
        return SealedGeneration.model_validate_json(answer.body)
    reason = get_refusal_reason(answer)
    if answer.status == 409 and reason == wire.AgentRefusal.EVICTED.value:
        raise SlotTaken(f"a newer incarnation has slot {agent.index}")
    if answer.status == 409 and reason == wire.AgentRefusal.CLOSED.value:
        raise RunOver("the run is over")
    if answer.status != 202:
        _log.error("the coordinator refuses our join: %d %s", answer.status, reason)
    return None


def own_identity(sealed: SealedGeneration, agent: AgentIdentity) -> AgentIdentity:
    """Return this agent's identity in `sealed`; a spare learns here which slot it has taken."""
    return next(
        member.agent
        for member in sealed.members
        if (member.agent.pod_name, member.agent.address) == (agent.pod_name, agent.address)
    )


def is_commit_granted(answer: CoordinatorResponse, step: int) -> bool:
    """Return whether `answer`, which has status 200, permits the commit of the checkpoint at `step`."""
    grant = Grant.model_validate_json(answer.body)
    if not grant.granted:
        _log.warning("no commit of step %d: %s", step, grant.reason)
    return grant.granted


def get_refusal_reason(answer: CoordinatorResponse) -> str:
    """Return the coordinator's reason for a refusal, else the beginning of its answer."""
    try:
        return str(json.loads(answer.body)["reason"])
    except (ValueError, KeyError, TypeError):
        return answer.body.decode(errors="replace")[:200]
