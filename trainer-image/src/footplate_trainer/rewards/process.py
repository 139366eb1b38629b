"""The process in which a reward function runs, on the rank's side.

A user's code may raise, hang, print, leak, fork or end its process. It runs where that harms nothing else: in
a session of its own, with its own environment and no file of the rank's but one end of a socket pair, and it
is killed when its time is over. The rank accepts either a whole message of the process or nothing.
"""

from __future__ import annotations

import logging
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from typing import Any, Final

from footplate_trainer.errors import UserMistake
from footplate_trainer.rewards import messages
from footplate_trainer.rewards.call_schedule import CallFailureKind
from footplate_trainer.rewards.redaction import Redactor

logger = logging.getLogger(__name__)

LINES: Final = 1000  # of one process; a function that prints for each answer fills no disk
LINE: Final = 500  # characters of one line
_UNPRINTABLE: Final = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)  # escapes of terminals, and other lines' ends


START_SECONDS: Final = 300  # to import what the function needs; a scorer of one's own may be a large model
_LEAVING_SECONDS: Final = 1  # from the end of its socket to that of a process
_WORKER: Final = "footplate_trainer.rewards.worker"


class CallFailed(Exception):
    """A call failed; the text is the reason, for a person."""

    def __init__(self, failure: CallFailureKind, what: str) -> None:
        super().__init__(what)
        self.failure = failure


class FunctionProcess:
    """A reward function's process, which is started on demand and may be ended at any time.

    A single thread calls all methods but `kill`; when that thread ends, the process ends.
    """

    def __init__(
        self,
        reward: str,
        set_up: Mapping[str, Any],
        environment: Mapping[str, str],
        hidden: Redactor,
        start_seconds: float = START_SECONDS,
    ) -> None:
        """Set the process up: the worker builds its scorer from `set_up`; `reward` names it in the log.

        `hidden` are the secrets in its `environment`, which are redacted in all of its output.
        """
        self._hidden = hidden
        self._reward = reward
        self._set_up = dict(set_up)
        self._environment = dict(environment)
        self._start_seconds = start_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._reader = messages.MessageReader()

    def start(self) -> None:
        """Start the process and wait until it is ready; UserMistake if its function cannot be called."""
        ours, theirs = socket.socketpair()
        reading, writing = os.pipe()
        with ExitStack() as on_error, theirs:
            on_error.callback(os.close, reading)
            on_error.callback(ours.close)
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", _WORKER, str(theirs.fileno()), str(os.getpid())],
                    stdin=subprocess.DEVNULL,
                    stdout=writing,
                    stderr=writing,
                    pass_fds=[theirs.fileno()],
                    env=self._environment,
                    start_new_session=True,
                )
            finally:
                os.close(writing)
            on_error.pop_all()
        ours.setblocking(False)
        self._socket, self._reader = ours, messages.MessageReader()
        start_logging_lines(reading, self._reward, self._hidden)
        try:
            kind, content = self._exchange(self._set_up, self._start_seconds)
        except CallFailed as failed:
            said = " ".join(str(self._set_up[part]) for part in ("field", "name") if part in self._set_up)
            raise UserMistake(f"{said}: {failed} while it was imported") from failed
        if kind == "mistake":
            self.end()
            raise UserMistake(str(content))

    def call(self, request: object, seconds: float) -> Any:
        """Return the process's answer within `seconds`; starts it if it does not run. Raises CallFailed."""
        if self._process is None:
            try:
                self.start()
            except UserMistake as mistake:
                raise CallFailed(CallFailureKind.ENDED, f"cannot restart it: {mistake}") from mistake
        kind, content = self._exchange(request, seconds)
        if kind == "exhausted":  # whatever it holds stays held
            self.end()
        if kind != "answer":
            raise CallFailed(CallFailureKind.RAISED, str(content))
        return content

    def end(self) -> int | None:
        """Kill the process and its session; return its exit code, or None if it did not run."""
        self.kill()
        process, self._process = self._process, None
        ours, self._socket = self._socket, None
        if ours is not None:
            ours.close()
        return None if process is None else process.wait()

    def kill(self) -> None:
        """Kill the process's session, so that a call under way fails; may be called from any thread."""
        process = self._process
        # As long as nobody has waited for it its number is that of no other session.
        if process is not None and process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def _exchange(self, request: object, seconds: float) -> tuple[str, Any]:
        """Send `request` and return the one message that answers it."""
        assert self._process is not None and self._socket is not None
        process, ours = self._process, self._socket
        unsent = memoryview(messages.encode(request))
        deadline = time.monotonic() + seconds
        # A child of the function's may hold the socket open beyond the end of its process.
        with os.fdopen(os.pidfd_open(process.pid), "rb", buffering=0) as ended:
            while True:
                poll = select.poll()
                poll.register(ours, select.POLLIN | (select.POLLOUT if unsent else 0))
                poll.register(ended, select.POLLIN)
                ready = dict(poll.poll(max(deadline - time.monotonic(), 0) * 1000))
                if not ready:
                    self.end()
                    raise CallFailed(CallFailureKind.TIMEOUT, f"it returned nothing within {seconds:g} s")
                if ready.get(ours.fileno(), 0) & select.POLLOUT:
                    with suppress(BlockingIOError, ConnectionError):  # its end is seen below
                        unsent = unsent[ours.send(unsent) :]
                if (answer := self._received(ours)) is not None:
                    return answer
                if ended.fileno() in ready:
                    raise CallFailed(CallFailureKind.ENDED, _how(self.end()))

    def _received(self, ours: socket.socket) -> tuple[str, Any] | None:
        """Return a message if one is complete, else None; CallFailed if there can be none any more."""
        try:
            while chunk := ours.recv(1 << 20):
                for kind, content in self._reader.feed(chunk):
                    return str(kind), self._hidden.redact(content)
        except BlockingIOError:
            return None
        except (ConnectionError, messages.NotAMessage, TypeError, ValueError) as error:
            self.end()
            said = self._hidden.redact_text(str(error))
            raise CallFailed(CallFailureKind.ENDED, f"it used an internal socket: {said}") from error
        assert self._process is not None
        try:  # what closes a socket is the end of a process, or somebody who closes all files
            self._process.wait(_LEAVING_SECONDS)
        except subprocess.TimeoutExpired:
            self.end()
            raise CallFailed(CallFailureKind.ENDED, "it closed an internal socket") from None
        raise CallFailed(CallFailureKind.ENDED, _how(self.end()))


def _how(code: int | None) -> str:
    assert code is not None, "there was a process"
    if code >= 0:
        return f"its process ended with code {code}"
    return f"its process was ended by {signal.Signals(-code).name}"


class OutputLines:
    """A splitter of a byte stream into log lines."""

    def __init__(self, hidden: Redactor, lines: int = LINES, longest: int = LINE) -> None:
        self._hidden = hidden
        self._left = lines
        self._longest = longest
        self._begun = b""
        self._cut = False  # the line under way is longer than what is shown, and was shown

    def feed(self, chunk: bytes) -> list[str]:
        """Add `chunk` and return the lines to log."""
        *whole, self._begun = (self._begun + chunk).split(b"\n")
        lines = [] if self._cut and whole else [whole[0]] if whole else []
        lines += whole[1:]
        if whole:
            self._cut = False
        if self._cut:
            self._begun = b""
        elif len(self._begun) > 4 * self._longest:  # no line of so many characters is waited for
            lines.append(self._begun)
            self._begun, self._cut = b"", True
        return self._told(lines)

    def flush(self) -> list[str]:
        """Return the last line, which has no line end."""
        return self._told([self._begun] if self._begun else [])

    def _told(self, lines: list[bytes]) -> list[str]:
        texts = [self._text(line) for line in lines if line.strip()]
        told = texts[: self._left]
        if self._left and len(texts) >= self._left:
            told.append("… further output is dropped")
        self._left -= min(len(texts), self._left)
        return told

    def _text(self, line: bytes) -> str:
        text = self._hidden.redact_text(_UNPRINTABLE.sub(" ", line.decode(errors="replace")).rstrip())
        return text if len(text) <= self._longest else f"{text[: self._longest]}…"


def start_logging_lines(reading: int, reward: str, hidden: Redactor) -> None:
    """Log the lines from the file descriptor `reading` in a thread until it ends, then close it."""

    def read() -> None:
        lines = OutputLines(hidden)
        with open(reading, "rb", buffering=0) as stream:
            while chunk := stream.read(1 << 16):
                _log(reward, lines.feed(chunk))
        _log(reward, lines.flush())

    threading.Thread(target=read, name=f"prints-of-{reward}", daemon=True).start()


def _log(reward: str, lines: list[str]) -> None:
    for line in lines:
        logger.info("reward %s prints: %s", reward, line)
