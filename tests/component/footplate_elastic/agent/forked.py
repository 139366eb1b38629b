"""What coordinators and agents of a gang are forked from: imports take an agent two seconds of a core, twice.

When an agent that was forked ends, whatever it has started is ended with it, by the process that it was
forked from: a test of just that starts it as in a pod.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence

# What an agent imports once it has registered.
import footplate_elastic.agent.elastic
import footplate_elastic.agent.launch
import footplate_elastic.agent.rendezvous  # noqa: F401
from footplate_elastic.agent import process, zygote
from footplate_elastic.agent.zygote_client import SINGLE, Process, Zygote
from footplate_elastic.coordinator.__main__ import main as coordinate
from footplate_elastic.coordinator.timing import Timing


class Child:
    """A fork of this process, with what the agent uses of `subprocess.Popen`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._reaped = False
        self._turn = threading.Lock()  # of whoever uses the id, which may be another's once it is reaped

    def kill(self) -> None:
        """End it, unless it was reaped."""
        with self._turn:
            if not self._reaped:
                os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        """Its exit code, negative for a signal."""
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        with self._turn:
            _, status = os.waitpid(self.pid, 0)
            self._reaped = True
        return os.waitstatus_to_exitcode(status)


class ForkedZygote(Zygote):
    """Has the agent's own imports; one that is started anew, when the agent has threads, is as in a pod."""

    def _start(self, control: socket.socket, modules: Sequence[str]) -> Process:
        if threading.active_count() > 1:
            return super()._start(control, modules)
        agent = os.getpid()
        if pid := os.fork():
            return Child(pid)
        self._control.close()  # or it would not see the agent end
        os.environ.update(SINGLE)
        os._exit(zygote.main([str(control.detach()), str(agent), *modules]))


def main() -> int:
    """The exit code of the program that the first argument names; a coordinator's timing is the second."""
    if sys.argv.pop(1) == "agent":
        sys.path[:0] = os.environ["PYTHONPATH"].split(os.pathsep)
        sys.modules.pop("pynvml", None)  # torch has imported one; what the path has may be a test's
        process.main(zygote=ForkedZygote)
    return coordinate(Timing(**json.loads(sys.argv.pop(1))))
