"""Our programs as processes of a test, cheap: forked from one that has imported them, as ranks are in a pod.

    process = start("footplate_operator.__main__", [], environment, log.fileno())

The process runs the `main` of that module with these arguments and this environment. A test that is about a
program's start or its memory starts `python -m` instead.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from footplate_elastic.agent.zygote_client import Zygote

ROOT = Path(__file__).resolve().parents[2]
_ORDER = "FOOTPLATE_TEST_PROGRAM"


@dataclass(frozen=True)
class Program:
    """A running program, with what tests use of `subprocess.Popen`."""

    pid: int
    _zygote: Zygote

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        end = self._zygote.find_exit(self.pid)
        return None if end is None else end.code

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, once it has ended; raises subprocess.TimeoutExpired."""
        seconds = threading.TIMEOUT_MAX if timeout is None else timeout
        if not self._zygote.wait_ended([self.pid], seconds):
            raise subprocess.TimeoutExpired(["program", str(self.pid)], seconds)
        code = self.poll()
        assert code is not None
        return code

    def send_signal(self, number: int) -> None:
        """A signal, unless it has ended."""
        with suppress(ProcessLookupError):  # it may have ended, and nobody here have heard of it yet
            if self.poll() is None:
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Asks it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it."""
        self.send_signal(signal.SIGKILL)


Running = subprocess.Popen[bytes] | Program


@cache
def zygote_of(module: str) -> Zygote:
    """The process that has imported `module`; first asked for by the main thread, with which it ends."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PYTHONPATH", str(ROOT))
        return Zygote([module, __name__], lambda: None)


def start(
    module: str, arguments: Sequence[str], environment: Mapping[str, str], output: int | None = None
) -> Program:
    """`main` of `module`, with stdout and stderr on the descriptor `output`, or where they are here."""
    order = {"module": module, "arguments": list(arguments), "environment": dict(environment)}
    zygote = zygote_of(module)
    outputs = [1, 2] if output is None else [output, output]
    return Program(zygote.fork(f"{__name__}:_main", {_ORDER: json.dumps(order)}, outputs), zygote)


def _main() -> int:
    order = json.loads(os.environ[_ORDER])
    os.environ.clear()
    os.environ.update(order["environment"])
    if (read := sys.modules.get("kubernetes.aio.config.kube_config")) is not None:
        # It has looked when it was imported, which was before anybody knew.
        vars(read)["KUBE_CONFIG_DEFAULT_LOCATION"] = os.environ.get("KUBECONFIG", "")
    sys.argv = [order["module"], *order["arguments"]]
    code: int = importlib.import_module(order["module"]).main()
    return code
