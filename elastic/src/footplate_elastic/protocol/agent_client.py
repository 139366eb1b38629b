"""A rank's client of its agent, which also works without one.

Under Footplate an agent listens; under torchrun or alone nobody does. The training loop must read the same in
both cases and must never wait for the network in the middle of a step, so it uses this class: reports are
sent without waiting, rows are stored until they are known to be durable, the command is a cached value, and
only a grant, requested by the thread that writes checkpoints, may block.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from footplate_contracts.diagnosis import Diagnosis
from footplate_contracts.directives import Command, NumberedLimits
from footplate_contracts.metrics import StepMetrics
from footplate_contracts.names import Env
from footplate_contracts.reports import (
    CheckpointRecord,
    CheckpointRemoval,
    GenerationId,
    GenerationRow,
    RankReport,
)
from footplate_contracts.samples import LoggedSample, truncate_samples
from footplate_elastic.protocol.unstored_rows import RowKey, UnstoredRows

PACKET: Final = 64 * 1024
CLOSE_SECONDS: Final = 5.0


class AgentClient:
    """A rank's connection to its agent; this base class serves a rank without an agent."""

    def report(self, report: RankReport) -> None:
        """Replace this rank's report; never blocks."""

    def metrics(self, row: StepMetrics, samples: Sequence[LoggedSample] = ()) -> None:
        """Add a row to the metric history, and some samples of its step; never blocks."""

    def resend_metrics(self, rows: Sequence[GenerationRow]) -> None:
        """Add rows that an earlier generation added and that may be missing; never blocks."""

    def get_unstored_rows(self) -> list[GenerationRow]:
        """Return rows added here and not known to be stored, the newest thousand at most; never blocks."""
        return []

    def checkpoint(self, record: CheckpointRecord) -> None:
        """Announce a checkpoint whose commit marker exists; never blocks."""

    def removal(self, removal: CheckpointRemoval) -> None:
        """Announce a checkpoint whose commit marker is gone; never blocks."""

    def grant(self, step: int) -> bool:
        """Return whether this generation may commit its checkpoint of `step`; blocks until it is known.

        Always True where there is no agent: then there is one generation only.
        """
        return True

    def wait_for_lease(self) -> None:
        """Wait while another generation may train: no coordinator has answered the agent for long."""

    def command(self) -> Command:
        """Return the newest command known here; a cached value."""
        return Command.NONE

    def limits(self) -> NumberedLimits | None:
        """Return the newest limits, a cached value; None where only the RunConfig sets them."""
        return None

    def listen(self, diagnosed: Callable[[Diagnosis], None]) -> None:
        """Register `diagnosed`, which another thread calls for every diagnosis request to this rank."""

    def close(self) -> None:
        """Send the rest of the queue, and end."""


def open_client(environment: Mapping[str, str]) -> AgentClient:
    """Return the client of the agent whose socket `environment` names, else one without an agent.

    Raises OSError where nobody listens there.
    """
    path = environment.get(Env.RANK_LINK)
    if path is None:
        return AgentClient()
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel.connect(path)
    told = environment.get(Env.LIMITS)
    limits = NumberedLimits.model_validate_json(told) if told else None
    return SocketClient(channel, environment.get(Env.GENERATION, ""), limits)


class SocketClient(AgentClient):
    """Client of an agent over a socket. Thread-safe.

    Packets: each is one JSON object, whole or not at all. The training loop never waits: packets that do not
    fit into the socket at once are queued, and only the newest report is stored. A thread receives the
    command and the answers to grants.
    """

    def __init__(self, channel: socket.socket, generation: str, limits: NumberedLimits | None = None) -> None:
        """Start with `limits` in force; `channel` is a connected SOCK_SEQPACKET socket."""
        self._channel = channel
        self._queue: deque[bytes] = deque()
        self._report: bytes | None = None
        self._lock = threading.Lock()
        self._command = Command.NONE
        self._limits = limits
        self._until: float | None = None  # of CLOCK_MONOTONIC, which all processes of a machine share
        self._diagnosed: Callable[[Diagnosis], None] = _ignored
        self._answers: dict[int, bool] = {}
        self._answered = threading.Condition()
        self._asked = 0
        self._ended = False
        self._generation = GenerationId.parse(generation) if generation else None
        self._unstored = UnstoredRows()
        self._put({"hello": generation})
        threading.Thread(target=self._listen, name="footplate-agent", daemon=True).start()

    def report(self, report: RankReport) -> None:
        with self._lock:
            self._report = _packet({"report": report.to_json()})
            self._flush()

    def metrics(self, row: StepMetrics, samples: Sequence[LoggedSample] = ()) -> None:
        shown = truncate_samples(samples) or None
        if self._generation is not None:
            with self._lock:
                self._unstored.add(GenerationRow(generation=self._generation, metrics=row, samples=shown))
        self._put({"metrics": row.to_json(), **_shown(shown)})

    def resend_metrics(self, rows: Sequence[GenerationRow]) -> None:
        for row in rows:
            with self._lock:
                self._unstored.add(row)
            told = {"metrics": row.metrics.to_json(), "of": str(row.generation)}
            self._put({**told, **_shown(row.samples)})

    def get_unstored_rows(self) -> list[GenerationRow]:
        with self._lock:
            return self._unstored.to_list()

    def checkpoint(self, record: CheckpointRecord) -> None:
        self._put({"checkpoint": record.to_json()})

    def removal(self, removal: CheckpointRemoval) -> None:
        self._put({"removal": removal.to_json()})

    def grant(self, step: int) -> bool:
        """Return whether this generation may commit; False as well when the agent is gone."""
        with self._answered:
            self._asked += 1
            number = self._asked
            self._put({"grant": number, "step": step})
            self._answered.wait_for(lambda: number in self._answers or self._ended)
            return self._answers.pop(number, False)

    def wait_for_lease(self) -> None:
        with self._answered:
            self._answered.wait_for(self._leased)

    def command(self) -> Command:
        return self._command

    def limits(self) -> NumberedLimits | None:
        return self._limits

    def listen(self, diagnosed: Callable[[Diagnosis], None]) -> None:
        self._diagnosed = diagnosed

    def close(self) -> None:
        """Send the rest of the queue, for at most five seconds, and end."""
        with self._lock, contextlib.suppress(OSError):
            self._channel.settimeout(CLOSE_SECONDS)
            for packet in [*self._queue, *([self._report] if self._report else [])]:
                self._channel.send(packet)
            self._queue.clear()
            self._report = None
        with contextlib.suppress(OSError):
            self._channel.shutdown(socket.SHUT_RDWR)

    def _put(self, message: dict[str, Any]) -> None:
        with self._lock:
            self._queue.append(_packet(message))
            self._flush()

    def _flush(self) -> None:
        """Send without waiting; the rest stays in the queue for the next time."""
        try:
            while self._queue:
                self._channel.send(self._queue[0], socket.MSG_DONTWAIT)
                self._queue.popleft()
            if self._report is not None:
                self._channel.send(self._report, socket.MSG_DONTWAIT)
                self._report = None
        except BlockingIOError:
            return
        except OSError:
            self._queue.clear()  # the agent is gone, and this process with it in a moment

    def _learn(self, limits: NumberedLimits) -> None:
        """Store newer limits; a rank may start with newer ones than its agent could push then."""
        if self._limits is None or limits.is_newer_than(self._limits):
            self._limits = limits

    def _leased(self) -> bool:
        return self._ended or self._until is None or time.monotonic() < self._until

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while packet := self._channel.recv(PACKET):
                message = json.loads(packet)
                if "command" in message:
                    self._command = Command(message["command"])
                if "limits" in message:
                    self._learn(NumberedLimits.from_json(message["limits"]))
                if "until" in message:
                    with self._answered:
                        self._until = message["until"]
                        self._answered.notify_all()
                if "stored" in message:
                    row = message["stored"]
                    with self._lock:
                        self._unstored.remove_stored(
                            RowKey(GenerationId.parse(row["generation"]), row["step"])
                        )
                if "diagnose" in message:
                    self._diagnosed(Diagnosis.from_json(message["diagnose"]))
                if "grant" in message:
                    with self._answered:
                        self._answers[message["grant"]] = message["granted"]
                        self._answered.notify_all()
        with self._answered:
            self._ended = True
            self._answered.notify_all()


def _ignored(diagnosis: Diagnosis) -> None:
    """Ignore a diagnosis request: no callback is registered yet."""


def _shown(samples: Sequence[LoggedSample] | None) -> dict[str, Any]:
    """Return the part of a packet that holds `samples`."""
    return {"samples": [sample.to_json() for sample in samples]} if samples else {}


def _packet(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode()
