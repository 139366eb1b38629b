"""The failure that explains a generation's end.

One rank fails and within milliseconds all others lose their connection to it. Counted one by one, a single
mistake of the user would count against the restart limit of network faults as well. So one failure is listed
for each generation, and once listed it never changes: the operator counts by number.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Final

from footplate_contracts.coordinator_state import NumberedFailure
from footplate_contracts.failures import FailureReport, is_secondary, truncate_message
from footplate_contracts.names import Cause, Reason
from footplate_contracts.rendezvous import AgentIdentity, SealedGeneration
from footplate_contracts.reports import GenerationId, RankPhase
from footplate_elastic.coordinator import timing
from footplate_elastic.coordinator.actions import MemberLost
from footplate_elastic.coordinator.watchdog import Watchdog

_FINISHED: Final = {RankPhase.ROLLOUT: "tokens", RankPhase.SCORING: "samples"}  # what progress counts
LISTED: Final = 32  # the contract's maximum


def may_be_partition(failure: FailureReport) -> bool:
    """Return whether nodes that do not reach each other would end a generation like this."""
    return is_secondary(failure) or failure.cause is Cause.HANG


def loss_report(lost: MemberLost, step: int | None, wall_time: float) -> FailureReport:
    """Return a lost agent as a failure; `wall_time` in seconds since the Unix epoch."""
    agent = lost.agent
    where = f" on node {agent.node_name}" if agent.node_name else ""
    return FailureReport(
        cause=Cause.NODE_LOST,
        reason=lost.reason,
        message=f"worker {agent.index} ({agent.pod_name}{where}) is lost: {lost.why}",
        step=step,
        time=wall_time,
    )


def hang_report(
    sealed: SealedGeneration, watchdog: Watchdog, step: int | None, now: float, wall_time: float
) -> tuple[AgentIdentity, FailureReport]:
    """Return the agent with the rank that is behind, and a standstill of `sealed` as a failure.

    No node is named where no rank is. `step` is the last that any rank finished, `wall_time` in seconds since
    the Unix epoch.
    """
    behind = watchdog.find_straggler()
    agent = sealed.members[0].agent.model_copy(update={"node_name": ""})
    who = "all ranks wait in the same place"
    if behind is not None:
        agent = [member.agent for member in sealed.members if member.first_rank <= behind.rank][-1]
        who = f"rank {behind.rank} ({agent.pod_name}) is still at {behind.phase} after step {behind.step}"
        if behind.phase in _FINISHED and behind.progress is not None:
            who += f", with {behind.progress} {_FINISHED[behind.phase]} finished"
    allowed = watchdog.get_limit()
    still = f"no rank has made progress for {watchdog.stalled_seconds(now):.0f} s"
    report = FailureReport(
        cause=Cause.HANG,
        reason=Reason.PROGRESS_DEADLINE_EXCEEDED,
        message=f"{still}; {who}; {allowed.field} allows {allowed.seconds:.0f} s; the logs hold stacks",
        rank=behind.rank if behind else None,
        step=step,
        time=wall_time,
    )
    return agent, report


@dataclass
class FailureLog:
    """The last failures, numbered from 1. Times are seconds of one monotonic clock."""

    checkpoint_step: int | None = None  # of the newest durable checkpoint, as whoever hears of one notes
    _by_cause: Counter[str] = field(default_factory=Counter)
    _listed: deque[NumberedFailure] = field(default_factory=lambda: deque(maxlen=LISTED))
    # What may yet be explained by another failure: who told it, what, and when.
    _pending: dict[GenerationId, tuple[AgentIdentity, FailureReport, float]] = field(default_factory=dict)
    _explained: set[GenerationId] = field(default_factory=set)

    def add(
        self, agent: AgentIdentity, generation: GenerationId | None, failure: FailureReport, now: float
    ) -> list[NumberedFailure]:
        """Record why an agent's ranks of `generation` ended; return the failures listed for it.

        Outside a generation every failure is listed on its own, unless it is a repetition because its first
        answer was lost.
        """
        if generation is None:
            known = [(listed.agent, listed.failure) for listed in self._listed]
            return [] if (agent, failure) in known else [self._list(agent, generation, failure)]
        if generation in self._explained:
            return []
        if may_be_partition(failure):
            self._pending.setdefault(generation, (agent, failure, now))
            if failure.cause is Cause.HANG:  # that others lose connections follows from it
                self._explained.add(generation)
            return []
        return [self._list(agent, generation, failure)]

    def settle(self, now: float, everything: bool = False) -> list[NumberedFailure]:
        """List what no other failure explained in time, or `everything`; return what was listed."""
        due = [
            (agent, generation, failure)
            for generation, (agent, failure, since) in self._pending.items()
            if everything or now - since >= (timing.SETTLE if is_secondary(failure) else timing.EXAMINED)
        ]
        return [self._list(*pending) for pending in due]

    def list_partition(
        self, generation: GenerationId, agent: AgentIdentity | None, message: str
    ) -> list[NumberedFailure]:
        """List a network partition where nothing more is known than what follows from it.

        `agent` is the one that gave up its slot, None where none did.
        """
        pending = self._pending.get(generation)
        if pending is None:
            return []
        teller, failure, _ = pending
        update = {
            "cause": Cause.COMMUNICATION,
            "reason": Reason.NETWORK_PARTITION,
            "message": truncate_message(message),
        }
        whose = agent or teller.model_copy(update={"node_name": ""})
        return [self._list(whose, generation, failure.model_copy(update={**update, "rank": None}))]

    def has_other_cause(self, generation: GenerationId) -> bool:
        """Return whether a listed failure ended `generation` and follows from nothing else."""
        return any(
            listed.generation == generation
            and not may_be_partition(listed.failure)
            and listed.failure.reason != Reason.NETWORK_PARTITION
            for listed in self._listed
        )

    def list_failures(self) -> list[NumberedFailure]:
        """Return the listed failures, oldest first, at most 32."""
        return list(self._listed)

    def by_cause(self) -> dict[str, int]:
        """Return the number of failures by cause, including those that are not listed any more."""
        return dict(self._by_cause)

    def _list(
        self, agent: AgentIdentity, generation: GenerationId | None, failure: FailureReport
    ) -> NumberedFailure:
        if generation is not None:
            self._pending.pop(generation, None)
            self._explained.add(generation)
        self._by_cause[failure.cause.value] += 1
        listed = NumberedFailure(
            number=self._by_cause.total(),
            failure=failure,
            agent=agent,
            generation=generation,
            checkpoint_step=self.checkpoint_step,
        )
        self._listed.append(listed)
        return listed
