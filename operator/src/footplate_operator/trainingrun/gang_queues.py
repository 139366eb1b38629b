"""Queues of gangs that wait for nodes, one for each ComputeProfile, in this leader's memory.

Nothing of this has to outlive the leader: each run's status holds its wait and its
turn, and a new leader looks at each run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from footplate_contracts.names import Phase, Role
from footplate_contracts.v1alpha1.status import TrainingRunStatus
from footplate_operator.runtime.clock import parse_time
from footplate_operator.runtime.decision import ReconcileProblem
from footplate_operator.runtime.kinds import Json
from footplate_operator.runtime.objects import Key, key_of
from footplate_operator.trainingrun.observation import GangTurn, PodView
from footplate_operator.trainingrun.policies.gang_order import WaitingGang, get_turn, sort_gangs
from footplate_operator.trainingrun.revision import AnyRevision, MissingRevision, Revision
from footplate_operator.trainingrun.run import Run, gathers, get_gathering, phase_of

_HOLDS_NODES: Final = frozenset({Phase.STARTING, Phase.RUNNING, Phase.CHECKPOINTING, Phase.RESTARTING})


@dataclass
class _Line:
    """Queue of one profile's gangs."""

    candidates: dict[str, WaitingGang] = field(default_factory=dict)  # by uid
    keys: dict[str, Key] = field(default_factory=dict)
    short: dict[str, datetime] = field(default_factory=dict)  # uid of a run that lacks a pod -> until when
    grown: datetime | None = None  # when a Node came or a run ended last
    order: list[WaitingGang] = field(default_factory=list)

    def put(self, candidate: WaitingGang, key: Key) -> None:
        if self.candidates.get(candidate.uid) != candidate:
            self.candidates[candidate.uid], self.keys[candidate.uid] = candidate, key
            self.order = sort_gangs(self.candidates.values())

    def drop(self, uid: str) -> None:
        if self.candidates.pop(uid, None) is not None:
            del self.keys[uid]
            self.order = [known for known in self.order if known.uid != uid]


@dataclass(frozen=True)
class _Facts:
    """Facts about a run that concern waiting gangs."""

    phase: Phase
    gathers: bool
    holds_nodes: bool  # and trains on them, or is about to


def _candidate(run: Run, priority: int, status: TrainingRunStatus) -> WaitingGang:
    waits = get_gathering(status)
    return WaitingGang(
        uid=run.uid,
        priority=priority,
        created=run.created,
        turn_time=parse_time(waits.turn_time) if waits and waits.turn_time else None,
        released=parse_time(waits.released_time) if waits and waits.released_time else None,
        lost_turns=waits.lost_turns if waits else 0,
    )


class GangQueues:
    """Queues of all profiles."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = defaultdict(_Line)
        self._priorities: dict[str, int] = {}  # by name of the PriorityClass
        self._usual: dict[str, int] = {}  # those of them that pods get which name none
        self._known: dict[str, _Facts] = {}  # by uid of a run

    # -- runs that wait ------------------------------------------------------------------

    def find(
        self,
        run: Run,
        admitted: AnyRevision | MissingRevision | ReconcileProblem | None,
        pods: Sequence[PodView],
        suspends: bool,
        now: datetime,
    ) -> GangTurn:
        """Return the turn of `run`; a run that does not wait for nodes leaves the queue and needs none.

        While some pod of a run that trains has no node, no other gang gathers: for its gatherDeadlineSeconds
        at most, as a spare may never find room.

        Args:
            admitted: its revision, or the problem that keeps it from gathering.
            pods: of the run, any state.
            suspends: there is a reason to suspend it.
        """
        line, stops = self._lines[run.spec.compute.profile], run.ended or suspends
        if isinstance(admitted, Revision) and not stops and (run.gathers or not run.has_gang):
            scheduling = admitted.frozen.profile.scheduling
            priority = self._priority(run.spec.priority_class_name or scheduling.priority_class_name)
            line.put(_candidate(run, priority, run.status), run.key)
            line.short.pop(run.uid, None)
            line.short = {uid: until for uid, until in line.short.items() if until > now}
            return get_turn(run.uid, line.order, line.grown, bool(line.short), now)
        line.drop(run.uid)
        lacking = [
            pod.seen_since or pod.created for pod in pods if pod.unbound and pod.role != Role.COORDINATOR
        ]
        if lacking and run.has_gang and not stops:
            timeout = timedelta(seconds=run.spec.resilience.gather_deadline_seconds)
            line.short[run.uid] = min(lacking) + timeout
        else:
            line.short.pop(run.uid, None)
        return GangTurn()

    def note_decision(self, run: Run, after: TrainingRunStatus) -> None:
        """Note the decision about a waiting run, as other runs are decided before its status is written."""
        line = self._lines[run.spec.compute.profile]
        if after.gathering is None:
            line.drop(run.uid)
        elif (known := line.candidates.get(run.uid)) is not None:
            line.put(_candidate(run, known.priority, after), run.key)

    # -- what gives others their turn ----------------------------------------------------

    def observe_run(self, body: Json, gone: bool, now: datetime) -> list[Key]:
        """Note a watch event of a run; return the runs that wait in its queue, if it concerns them."""
        uid, profile = body["metadata"]["uid"], body.get("spec", {}).get("compute", {}).get("profile", "")
        phase, turn = phase_of(body), gathers(body)
        fresh = _Facts(phase, turn, holds_nodes=phase in _HOLDS_NODES and not turn)
        known, ends = self._known.pop(uid, None), gone or phase.is_terminal
        if not ends:
            self._known[uid] = fresh
        if profile not in self._lines or (known == fresh and not gone):
            return []
        line = self._lines[profile]
        if ends:
            line.drop(uid)
            line.short.pop(uid, None)
        if known is not None and known.holds_nodes and (ends or not fresh.holds_nodes):
            line.grown = now
        return [key for key in line.keys.values() if key != key_of(body)]

    def note_new_node(self, now: datetime) -> list[Key]:
        """Note that a Node came; return all waiting runs."""
        for line in self._lines.values():
            line.grown = now
        return [key for line in self._lines.values() for key in line.keys.values()]

    def put_priority(self, body: Json, gone: bool) -> None:
        """Note a PriorityClass."""
        name, value = body["metadata"]["name"], int(body.get("value", 0))
        for known in (self._priorities, self._usual):
            known.pop(name, None)
        if not gone:
            self._priorities[name] = value
            if body.get("globalDefault"):
                self._usual[name] = value

    def _priority(self, name: str | None) -> int:
        return self._priorities.get(name, 0) if name else max(self._usual.values(), default=0)
