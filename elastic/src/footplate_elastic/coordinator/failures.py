"""Which failure speaks for the end of a generation.

One rank fails and within milliseconds all others lose their connection to it.
Counted one by one, a single mistake of the user would spend the budget for
network faults as well. So one failure is listed for each generation, and once
listed it never changes: the operator counts by number.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from footplate_contracts.failures import FailureReport, is_secondary
from footplate_contracts.names import Cause, Reason
from footplate_contracts.reports import AgentIdentity, GenerationId, NumberedFailure
from footplate_elastic.coordinator import timing
from footplate_elastic.coordinator.actions import Failed, Lost
from footplate_elastic.coordinator.state import Membership
from footplate_elastic.coordinator.watchdog import Watchdog

LISTED: Final = 32  # the contract's maximum


def loss_report(lost: Lost, step: int | None, wall_time: float) -> FailureReport:
    """A lost agent as a failure; `wall_time` in seconds since the Unix epoch."""
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
    state: Membership, watchdog: Watchdog, now: float, wall_time: float
) -> tuple[AgentIdentity, FailureReport]:
    """A standstill as a failure, and the agent of the rank that is behind; no node is named where none is.

    A generation must be sealed. `wall_time` in seconds since the Unix epoch.
    """
    assert state.sealed is not None
    behind = watchdog.behind()
    agent = state.sealed.members[0].agent.model_copy(update={"node_name": ""})
    who = "all ranks wait in the same place"
    if behind is not None:
        agent = [member.agent for member in state.sealed.members if member.first_rank <= behind.rank][-1]
        who = f"rank {behind.rank} ({agent.pod_name}) is still at {behind.phase} after step {behind.step}"
    report = FailureReport(
        cause=Cause.HANG,
        reason=Reason.NO_STEP,
        message=f"no rank has finished a step for {watchdog.still(now):.0f} s; {who}; the logs hold stacks",
        rank=behind.rank if behind else None,
        step=state.step if state.step >= 0 else None,
        time=wall_time,
    )
    return agent, report


@dataclass
class FailureLog:
    """The last failures, numbered from 1. Times are seconds of one monotonic clock."""

    _count: int = 0
    _listed: deque[NumberedFailure] = field(default_factory=lambda: deque(maxlen=LISTED))
    _pending: dict[GenerationId, tuple[Failed, float]] = field(default_factory=dict)  # with when it came
    _explained: set[GenerationId] = field(default_factory=set)

    def add(self, failed: Failed, now: float) -> bool:
        """Take note of a failure; True when the list has changed.

        Outside a generation every failure is its own, unless it is said again
        since its first answer was lost.
        """
        if failed.generation is None:
            known = [(listed.agent, listed.failure) for listed in self._listed]
            return (failed.agent, failed.failure) not in known and self._list(failed)
        if failed.generation in self._explained:
            return False
        if is_secondary(failed.failure):
            self._pending.setdefault(failed.generation, (failed, now))
            return False
        return self._list(failed)

    def settle(self, now: float, everything: bool = False) -> bool:
        """List what no other failure explained in time, or `everything`; True when the list has changed."""
        due = [
            failed for failed, since in self._pending.values() if everything or now - since >= timing.SETTLE
        ]
        for failed in due:
            self._list(failed)
        return bool(due)

    def listed(self) -> list[NumberedFailure]:
        """Oldest first, at most 32."""
        return list(self._listed)

    def _list(self, failed: Failed) -> bool:
        if failed.generation is not None:
            self._pending.pop(failed.generation, None)
            self._explained.add(failed.generation)
        self._count += 1
        self._listed.append(
            NumberedFailure(
                number=self._count,
                failure=failed.failure,
                agent=failed.agent,
                generation=failed.generation,
            )
        )
        return True
