"""The API server of these tests: kubectl for what a user does, one connection for what is asked all the time.

A node of these tests looks five times a second, and so do the tests.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from cluster.machine.processes import BRIEF_GO
from footplate_operator.runtime.kinds import POD, Kind
from footplate_operator.trainingrun.run import TRAINING_RUN
from tests.support.connection import Json, ask, refused

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Api:
    """kubectl as an administrator in one namespace."""

    program: Path
    kubeconfig: Path
    namespace: str = "default"

    def __call__(self, *arguments: str, stdin: str | None = None) -> str:
        """Standard output of kubectl; a failure carries what it said."""
        done = subprocess.run(
            [str(self.program), "--kubeconfig", str(self.kubeconfig), "-n", self.namespace, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            cwd=ROOT,
            env={**os.environ, **BRIEF_GO},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def apply(self, *bodies: Json) -> None:
        """Create or change objects, strictly."""
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(bodies)})
        self("apply", "--server-side", "--validate=strict", "-f", "-", stdin=text)

    def get(self, kind: Kind, name: str) -> Json | None:
        """The object, or None."""
        return self._ask("GET", kind.path(self.namespace, name))

    def find(self, kind: Kind, selector: str = "") -> list[Json]:
        """Objects of one kind, by name."""
        found = self._ask("GET", f"{kind.path(self.namespace)}?labelSelector={quote(selector)}")
        items: list[Json] = (found or {}).get("items", [])
        return sorted(items, key=lambda item: str(item["metadata"]["name"]))

    def names(self, kind: Kind) -> list[str]:
        """Their names."""
        return [str(item["metadata"]["name"]) for item in self.find(kind)]

    def patch_status(self, name: str, status: Json) -> None:
        """Set a pod's status, as a kubelet does; the pod may be gone by then."""
        self._ask("PATCH", POD.path(self.namespace, name, "status"), {"status": status})

    def keep(self, name: str) -> None:
        """When it is deleted, the pod stays Terminating, as one of a dead node does."""
        kept = {"metadata": {"finalizers": ["example.dev/dead-node"]}}
        self._ask("PATCH", POD.path(self.namespace, name), kept)

    def end(self, name: str) -> None:
        """Take a pod away, as a kubelet does when its containers have ended; it may be gone by then."""
        self._ask("DELETE", POD.path(self.namespace, name), {"gracePeriodSeconds": 0})

    def bind(self, pod: str, machine: str) -> None:
        """Put a pod onto a Node, as the scheduler does."""
        body: Json = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": pod},
            "target": {"apiVersion": "v1", "kind": "Node", "name": machine},
        }
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}/binding"
        self("create", "--raw", path, "-f", "-", stdin=json.dumps(body))

    def can_i(self, verb: str, kind: Kind, namespace: str) -> str:
        """`kubectl auth can-i` of this caller: yes or no."""
        command = [str(self.program), "--kubeconfig", str(self.kubeconfig), "-n", namespace]
        asked = [*command, "auth", "can-i", verb, kind.plural]
        environment = {**os.environ, **BRIEF_GO}
        done = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=False, env=environment)
        return done.stdout.strip()

    def may_delete(self, kind: Kind, name: str) -> bool:
        """Whether the API server would let this caller."""
        status, _ = ask(self.kubeconfig, "DELETE", kind.path(self.namespace, name) + "?dryRun=All")
        return not refused(status)

    def status(self, name: str) -> Json:
        """Status of a TrainingRun, empty before there is one."""
        found: Json = (self.get(TRAINING_RUN, name) or {}).get("status", {})
        return found

    def _ask(self, method: str, path: str, body: Json | None = None) -> Json | None:
        """The decoded answer; None for 404."""
        status, answer = ask(self.kubeconfig, method, path, body)
        if status == HTTPStatus.NOT_FOUND:
            return None
        assert not refused(status), f"{method} {path}: {status} {answer}"
        return answer


def wait_for(look: Callable[[], T | None], what: str, seconds: float = 40.0, pause: float = 0.2) -> T:
    """The first answer that is neither None nor empty, looked for every `pause` seconds."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(pause)
