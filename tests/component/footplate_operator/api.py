"""The API server of these tests, as a blocking client on top of kubectl's raw verbs."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

Json = dict[str, Any]
T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Api:
    """kubectl as an administrator in one namespace."""

    program: Path
    kubeconfig: Path
    namespace: str = "default"

    def __call__(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        """Standard output of kubectl; a failure carries what it said."""
        done = subprocess.run(
            [str(self.program), "--kubeconfig", str(self.kubeconfig), "-n", self.namespace, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            cwd=ROOT,
        )
        assert not check or done.returncode == 0, done.stderr
        return done.stdout

    def apply(self, *bodies: Json) -> None:
        """Create or change objects, strictly."""
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(bodies)})
        self("apply", "--server-side", "--validate=strict", "-f", "-", stdin=text)

    def get(self, kind: str, name: str) -> Json | None:
        """The object, or None."""
        text = self("get", kind, name, "--ignore-not-found", "-o", "json")
        found: Json | None = json.loads(text) if text.strip() else None
        return found

    def find(self, kind: str, selector: str = "") -> list[Json]:
        """Objects of one kind, by name."""
        items: list[Json] = json.loads(self("get", kind, "-l", selector, "-o", "json"))["items"]
        return sorted(items, key=lambda item: str(item["metadata"]["name"]))

    def names(self, kind: str) -> list[str]:
        """Their names."""
        return [str(item["metadata"]["name"]) for item in self.find(kind)]

    def patch_status(self, name: str, status: Json) -> None:
        """Set a pod's status, as a kubelet does; the pod may be gone by then."""
        patch = json.dumps({"status": status})
        self("patch", "pod", name, "--subresource=status", "--type=merge", "-p", patch, check=False)

    def status(self, name: str) -> Json:
        """Status of a TrainingRun, empty before there is one."""
        found: Json = (self.get("trun", name) or {}).get("status", {})
        return found


def wait_for(look: Callable[[], T | None], what: str, seconds: float = 40.0, pause: float = 0.2) -> T:
    """The first answer that is neither None nor empty, looked for every `pause` seconds."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(pause)
