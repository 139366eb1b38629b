"""The agent's end of the zygote: starts it, forks ranks, and receives their exits.

It uses only the standard library, and no contracts: the zygote is the first thing that an agent starts,
before it has imported anything of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from footplate_elastic.agent.errors import ZygoteFailed, ZygoteGone
from footplate_elastic.agent.zygote import PACKET

# While OpenMP and OpenBLAS load they would start a thread for each core.
SINGLE: Final = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


_ZYGOTE: Final = "footplate_elastic.agent.zygote"


@dataclass(frozen=True)
class ProcessExit:
    """A process's exit: its code, negative for a signal, and its Unix time."""

    code: int
    time: float


class Process(Protocol):
    """A child of this process."""

    @property
    def pid(self) -> int: ...

    def kill(self) -> None: ...

    def wait(self) -> int: ...


class Zygote:
    """A zygote process. Start it from the main thread: it dies with the thread that made it."""

    def __init__(self, modules: Sequence[str], changed: Callable[[], None]) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control = ours
        self._changed = changed
        self._state = threading.Condition()
        self._ready: dict[str, float] | None = None
        self._started: list[int] = []
        self._ends: dict[int, ProcessExit] = {}
        self._failure: str | None = None
        self._gone: ProcessExit | None = None
        self._code = 0
        with theirs:
            self._process = self._start(theirs, modules)
        self._listener = threading.Thread(target=self._listen, name="footplate-zygote", daemon=True)
        self._listener.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """True if it can still fork."""
        return self._gone is None

    @property
    def was_ready(self) -> bool:
        """True once it was ready to fork."""
        return self._ready is not None

    def fork(self, entry: str, environment: Mapping[str, str], descriptors: Sequence[int]) -> int:
        """Fork a rank that runs `entry` ("module:function") with these stdout and stderr; return its pid.

        Waits until the zygote has imported everything. Raises ZygoteFailed with the traceback if it could
        not, and ZygoteGone if it has ended.
        """
        # What was set for the zygote's own start must not reach a rank in its stead.
        unset = [name for name in SINGLE if name not in os.environ]
        order = {"entry": entry, "environment": dict(environment), "unset": unset}
        packet = json.dumps({"fork": order}).encode()
        self.wait_ready()
        with self._state:
            with contextlib.suppress(OSError):
                socket.send_fds(self._control, [packet], list(descriptors))
            self._state.wait_for(lambda: bool(self._started) or self._gone is not None)
            if not self._started:
                raise ZygoteGone(self._code)
            return self._started.pop(0)

    def wait_ready(self) -> None:
        """Wait until the zygote can fork.

        Raises ZygoteFailed with the traceback of the import that failed, and ZygoteGone if it ended without a
        message.
        """
        with self._state:
            self._state.wait_for(lambda: self._ready is not None or self._gone is not None)
            if self._failure is not None:
                raise ZygoteFailed(self._failure)
            if self._gone is not None:
                raise ZygoteGone(self._code)

    def find_exit(self, pid: int) -> ProcessExit | None:
        """Return the rank's exit, None while it runs. A rank does not outlive the zygote."""
        with self._state:
            return self._ends.get(pid) or self._gone

    def kill(self, pid: int, number: int) -> None:
        """Send signal `number` to a rank and all processes that it started."""
        with contextlib.suppress(OSError):
            self._control.send(json.dumps({"kill": pid, "signal": int(number)}).encode())

    def wait_ended(self, pids: Sequence[int], seconds: float) -> bool:
        """Wait until all of `pids` have ended; return whether they have."""
        with self._state:
            return self._state.wait_for(
                lambda: self._gone is not None or all(pid in self._ends for pid in pids), seconds
            )

    def close(self) -> None:
        """End the zygote and with it all ranks."""
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)
        self._process.kill()
        self._listener.join()
        self._control.close()

    def _start(self, control: socket.socket, modules: Sequence[str]) -> Process:
        """Start the process itself, which inherits `control`; tests fork it."""
        return subprocess.Popen(
            [sys.executable, "-m", _ZYGOTE, str(control.fileno()), str(os.getpid()), *modules],
            pass_fds=[control.fileno()],
            stdin=subprocess.DEVNULL,
            env={**os.environ, **SINGLE},
        )

    def _listen(self) -> None:
        while packet := self._receive():
            message: dict[str, Any] = json.loads(packet)
            with self._state:
                if "ready" in message:
                    self._ready = message["ready"]
                elif "started" in message:
                    self._started.append(message["started"])
                elif "exited" in message:
                    self._ends[message["exited"]] = ProcessExit(message["code"], message["time"])
                elif "failed" in message:
                    self._failure = message["failed"]
                self._state.notify_all()
            self._changed()
        ended = time.time()
        self._process.kill()  # it cannot be asked for anything any more, whatever it still does
        self._code = self._process.wait()
        with self._state:
            self._gone = ProcessExit(-signal.SIGKILL, ended)  # of its ranks, which die with it
            self._state.notify_all()
        self._changed()

    def _receive(self) -> bytes:
        try:
            return self._control.recv(PACKET)
        except OSError:
            return b""
