"""kubectl against the API server of these tests, and what it answers."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from footplate_contracts.names import API_VERSION

AS_OPERATOR = "--as=system:serviceaccount:footplate-system:footplate-operator"
ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Kubectl:
    """`kubectl` as an administrator, from the root of the repository."""

    program: Path
    kubeconfig: Path

    def run(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """The ended process, whatever its exit status."""
        command = [str(self.program), "--kubeconfig", str(self.kubeconfig), *arguments]
        return subprocess.run(command, cwd=ROOT, input=stdin, capture_output=True, text=True, check=False)

    def __call__(self, *arguments: str, stdin: str | None = None) -> str:
        """Standard output; fails the test where kubectl fails."""
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}:\n{done.stderr}"
        return done.stdout

    def tried(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """`manifest` as the API server would store it, with all defaults."""
        text = self("create", "--dry-run=server", "--output=json", "-f", "-", stdin=json.dumps(manifest))
        stored: dict[str, Any] = json.loads(text)
        return stored

    def refusal(self, manifest: dict[str, Any]) -> list[str]:
        """Why the API server refuses to create `manifest`; [] where it does not."""
        done = self.run("create", "--dry-run=server", "-f", "-", stdin=json.dumps(manifest))
        return complaints(done.stderr) if done.returncode else []

    def change_refusal(self, name: str, patch: dict[str, Any], *flags: str) -> list[str]:
        """Why the API server refuses the merge `patch` of the run `name`; [] where it does not."""
        done = self.run(
            *("patch", "trainingrun", name, "--type=merge", "--dry-run=server", *flags),
            *("--patch", json.dumps(patch)),
        )
        return complaints(done.stderr) if done.returncode else []

    def write_status(
        self, name: str, status: dict[str, Any], *flags: str
    ) -> subprocess.CompletedProcess[str]:
        """Server-side apply of the status of a run, as the operator does it; flags may say as whom."""
        manifest = {
            "apiVersion": API_VERSION,
            "kind": "TrainingRun",
            "metadata": {"name": name, "namespace": "default"},
            "status": status,
        }
        apply = ("apply", "--server-side", "--subresource=status", "-f", "-")
        return self.run(*apply, *flags, stdin=json.dumps(manifest))


def complaints(text: str) -> list[str]:
    """The single complaints in kubectl's standard error, sorted: their order is a matter of chance."""
    head, marker, tail = text.strip().partition(" is invalid: ")
    if not marker:
        return [head]
    return sorted(line.removeprefix("* ") for line in tail.splitlines() if line.strip())
