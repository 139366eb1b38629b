"""The coordinator without its sockets: membership, failures, progress and telemetry as one.

The server calls in with an event and the time, and reads the answers. All actions of the membership end here:
they go to the log, into the list of failures, and raise the version that the operator's long-poll waits for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from footplate_contracts.coordinator_state import CoordinatorState, MissedAgent, RunState
from footplate_contracts.diagnosis import Diagnosis, DiagnosisKind, DiagnosisRequest
from footplate_contracts.directives import LATER_DIRECTIVES, Directives
from footplate_contracts.names import WorkerId
from footplate_contracts.rendezvous import (
    AgentIdentity,
    Grant,
    GrantRequest,
    Heartbeat,
    HeartbeatResponse,
    JoinRequest,
    LeaveRequest,
    SealedGeneration,
)
from footplate_elastic.coordinator import gang_size, limits, membership, partition, timing
from footplate_elastic.coordinator.actions import (
    Action,
    GenerationAdopted,
    GenerationStarted,
    MemberLost,
    RunClosed,
    log_message,
)
from footplate_elastic.coordinator.energy import PodEnergyTotals
from footplate_elastic.coordinator.failure_detector import find_missed_agents
from footplate_elastic.coordinator.failures import hang_report, loss_report
from footplate_elastic.coordinator.gang_size import LegalSizes
from footplate_elastic.coordinator.progress import ProgressTracker
from footplate_elastic.coordinator.slots import is_answered_by
from footplate_elastic.coordinator.state import Membership, Rendezvous
from footplate_elastic.coordinator.telemetry import TelemetryBuffer
from footplate_elastic.coordinator.watchdog import Watchdog, WatchdogAction
from footplate_elastic.protocol.wire import AgentRefusal

_log = logging.getLogger(__name__)

Spoken = TypeVar("Spoken", JoinRequest, Heartbeat)


@dataclass
class Coordinator:
    """A run's coordinator. `now` is monotonic everywhere; `wall` is only for the time in reports."""

    state: Membership
    telemetry: TelemetryBuffer
    wall: Callable[[], float]
    legal_sizes: LegalSizes
    directives: Directives  # as the operator told them last
    refusals: dict[str, str] = field(default_factory=dict)  # why one is not in force, by its field
    progress: ProgressTracker = field(default_factory=ProgressTracker)
    watchdog: Watchdog = field(default_factory=Watchdog)
    energy: PodEnergyTotals = field(default_factory=PodEnergyTotals)
    diagnosis: Diagnosis | None = None
    version: int = 1
    _shown_agents: tuple[object, ...] = ()
    _missed: list[MissedAgent] = field(default_factory=list)
    _closed_at: float | None = None
    _end_told: bool = False

    # -- events: each returns why the agent is turned away, or None -------------------

    def join(self, request: JoinRequest, now: float) -> AgentRefusal | None:
        """Process a join; see membership.joined."""
        refusal, actions = membership.handle_join(self.state, self._called(request), now)
        self._apply(actions, now)
        return refusal

    def heartbeat(self, word: Heartbeat, now: float) -> AgentRefusal | None:
        """Process a heartbeat, reports and telemetry first, so that no end is missed; see membership.beat."""
        self.energy.update(word.energy, self.state.nodes)
        word = self._called(word)
        started, saved = self.progress.report(word.generation, word.ranks), False
        for report in word.ranks if word.generation == self.progress.generation else ():
            self.watchdog.report(report, now)
        # A replaced coordinator hears from the ranks how far they go, before it may say so itself.
        running = self.progress.generation or word.generation
        if word.total_steps is not None and running is not None and word.generation == running:
            self.progress.total_steps = word.total_steps
        self.telemetry.update_overflow(word)
        fallback = word.generation or self.state.generation
        if fallback is not None:
            before = self.telemetry.checkpoint
            if unreadable := sum(item.is_unreadable for item in word.outbox):
                _log.warning("%d entries of %s cannot be read", unreadable, word.agent.pod_name)
            for row in self.telemetry.add_items(word.agent, word.outbox, word.outbox_oldest, fallback):
                self.progress.row(row.generation, row.metrics)
            saved = self.telemetry.checkpoint != before
            self.state.failures.checkpoint_step = self.telemetry.checkpoint_step
        self.version += started or saved
        self._set_limits()
        refusal, actions = membership.handle_heartbeat(self.state, word, now)
        self._apply(actions, now)
        if saved and not self._at_the_end():
            self._apply(membership.handle_checkpoint(self.state, now), now)
        return refusal

    def connect(self, agent: AgentIdentity, now: float) -> AgentRefusal | None:
        """Process a new idle connection; see membership.connected."""
        refusal, actions = membership.handle_connect(self.state, self.state.resolve_identity(agent), now)
        self._apply(actions, now)
        return refusal

    def disconnect(self, agent: AgentIdentity, now: float) -> None:
        """Process the end of an idle connection; see membership.disconnected."""
        self._apply(membership.handle_disconnect(self.state, self.state.resolve_identity(agent), now), now)

    def leave(self, farewell: LeaveRequest, now: float) -> None:
        """Process an agent's departure; see membership.left."""
        self.energy.update(farewell.energy, self.state.nodes)
        self._apply(membership.handle_leave(self.state, self.state.resolve_identity(farewell), now), now)

    def set_directives(self, directives: Directives, now: float) -> None:
        """Apply the operator's directives; impossible ones are refused, and the rest holds."""
        self.state.polled = now
        before, self.directives = self.directives, directives
        self.version += directives != before
        gone = directives.gone or ()
        self.state.gone = frozenset(WorkerId(worker.index, worker.incarnation) for worker in gone)
        membership.mark_ended(self.state, [WorkerId(it.index, it.incarnation) for it in gone if it.ended])
        self.state.rank_order = replace(self.state.rank_order, domains=directives.domains or {})
        self._set_limits()  # before the command, which may end what was to go on
        self._apply(membership.handle_command(self.state, directives.command, now), now)
        if (directives.nodes, directives.min_nodes) != (before.nodes, before.min_nodes):
            self._resize(now)
        self.watchdog.bounds = directives.hang or self.watchdog.bounds

    def diagnose(self, request: DiagnosisRequest) -> Diagnosis:
        """Request a diagnosis from every rank; agents receive it with their next answer."""
        number = self.diagnosis.number + 1 if self.diagnosis else 1
        self.diagnosis = Diagnosis(kind=request.kind, steps=request.steps, number=number)
        self.version += 1
        _log.info("requesting %s number %d from the ranks", request.kind, number)
        return self.diagnosis

    def tick(self, now: float) -> None:
        """Advance the clock; see membership.tick."""
        self._set_limits()
        self._apply(membership.tick(self.state, now), now)
        if self.state.rendezvous is Rendezvous.SEALED:
            self._look_for_hang(now)
        if not self.state.connectivity.undecided(now):
            self._apply(self.state.failures.settle(now), now)
        self.version += self._tell_end(now)
        self._show(now)
        self.progress.update_saving(now)
        self.version += self.progress.is_news(now)

    # -- answers ---------------------------------------------------------------------

    @property
    def shared_state(self) -> tuple[object, ...]:
        """The part of an answer that all agents share; its change wakes waiting agents."""
        return self.state.shared_state, self.diagnosis

    def find_generation(self, request: JoinRequest) -> SealedGeneration | None:
        """Return the answer to this join, None while it waits."""
        if self.state.rendezvous is Rendezvous.SEALED and is_answered_by(
            self.state.sealed, self._called(request)
        ):
            return self.state.sealed
        return None

    def find_refusal(self, agent: AgentIdentity) -> AgentRefusal | None:
        """Return why a waiting agent need not wait any longer; None while it has to."""
        agent = self.state.resolve_identity(agent)
        slot = self.state.slots.get(agent.index)
        if slot is not None and slot.agent.incarnation > agent.incarnation:
            return AgentRefusal.EVICTED
        if self.state.superseded:
            return AgentRefusal.SUPERSEDED
        return AgentRefusal.CLOSED if self.state.rendezvous is Rendezvous.CLOSED else None

    def build_heartbeat_response(self, agent: AgentIdentity) -> HeartbeatResponse:
        """Return the answer to a heartbeat from `agent`."""
        agent = self.state.resolve_identity(agent)
        refusal = self.find_refusal(agent)
        return HeartbeatResponse(
            epoch=self.state.epoch,
            generation=self.state.generation,
            rendezvous_open=self.state.rendezvous is Rendezvous.OPEN,
            evicted=refusal is AgentRefusal.EVICTED,
            closed=self.state.rendezvous is Rendezvous.CLOSED,
            command=self.state.effective_command,
            limits=self.state.limits if self.state.rendezvous is not Rendezvous.UNDECIDED else None,
            diagnosis=self.diagnosis,
            probe=partition.probe_for(self.state, agent),
            received=self.telemetry.received(agent),
            acknowledged=self.telemetry.acknowledged(agent),
        )

    def grant(self, request: GrantRequest) -> Grant | None:
        """Return whether that generation may commit; None while this coordinator does not know yet."""
        if self.state.rendezvous is Rendezvous.UNDECIDED:
            return None
        newest = self.state.generation
        if self.state.rendezvous is Rendezvous.SEALED and request.generation == newest:
            return Grant(granted=True)
        stands = f"the newest generation is {newest}, {self.state.rendezvous.value}"
        return Grant(granted=False, reason=f"generation {request.generation} may not commit: {stands}")

    def view(self) -> CoordinatorState:
        """Return the whole state for the operator."""
        return CoordinatorState(
            version=self.version,
            epoch=self.state.epoch,
            state=self._run_state(),
            directives=self.directives,
            knows=[directive.path for directive in LATER_DIRECTIVES],
            refusals=dict(self.refusals),
            generation=self.state.generation,
            members=self.state.sealed.members if self.state.sealed else [],
            missing=[] if self.state.rendezvous is Rendezvous.CLOSED else self.state.missing(),
            missed=self._missed,
            unreachable=partition.list_unreachable_pairs(self.state),
            waiting=self._waiting(),
            progress=self.progress.view(),
            start_step=self.progress.start_step,
            unheard=self.state.unheard,
            checkpoint=self.telemetry.checkpoint,
            checkpoint_steps=list(self.telemetry.checkpoint_steps),
            failures=self.state.failures.list_failures(),
            failures_by_cause=self.state.failures.by_cause(),
            telemetry_backlog=len(self.telemetry),
            given_up=self.telemetry.given_up,
            energy=self.energy.list_totals(),
        )

    def _resize(self, now: float) -> None:
        """Apply the wanted size; if no size can train, only record the refusal. See membership.resized."""
        nodes, least = self.directives.nodes, self.directives.min_nodes
        legal = self.legal_sizes(least or nodes, nodes)
        self._refuse("nodes", "" if legal else gang_size.describe_refusal(nodes, least, self.legal_sizes))
        if legal:
            self._apply(membership.handle_resize(self.state, nodes, legal, now), now)

    def _set_limits(self) -> None:
        """Apply the requested limits, as far as they lie ahead of the trained steps."""
        asked, known = self.directives.limits, self.state.limits
        if asked is None:
            return
        if self.state.rendezvous is Rendezvous.CLOSED:
            self._refuse("limits", limits.find_late_refusal(asked, known.steps) if known else "")
            return
        reached = self._reached()
        refused = limits.find_length_refusal(asked, reached)
        steps = max(self.progress.total_steps, reached) if refused else asked.steps
        self.state.limits = limits.renew_limits(known, asked, steps, self.state.epoch)
        self.version += self.state.limits != known
        self._refuse("limits", refused)

    def _refuse(self, directive: str, why: str) -> None:
        """Record why a directive is not in force; empty where it is."""
        self.version += why != self.refusals.get(directive, "")
        self.refusals[directive] = why
        if not why:
            del self.refusals[directive]

    def _reached(self) -> int:
        """Return the step below which the run cannot end; steps lost with a generation do not count."""
        trained = self.progress.highest if self.state.rendezvous is Rendezvous.SEALED else 0
        return max(self.telemetry.checkpoint_step or 0, self.progress.begun_with, trained)

    def _called(self, message: Spoken) -> Spoken:
        """Return `message` with its agent's current slot, which a spare may not know yet."""
        agent = self.state.resolve_identity(message.agent)
        return message if agent == message.agent else message.model_copy(update={"agent": agent})

    def _show(self, now: float) -> None:
        """Raise the version on a change of waiting or missed agents, cut pairs, probe round or lost rows."""
        self._missed, known = find_missed_agents(self.state, now), self.state.connectivity
        gone = [(gone.agent, gone.verdict) for gone in self._missed]
        shown = (self._waiting(), gone, known.cut, known.round_number, self.telemetry.given_up)
        self.version += shown != self._shown_agents
        self._shown_agents = shown

    def _waiting(self) -> list[AgentIdentity]:
        return [slot.agent for slot in self.state.slots.values() if slot.ready]

    def _run_state(self) -> RunState:
        outcome = self.state.outcome
        if outcome is not None:
            return RunState.TRAINING if outcome is RunState.FINISHED and not self._end_told else outcome
        if self.state.rendezvous is not Rendezvous.SEALED:
            return RunState.GATHERING
        return RunState.TRAINING if self.progress.started else RunState.LOADING

    def _begin(self, sealed: SealedGeneration, now: float) -> None:
        self.progress.begin(sealed.generation)
        self.watchdog.begin(sealed.world_size, now)
        if sealed.limits is not None:
            self.progress.total_steps = sealed.limits.steps

    def _look_for_hang(self, now: float) -> None:
        action = self.watchdog.check(now)
        if action is WatchdogAction.DUMP:
            _log.warning(
                "no rank has made progress for %.0f s: stacks follow", self.watchdog.stalled_seconds(now)
            )
            self.diagnose(DiagnosisRequest(kind=DiagnosisKind.STACKS))
        elif action is WatchdogAction.RESTART:
            sealed = self.state.sealed
            assert sealed is not None
            agent, failure = hang_report(sealed, self.watchdog, self.state.finished_step, now, self.wall())
            self._apply(membership.handle_hang(self.state, agent, failure, now), now)

    def _at_the_end(self) -> bool:
        """Return whether the newest checkpoint is the last one."""
        end = self.state.limits.steps if self.state.limits else self.progress.total_steps
        return 0 < end <= (self.telemetry.checkpoint_step or 0)

    def _tell_end(self, now: float) -> bool:
        """Return whether the run's end may be reported from now on, and could not before."""
        if self._closed_at is None or self._end_told:
            return False
        late = now - self._closed_at >= timing.LAST_NUMBERS
        self._end_told = late or len(self.telemetry) == 0
        return self._end_told

    def _apply(self, actions: Sequence[Action], now: float) -> None:
        for action in actions:
            self._apply_one(action, now)
        self.version += bool(actions)

    def _apply_one(self, action: Action, now: float) -> None:
        if not isinstance(action, MemberLost):
            level, text = log_message(action)
            _log.log(level, "%s", text)
        match action:
            case GenerationStarted(sealed):
                self._apply(self.state.failures.settle(now, everything=True), now)
                self._begin(sealed, now)
            case GenerationAdopted(sealed):
                self._begin(sealed, now)
            case MemberLost(agent, generation):
                report = loss_report(action, self.state.finished_step, self.wall())
                _log.warning("%s", report.message)
                self.state.failures.add(agent, generation, report, now)
            case RunClosed():
                self._apply(self.state.failures.settle(now, everything=True), now)
                self._closed_at = now
