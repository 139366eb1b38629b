"""The agent's end of its ranks' sockets: one thread for each connected rank."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import socket
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from footplate_contracts.diagnosis import Diagnosis
from footplate_contracts.directives import Command, NumberedLimits
from footplate_contracts.metrics import StepMetrics
from footplate_contracts.reports import CheckpointRecord, CheckpointRemoval, GenerationId, RankReport
from footplate_contracts.samples import LoggedSample
from footplate_contracts.samples import parse_samples as read_samples
from footplate_elastic.protocol.agent_client import PACKET
from footplate_elastic.protocol.unstored_rows import RowKey

_log = logging.getLogger(__name__)


class RankMessageListener(Protocol):
    """Receiver of the ranks' messages; called from many threads."""

    def report(self, generation: GenerationId | None, report: RankReport) -> None:
        """Receive a rank's newest state."""

    def metrics(
        self, generation: GenerationId | None, row: StepMetrics, samples: Sequence[LoggedSample]
    ) -> None:
        """Receive a row of the metric history, and some samples of its step."""

    def checkpoint(self, generation: GenerationId | None, record: CheckpointRecord) -> None:
        """Receive a durable checkpoint."""

    def removal(self, generation: GenerationId | None, removal: CheckpointRemoval) -> None:
        """Receive the removal of a durable checkpoint."""

    def grant(self, generation: GenerationId, step: int) -> bool:
        """Return whether a generation may commit `step`; blocks until that is known."""


class RankServer:
    """A Unix socket in a directory of its own, which close() removes."""

    def __init__(self, listener: RankMessageListener) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="footplate-"))
        self.path = self.directory / "agent.sock"
        self._listener = listener
        self._command = Command.NONE
        self._limits: NumberedLimits | None = None
        self._until: float | None = None
        self._channels: dict[socket.socket, threading.Thread] = {}
        self._lock = threading.Lock()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.bind(str(self.path))
        self._socket.listen(64)
        threading.Thread(target=self._accept, name="footplate-ranks", daemon=True).start()

    def send_command(self, command: Command) -> None:
        """Send a command to all ranks, and to those that connect later."""
        with self._lock:
            self._command = command
            self._tell_all({"command": command.value})

    def send_limits(self, limits: NumberedLimits) -> None:
        """Send newer limits to all ranks, and to those that connect later; ignore older ones."""
        with self._lock:
            if self._limits is not None and not limits.is_newer_than(self._limits):
                return
            self._limits = limits
            self._tell_all({"limits": limits.to_json()})

    def lease(self, until: float | None) -> None:
        """Send all ranks, also later ones, until when they may begin steps (CLOCK_MONOTONIC)."""
        with self._lock:
            self._until = until
            self._tell_all({"until": until})

    def send_row_stored(self, row: RowKey) -> None:
        """Notify the connected ranks that a row, and those before it, are stored."""
        with self._lock:
            self._tell_all({"stored": {"generation": str(row.generation), "step": row.step}})

    def send_diagnosis(self, diagnosis: Diagnosis) -> None:
        """Forward a diagnosis request to the connected ranks."""
        with self._lock:
            self._tell_all({"diagnose": diagnosis.to_json()})

    def drain(self, seconds: float) -> None:
        """Wait until all messages of ended ranks are received."""
        with self._lock:
            threads = list(self._channels.values())
        for thread in threads:
            thread.join(seconds)

    def close(self) -> None:
        """Stop listening and remove the directory."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _tell_all(self, message: dict[str, Any]) -> None:
        """Send under the lock, so that no rank gets an older message after a newer one; never blocks."""
        for channel in self._channels:
            _send(channel, message)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                channel, _ = self._socket.accept()
                thread = threading.Thread(
                    target=self._hear, args=[channel], name="footplate-rank", daemon=True
                )
                with self._lock:
                    self._channels[channel] = thread
                    thread.start()
                    if self._command is not Command.NONE:
                        _send(channel, {"command": self._command.value})
                    if self._limits is not None:
                        _send(channel, {"limits": self._limits.to_json()})
                    if self._until is not None:
                        _send(channel, {"until": self._until})

    def _hear(self, channel: socket.socket) -> None:
        generation: GenerationId | None = None
        try:
            while packet := channel.recv(PACKET):
                try:
                    message = json.loads(packet)
                    if "hello" in message:
                        generation = GenerationId.parse(message["hello"]) if message["hello"] else None
                    else:
                        self._dispatch(channel, generation, message)
                except (ValueError, TypeError, KeyError) as error:  # what follows may be right
                    _log.warning("ignoring an unreadable message of a rank: %r", error)
        except OSError as error:
            _log.warning("a rank's connection broke: %r", error)
        finally:
            with self._lock:
                self._channels.pop(channel, None)
            channel.close()

    def _dispatch(
        self, channel: socket.socket, generation: GenerationId | None, message: dict[str, Any]
    ) -> None:
        if "report" in message:
            self._listener.report(generation, RankReport.from_json(message["report"]))
        elif "metrics" in message:
            computed_by = message.get("of")  # another generation than the rank's own
            self._listener.metrics(
                GenerationId.parse(computed_by) if computed_by else generation,
                StepMetrics.from_json(message["metrics"]),
                read_samples(message.get("samples")),
            )
        elif "checkpoint" in message:
            self._listener.checkpoint(generation, CheckpointRecord.from_json(message["checkpoint"]))
        elif "removal" in message:
            self._listener.removal(generation, CheckpointRemoval.from_json(message["removal"]))
        elif "grant" in message:
            arguments = (channel, generation, message["grant"], message["step"])
            # Of its own, since it may wait for minutes while reports go on.
            threading.Thread(target=self._grant, args=arguments, name="footplate-grant", daemon=True).start()

    def _grant(self, channel: socket.socket, generation: GenerationId | None, number: int, step: int) -> None:
        granted = generation is not None and self._listener.grant(generation, step)
        _send(channel, {"grant": number, "granted": granted})


def _send(channel: socket.socket, message: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # the rank has ended meanwhile
        channel.send(json.dumps(message).encode(), socket.MSG_DONTWAIT)
