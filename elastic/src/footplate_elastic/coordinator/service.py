"""The coordinator's events and their answers: each event is processed, then a long-poll waits.

One event loop, so there are no locks: an event is processed and answered without an await in between, and
only then does a long-poll wait. The transport is the server's business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

from footplate_contracts.coordinator_state import CoordinatorState
from footplate_contracts.diagnosis import Diagnosis, DiagnosisRequest
from footplate_contracts.directives import Directives
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
from footplate_elastic.coordinator import timing
from footplate_elastic.coordinator.core import Coordinator
from footplate_elastic.coordinator.failure_detector import heartbeat_wait_seconds
from footplate_elastic.protocol import wire
from footplate_elastic.protocol.wire import AgentRefusal

LONGEST_WAIT: Final = 60.0

Value = TypeVar("Value")


class ChangeNotifier:
    """Event that wakes all waiters on a change."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def notify_all(self) -> None:
        """Wake all waiters."""
        self._event.set()
        self._event = asyncio.Event()

    async def wait_for(self, look: Callable[[], Value | None], seconds: float) -> Value | None:
        """Return the first value other than None from `look`, or None after `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                while (value := look()) is None:
                    await self._event.wait()
                return value
        except TimeoutError:
            return None


class Service:
    """A coordinator with long-polls; `queued` is called on new telemetry, `clock` is monotonic."""

    def __init__(
        self, coordinator: Coordinator, queued: Callable[[], None], clock: Callable[[], float]
    ) -> None:
        self.coordinator = coordinator
        self._changes = ChangeNotifier()  # for the operator
        self._announcements = ChangeNotifier()  # for agents, whom each other's arrivals must not wake
        self._queued = queued
        self._clock = clock
        self._version = coordinator.version
        self._announced = coordinator.shared_state

    @property
    def epoch(self) -> int:
        """The epoch of this coordinator."""
        return self.coordinator.state.epoch

    async def keep_time(self, interval: float = timing.TICK) -> None:
        """Tick every `interval` seconds until cancelled."""
        while True:
            self.coordinator.tick(self._clock())
            self._tell()
            await asyncio.sleep(interval)

    # -- agents ------------------------------------------------------------------------

    async def join(self, request: JoinRequest) -> SealedGeneration | AgentRefusal | None:
        """Return the sealed generation, or a refusal; None when the wait was too long: retry."""
        refusal = self.coordinator.join(request, self._clock())
        self._tell()
        if refusal is not None:
            return refusal

        def look() -> SealedGeneration | AgentRefusal | None:
            return self.coordinator.find_generation(request) or self.coordinator.find_refusal(request.agent)

        return await self._announcements.wait_for(look, wire.JOIN_SECONDS)

    async def heartbeat(self, word: Heartbeat, known: str, wait: float) -> HeartbeatResponse:
        """Return the answer; wait up to `wait` seconds while it would equal `known`."""
        self.coordinator.heartbeat(word, self._clock())
        self._tell()
        self._queued()

        def look() -> HeartbeatResponse | None:
            answer = self.coordinator.build_heartbeat_response(word.agent)
            return answer if wire.answer_token(answer) != known else None

        seconds = min(wait, heartbeat_wait_seconds(self.coordinator.state, word.agent))
        found = await self._announcements.wait_for(look, seconds) if seconds > 0 else None
        return found or self.coordinator.build_heartbeat_response(word.agent)

    def connect(self, agent: AgentIdentity) -> AgentRefusal | None:
        """Process a new idle connection; return why it is refused, or None."""
        refusal = self.coordinator.connect(agent, self._clock())
        self._tell()
        return refusal

    def disconnect(self, agent: AgentIdentity) -> None:
        """Process the end of an idle connection."""
        self.coordinator.disconnect(agent, self._clock())
        self._tell()

    def leave(self, farewell: LeaveRequest) -> None:
        """Process the departure of an agent that ends by request."""
        self.coordinator.leave(farewell, self._clock())
        self._tell()

    def grant(self, request: GrantRequest) -> Grant | None:
        """Return the grant; None while a replaced coordinator does not know the newest generation."""
        return self.coordinator.grant(request)

    # -- the operator ------------------------------------------------------------------

    async def state(self, after: int, wait: float) -> CoordinatorState:
        """Return the whole state once its version is above `after`, or after `wait` seconds."""
        self.coordinator.state.polled = self._clock()

        def look() -> bool | None:
            return True if self.coordinator.version > after else None

        await self._changes.wait_for(look, min(wait, LONGEST_WAIT))
        return self.coordinator.view()

    def set_directives(self, directives: Directives) -> CoordinatorState:
        """Apply the operator's directives; return the whole state after it."""
        self.coordinator.set_directives(directives, self._clock())
        self._tell()
        return self.coordinator.view()

    def diagnose(self, request: DiagnosisRequest) -> Diagnosis:
        """Forward the request to all agents."""
        diagnosis = self.coordinator.diagnose(request)
        self._tell()
        return diagnosis

    def _tell(self) -> None:
        if self.coordinator.version != self._version:
            self._version = self.coordinator.version
            self._changes.notify_all()
        announced = self.coordinator.shared_state
        if announced != self._announced:
            self._announced = announced
            self._announcements.notify_all()
