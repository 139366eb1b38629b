"""An agent's view of the coordinator, merged from its answers; pure.

Answers arrive over several connections and out of order, and a join is
answered while a heartbeat from before it is still on its way. An answer that
is older than what the agent already runs must not stop its ranks.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass

from footplate_contracts.connectivity_probes import ConnectivityProbe
from footplate_contracts.diagnosis import Diagnosis
from footplate_contracts.directives import Command, NumberedLimits
from footplate_contracts.rendezvous import AgentIdentity, Grant, HeartbeatResponse, SealedGeneration
from footplate_contracts.reports import GenerationId
from footplate_elastic.agent.client import CoordinatorResponse
from footplate_elastic.agent.errors import RunOver, SlotTaken
from footplate_elastic.protocol import wire
from footplate_elastic.protocol.wire import answer_token

_log = logging.getLogger(__name__)


_NOTHING = GenerationId(epoch=0, number=0)


def answer_order(answer: HeartbeatResponse) -> tuple[int, int, int, bool]:
    """Return a sort key by when an answer was true: epoch, generation, then sealed before open."""
    generation = answer.generation or _NOTHING
    return answer.epoch, generation.epoch, generation.number, answer.rendezvous_open


def is_current_for(answer: HeartbeatResponse, running: GenerationId) -> bool:
    """Return whether `answer` is recent enough to know `running`: not from before that was sealed."""
    told = answer.generation or _NOTHING
    start_of_epoch = GenerationId(epoch=answer.epoch, number=0)
    newest = told if told.is_newer_than(start_of_epoch) else start_of_epoch
    return not running.is_newer_than(newest)


@dataclass
class CoordinatorView:
    """The newest answer, and the two facts that no later answer reverts: evicted and closed."""

    answer: HeartbeatResponse | None = None
    evicted: bool = False
    closed: bool = False
    received: int = 0
    limits: NumberedLimits | None = None  # the newest that anybody told
    questions: tuple[int, int] = (0, 0)  # (epoch, number) of the newest one that was handed out
    probes: tuple[int, int] = (0, 0)  # the same of probes

    def merge_answer(self, answer: HeartbeatResponse) -> None:
        """Merge an answer; answers may arrive in any order."""
        self.evicted = self.evicted or answer.evicted
        self.closed = self.closed or answer.closed
        self.update_limits(answer.limits)
        newer_epoch = self.answer is None or answer.epoch > self.answer.epoch
        if newer_epoch:
            self.received = answer.received  # a new coordinator has received nothing yet
        elif self.answer is not None and answer.epoch == self.answer.epoch:
            self.received = max(self.received, answer.received)
        if self.answer is None or answer_order(answer) >= answer_order(self.answer):
            self.answer = answer

    def update_limits(self, limits: NumberedLimits | None) -> None:
        """Store `limits` if newer; they arrive with answers and with a sealed generation, in any order."""
        if limits is not None and (self.limits is None or limits.is_newer_than(self.limits)):
            self.limits = limits

    @property
    def answer_token(self) -> str:
        """The `answer_token` token of the newest answer; empty before the first."""
        return answer_token(self.answer) if self.answer is not None else ""

    @property
    def command(self) -> Command:
        """The standing command."""
        return self.answer.command if self.answer is not None else Command.NONE

    def next_diagnosis(self) -> Diagnosis | None:
        """Return the ranks' next diagnosis request; each one only once."""
        asked = self.answer.diagnosis if self.answer is not None else None
        if self.answer is None or asked is None or (self.answer.epoch, asked.number) <= self.questions:
            return None
        self.questions = (self.answer.epoch, asked.number)
        return asked

    def next_probe(self) -> tuple[int, ConnectivityProbe] | None:
        """Return the next probe and its coordinator's epoch; each probe only once."""
        asked = self.answer.probe if self.answer is not None else None
        if self.answer is None or asked is None or (self.answer.epoch, asked.number) <= self.probes:
            return None
        self.probes = (self.answer.epoch, asked.number)
        return self.answer.epoch, asked

    def must_rejoin(self, running: GenerationId) -> bool:
        """Return whether the ranks of `running` have to stop."""
        if self.evicted or self.closed:
            return True
        if self.answer is None or not is_current_for(self.answer, running):
            return False
        newest = self.answer.generation
        return self.answer.rendezvous_open or (newest is not None and newest.is_newer_than(running))

    def is_confirmed(self, running: GenerationId) -> bool:
        """Return whether the newest answer names `running` as its generation."""
        return self.answer is not None and self.answer.generation == running


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
        _log.error("the coordinator rejects our join: %d %s", answer.status, reason)
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
        _log.warning("step %d was not committed: %s", step, grant.reason)
    return grant.granted


def get_refusal_reason(answer: CoordinatorResponse) -> str:
    """Return the coordinator's reason for a refusal, else the beginning of its answer."""
    try:
        return str(json.loads(answer.body)["reason"])
    except (ValueError, KeyError, TypeError):
        return answer.body.decode(errors="replace")[:200]
