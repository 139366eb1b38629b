"""A rank's end of the socket to its agent.

Packets over a Unix socket: each is one JSON object, whole or not at all. The
training loop never waits: what the socket does not take at once is queued, and
only the newest report is kept. A thread receives the command and the answers
to grants.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from footplate_contracts.directives import Command, NumberedLimits
from footplate_contracts.names import Env
from footplate_contracts.reports import CheckpointRecord, Diagnosis, RankReport, StepMetrics

PACKET: Final = 64 * 1024
CLOSE_SECONDS: Final = 5.0


def connect(path: str) -> SocketClient:
    """The client of the agent that listens at `path`; raises OSError when nobody does."""
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel.connect(path)
    told = os.environ.get(Env.LIMITS)
    limits = NumberedLimits.model_validate_json(told) if told else None
    return SocketClient(channel, os.environ.get(Env.GENERATION, ""), limits)


class SocketClient:
    """The AgentClient protocol of `footplate_elastic.protocol.agent_client` over a socket. Thread-safe."""

    def __init__(self, channel: socket.socket, generation: str, limits: NumberedLimits | None = None) -> None:
        """`limits` hold at the start."""
        self._channel = channel
        self._queue: deque[bytes] = deque()
        self._report: bytes | None = None
        self._lock = threading.Lock()
        self._command = Command.NONE
        self._limits = limits
        self._diagnosed: Callable[[Diagnosis], None] = _ignored
        self._answers: dict[int, bool] = {}
        self._answered = threading.Condition()
        self._asked = 0
        self._ended = False
        self._put({"hello": generation})
        threading.Thread(target=self._listen, name="footplate-agent", daemon=True).start()

    def report(self, report: RankReport) -> None:
        """Replace what is known of this rank; never blocks."""
        with self._lock:
            self._report = _packet({"report": report.to_json()})
            self._flush()

    def metrics(self, row: StepMetrics) -> None:
        """Add a row to the metric history; never blocks."""
        self._put({"metrics": row.to_json()})

    def checkpoint(self, record: CheckpointRecord) -> None:
        """Announce a checkpoint whose commit marker exists; never blocks."""
        self._put({"checkpoint": record.to_json()})

    def grant(self, step: int) -> bool:
        """Whether this generation may commit; False as well when the agent is gone."""
        with self._answered:
            self._asked += 1
            number = self._asked
            self._put({"grant": number, "step": step})
            self._answered.wait_for(lambda: number in self._answers or self._ended)
            return self._answers.pop(number, False)

    def command(self) -> Command:
        """The newest command that has arrived."""
        return self._command

    def limits(self) -> NumberedLimits | None:
        """The newest limits that have arrived."""
        return self._limits

    def listen(self, diagnosed: Callable[[Diagnosis], None]) -> None:
        """Have `diagnosed` called, from the thread that receives, for every question to this rank."""
        self._diagnosed = diagnosed

    def close(self) -> None:
        """Hand over what is still queued, for at most five seconds, and end."""
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
        """Send without waiting; what does not go stays for the next time."""
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
        """The agent may have started this rank with newer ones than it could push at that moment."""
        if self._limits is None or limits.newer_than(self._limits):
            self._limits = limits

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while packet := self._channel.recv(PACKET):
                message = json.loads(packet)
                if "command" in message:
                    self._command = Command(message["command"])
                if "terms" in message:
                    self._learn(NumberedLimits.from_json(message["terms"]))
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
    """Nobody has asked to hear of questions yet."""


def _packet(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode()
