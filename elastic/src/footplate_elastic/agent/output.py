"""Forwards the ranks' output to the agent's own, line by line.

`kubectl logs` shows what the agent's process writes; lines of several ranks must not run into each other. A
rank's log lines name it already; any other output is prefixed with the rank. The last lines of each rank are
stored: where a rank dies without an error file they are the only explanation.
"""

from __future__ import annotations

import logging
import os
import selectors
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, TextIO

from footplate_contracts.logs import formatter, log_fields, message_of
from footplate_contracts.names import LogFormat

KEPT_LINES: Final = 30


def format_line(text: str, rank: int, log_format: LogFormat) -> str:
    """Return a rank's line for the pod's log: a log line unchanged, any other with the rank."""
    if message_of(text) != text:
        return text
    if log_format is LogFormat.JSON:
        said = logging.makeLogRecord(
            {"name": "output", "levelname": "INFO", "msg": text, **log_fields(rank=rank)}
        )
        return formatter(LogFormat.JSON).format(said)
    return f"[rank {rank}] {text}"


@dataclass
class _Stream:
    rank: int
    target: TextIO
    tail: deque[str]
    ended: threading.Event = field(default_factory=threading.Event)
    rest: bytes = b""


@dataclass
class OutputForwarder:
    """Forwarder of all pipes, in one thread."""

    log_format: LogFormat
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    _tails: dict[int, deque[str]] = field(default_factory=dict)
    _streams: dict[int, list[_Stream]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._wake_reader, self._wake_writer = os.pipe()
        self._selector.register(self._wake_reader, selectors.EVENT_READ, None)
        threading.Thread(target=self._run, name="footplate-output", daemon=True).start()

    def open(self, rank: int) -> tuple[int, int]:
        """Return descriptors for stdout and stderr of `rank`; the caller closes them after the fork."""
        tail: deque[str] = deque(maxlen=KEPT_LINES)
        writers: list[int] = []
        with self._lock:
            self._tails[rank] = tail
            self._streams[rank] = [_Stream(rank, target, tail) for target in (sys.stdout, sys.stderr)]
            for stream in self._streams[rank]:
                reader, writer = os.pipe()
                self._selector.register(reader, selectors.EVENT_READ, stream)
                writers.append(writer)
        os.write(self._wake_writer, b"x")
        return writers[0], writers[1]

    def finish(self, ranks: Iterable[int], seconds: float) -> None:
        """Wait until all output of `ranks`, which have ended, is forwarded.

        At most `seconds`: a process that a rank has left behind may hold its pipes open.
        """
        deadline = time.monotonic() + seconds
        for rank in ranks:
            for stream in self._streams.get(rank, ()):
                stream.ended.wait(max(0.0, deadline - time.monotonic()))

    def tail(self, rank: int) -> str:
        """Return the last lines of `rank` so far."""
        return "\n".join(self._tails.get(rank, ()))

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                data = os.read(key.fd, 65536)
                if key.data is not None:
                    self._take(key.fd, key.data, data)

    def _take(self, descriptor: int, stream: _Stream, data: bytes) -> None:
        *lines, stream.rest = (stream.rest + data).split(b"\n")
        if not data:
            lines, stream.rest = ([stream.rest] if stream.rest else []), b""
            with self._lock:
                self._selector.unregister(descriptor)
            os.close(descriptor)
        if lines:
            texts = [line.decode(errors="replace") for line in lines]
            stream.tail.extend(message_of(text) for text in texts)
            stream.target.write(
                "".join(format_line(text, stream.rank, self.log_format) + "\n" for text in texts)
            )
            stream.target.flush()
        if not data:
            stream.ended.set()
