"""An agent's session with the coordinator.

Three threads, each with a connection of its own, so that none waits for another: a heartbeat that is a long-
poll for changes, a second one that sends news at once (reports, telemetry, the end of ranks), and an idle
connection whose end shows the coordinator that this process is gone. The main thread joins. A coordinator
that is away delays rendezvous and commits; it never stops ranks, except for those of a generation of one,
after a while: its slot may have been reassigned.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from contextlib import closing, suppress
from urllib.parse import quote

from footplate_contracts.connectivity_probes import ConnectivityProbe, ConnectivityProbeResult
from footplate_contracts.directives import Command
from footplate_contracts.failures import FailureReport
from footplate_contracts.rendezvous import (
    AgentIdentity,
    GrantRequest,
    Heartbeat,
    HeartbeatResponse,
    JoinRequest,
    LeaveRequest,
    SealedGeneration,
)
from footplate_contracts.reports import GenerationId, RankReport
from footplate_elastic.agent import probe, timing
from footplate_elastic.agent.client import Backoff, Connection, CoordinatorAddresses, Endpoint
from footplate_elastic.agent.coordinator_view import (
    CoordinatorView,
    get_refusal_reason,
    is_commit_granted,
    own_identity,
    parse_join_response,
)
from footplate_elastic.agent.energy_meter import EnergyMeter
from footplate_elastic.agent.errors import Terminated, Unreachable
from footplate_elastic.agent.lease import GenerationLease
from footplate_elastic.agent.outbox import Outbox
from footplate_elastic.agent.rank_reports import RankReports
from footplate_elastic.agent.session_listener import SessionListener
from footplate_elastic.protocol import wire

_log = logging.getLogger(__name__)


class Session:
    """Connection state between an agent and the coordinator."""

    def __init__(
        self, identity: AgentIdentity, endpoint: Endpoint, total_steps: int | None, meter: EnergyMeter
    ) -> None:
        self.identity = identity
        self.meter = meter
        self.view = CoordinatorView()
        self.outbox = Outbox()
        self.running: SealedGeneration | None = None
        self.leaving = False  # this agent was told to end
        self._answered = time.monotonic()  # when a coordinator answered last
        self._lease = GenerationLease(self._answered)
        self._listener = SessionListener()
        self._directory = CoordinatorAddresses(endpoint)
        self._reports = RankReports(total_steps)
        self._last: GenerationId | None = None
        self._failure: FailureReport | None = None
        self._probed: ConnectivityProbeResult | None = None
        self._lock = threading.Lock()
        self._news = threading.Event()
        self._urgent = threading.Event()
        self._ending = threading.Event()
        self._idle = Connection(self._directory)

    def start(self, listener: SessionListener | None = None) -> None:
        """Register, start the threads, and pass what the coordinator sends to `listener`."""
        self._listener = listener or self._listener
        for name, target in (("heartbeat", self._beat), ("news", self._tell), ("idle", self._stay_connected)):
            threading.Thread(target=target, name=f"footplate-{name}", daemon=True).start()

    # -- what ranks say ----------------------------------------------------------------

    def report(self, generation: GenerationId | None, report: RankReport) -> None:
        """Store one rank's newest state; reports of an older generation are ignored."""
        with self._lock:
            if self.running is None or generation != self.running.generation:
                return
            begins = self._reports.add_report(report)
        self.notify(urgent=begins)

    def notify(self, urgent: bool = False) -> None:
        """Wake the news thread; `urgent`: without the usual pause."""
        if urgent:
            self._urgent.set()
        self._news.set()

    # -- what the main thread does -----------------------------------------------------

    def join(self, store_port: int) -> SealedGeneration:
        """Wait for the next generation, as long as it takes; raises SlotTaken, RunOver or Terminated."""
        if self.leaving:
            raise Terminated
        with self._lock:
            self.running = None
            self._reports.clear()
            request = JoinRequest(
                agent=self.identity, store_port=store_port, last_generation=self._last, failure=self._failure
            )
        with closing(Connection(self._directory)) as connection:
            sealed, pauses = None, Backoff()
            while sealed is None:
                sealed = self._ask_to_join(connection, request, pauses)
        with self._lock:
            self.identity = own_identity(sealed, self.identity)
            self.running, self._last, self._failure = sealed, sealed.generation, None
            self.view.update_limits(sealed.limits)
            if sealed.limits:
                self._reports.total_steps = sealed.limits.steps
        self._renew(self._lease.asked)
        self.notify()
        return sealed

    def set_failure(self, failure: FailureReport) -> None:
        """Store why the ranks ended; the next join sends it."""
        with self._lock:
            self._failure = failure

    def report_end(self, suspended: bool) -> None:
        """Record that all ranks here ended without a failure, and sample their devices' energy first."""
        self.meter.refresh(timing.LAST_SAMPLE)
        with self._lock:
            self._reports.end(suspended, time.monotonic())
        self.notify(urgent=True)

    @property
    def finished(self) -> bool:
        """True if all ranks here ended with the last step that is wanted."""
        limits, last = self.view.limits, self._reports.total_steps
        more = limits is not None and last is not None and last < limits.steps
        return self._reports.finished and not more

    def begin_leaving(self) -> bool:
        """Handle SIGTERM: return whether to wait until the ranks have saved.

        For a signal handler: it takes no lock, and wakes nobody.
        """
        self.leaving = self.running is not None and not self._ending.is_set()
        return self.leaving

    @property
    def may_leave(self) -> bool:
        """True if an agent that got SIGTERM need not wait any longer.

        Nobody requests a checkpoint where no coordinator answers: the whole run may be deleted.
        """
        unheard = time.monotonic() - self._answered >= timing.UNANSWERED
        return self.leaving and (unheard or self.must_rejoin() or self.view.command is Command.DISCARD)

    def must_rejoin(self) -> bool:
        """Return whether the running ranks have to stop; uses the cached view."""
        running = self.running
        return running is not None and self.view.must_rejoin(running.generation)

    def grant(self, generation: GenerationId, step: int) -> bool:
        """Return whether `generation` may commit `step`; wait for a coordinator as long as it runs."""
        request = GrantRequest(generation=generation, step=step)
        pauses = Backoff()
        with closing(Connection(self._directory)) as connection:
            while not self._ending.is_set():
                running = self.running
                if running is None or running.generation != generation:
                    return False
                with suppress(Unreachable):
                    answer = connection.post(wire.GRANT, request, timing.ANSWER)
                    if answer.status == 200:
                        return is_commit_granted(answer, step)
                pauses.pause(self._ending)
        return False

    def flush_telemetry(self, seconds: float) -> bool:
        """Wait until the coordinator has received all telemetry; return whether it has."""
        deadline = time.monotonic() + seconds
        while self.view.received < self.outbox.sequence:
            if time.monotonic() >= deadline:
                return False
            self.notify(urgent=True)
            self._ending.wait(0.02)
        return True

    def send_failure(self, failure: FailureReport, seconds: float) -> bool:
        """Send why this agent ends, retrying for `seconds`; return whether a coordinator has answered."""
        word = self._word(news=True).model_copy(update={"failure": failure})
        deadline, pauses = time.monotonic() + seconds, Backoff()
        with closing(Connection(self._directory)) as connection:
            while time.monotonic() < deadline:
                with suppress(Unreachable):
                    connection.post(f"{wire.HEARTBEAT}?wait=0", word, timing.ANSWER)
                    return True
                pauses.pause(self._ending)
        return False

    def leave(self) -> None:
        """Send that this agent leaves; best effort within a second."""
        self.meter.refresh(timing.LAST_SAMPLE)
        self._ending.set()
        self.notify(urgent=True)
        farewell = LeaveRequest(**self.identity.model_dump(), energy=self.meter.energy)
        with closing(Connection(self._directory)) as connection:
            try:
                connection.post(wire.LEAVE, farewell, timing.FAREWELL)
            except Unreachable as error:
                _log.warning("could not report the leave to the coordinator: %s", error)

    # -- threads -----------------------------------------------------------------------

    def _beat(self) -> None:
        connection, pauses = Connection(self._directory), Backoff()
        while not self._ending.is_set():
            known = quote(self.view.answer_token)
            path = f"{wire.HEARTBEAT}?wait={wire.HEARTBEAT_SECONDS}&known={known}"
            self._exchange(connection, path, self._word(news=False), pauses)

    def _tell(self) -> None:
        connection, pauses = Connection(self._directory), Backoff()
        while not self._ending.is_set():
            self._news.wait()
            self._news.clear()
            self._urgent.clear()
            word = self._word(news=True)
            if not self._exchange(connection, f"{wire.HEARTBEAT}?wait=0", word, pauses):
                self._news.set()
                continue
            with self._lock:
                self._reports.mark_sent(word.ranks)
            if self.view.received < self.outbox.sequence and word.outbox:
                self._news.set()  # the next chunk
            else:
                self._urgent.wait(timing.NEWS)

    def _stay_connected(self) -> None:
        pauses = Backoff()
        while not self._ending.is_set():
            agent = quote(json.dumps(self.identity.to_json()))
            try:
                if self._idle.hold_open(f"{wire.CONNECTION}?agent={agent}") == 200:
                    pauses.reset()
                    continue
            except Unreachable:
                pass
            pauses.pause(self._ending)

    def _renew(self, asked: float) -> None:
        with self._lock:  # ranks hear what holds now last, and nobody takes the generation away meanwhile
            if self._lease.renew(asked, len(self.running.members) if self.running else 0):
                self._listener.on_lease(self._lease.until)

    def _exchange(self, connection: Connection, path: str, word: Heartbeat, pauses: Backoff) -> bool:
        asked = time.monotonic()
        try:
            answer = connection.post(path, word, timing.ANSWER)
        except Unreachable as error:
            _log.debug("no heartbeat: %s", error)
            pauses.pause(self._ending)
            return False
        if answer.status != 200:
            _log.error(
                "the coordinator rejects our heartbeat: %d %s", answer.status, get_refusal_reason(answer)
            )
            pauses.pause(self._ending)
            return False
        pauses.reset()
        self._answered = time.monotonic()
        self._renew(asked)
        self._take(HeartbeatResponse.model_validate_json(answer.body))
        self.outbox.record_answer(self.view.received, word.overflowed)
        return True

    def _take(self, answer: HeartbeatResponse) -> None:
        with self._lock:
            before, earlier = self.view.answer_token, self.view.answer
            command, limits = self.view.command, self.view.limits
            self.view.merge_answer(answer)
            question, asked = self.view.next_diagnosis(), self.view.next_probe()
        stored = self.outbox.acknowledge(answer.acknowledged)
        if earlier is not None and answer.epoch > earlier.epoch:
            self._idle.shut_down_stale(
                answer.epoch
            )  # it may still wait at a coordinator that ended without a word
        if self.view.command is not command:
            self._listener.on_command(self.view.command)
        if self.view.limits is not None and self.view.limits is not limits:
            self._listener.on_limits(self.view.limits)
        if stored is not None:
            self._listener.on_row_stored(stored)
        if question is not None:
            self._listener.on_diagnosis(question)
        if asked is not None:
            threading.Thread(target=self._probe, name="footplate-probe", args=asked, daemon=True).start()
        if self.view.answer_token != before:
            self._listener.on_change()

    def _probe(self, epoch: int, asked: ConnectivityProbe) -> None:
        self._probed = probe.run_probe(epoch, asked)
        self.notify(urgent=True)

    def _word(self, news: bool) -> Heartbeat:
        oldest = self.outbox.oldest  # before the items: what is forgotten meanwhile is durable
        with self._lock:
            outbox = self.outbox.pending_items(self.view.received) if news else []
            running = self.running
            generation = running.generation if running else None
            known = generation is not None and self.view.is_confirmed(generation)
            sent = max(self.view.received, outbox[-1].sequence if outbox else 0)
            told = self._reports.may_send_end(sent >= self.outbox.sequence, time.monotonic())
            return Heartbeat(
                agent=self.identity,
                generation=generation,
                members=running.members if running and not known else [],
                # A coordinator that was just replaced does not know where ranks are that stand still.
                ranks=self._reports.list_unsent() if news or not known else [],
                total_steps=self._reports.total_steps,
                outbox=outbox,
                outbox_oldest=oldest,
                overflowed=self.outbox.overflowed,
                overflowed_told=self.outbox.overflowed_told,
                finished=self._reports.finished and told,
                suspended=self._reports.suspended and told,
                leaving=self.leaving,
                probed=self._probed,
                energy=self.meter.energy,
            )

    def _ask_to_join(
        self, connection: Connection, request: JoinRequest, pauses: Backoff
    ) -> SealedGeneration | None:
        try:
            answer = connection.post(wire.JOIN, request, wire.JOIN_SECONDS + timing.ANSWER)
        except Unreachable as error:
            _log.debug("no join: %s", error)
            pauses.pause(self._ending)
            return None
        pauses.reset()
        sealed = parse_join_response(answer, self.identity)
        if sealed is None and answer.status != 202:
            self._ending.wait(timing.LONGEST_PAUSE)
        return sealed
