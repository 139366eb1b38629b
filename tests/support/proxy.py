"""Asks the API server without a new kubectl for each question.

A kubectl takes a third of a second of a core to start: a test that asks five times a second takes
that core away from the run that it waits for. `kubectl proxy` starts once, and reads every kind of
kubeconfig.
"""

from __future__ import annotations

import http.client
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from demo.api import told
from demo.kube import ROOT, Kube

_SAYS = "Starting to serve on "


class Proxy:
    """GET requests over one connection that is made again when it is lost."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self._connection = http.client.HTTPConnection(host, port, timeout=30)

    def get(self, path: str) -> Any:
        """The decoded answer; None for 404.

        Raises:
            DemoError: the server refused, or cannot be reached.
        """
        return told(path, self._ask)

    def _ask(self, path: str) -> tuple[int, str]:
        try:
            self._connection.request("GET", path)
            answer = self._connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException):
            self._connection.close()  # it was lost while nobody asked; the next request connects anew
            raise


@contextmanager
def proxied(kube: Kube) -> Iterator[Proxy]:
    """A `kubectl proxy` for the block."""
    with subprocess.Popen(
        ["kubectl", "proxy", "--port=0"],
        cwd=ROOT,
        env=kube.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline().strip()
            assert said.startswith(_SAYS), f"kubectl proxy said {said!r}"
            host, port = said.removeprefix(_SAYS).split(":")
            yield Proxy(host, int(port))
        finally:
            process.terminate()
