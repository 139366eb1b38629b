"""kubectl and helm as the demo's user would type them.

The demo proves that the ordinary tools are enough, so whatever it asks of a cluster it asks by them,
and by no client library. A command that fails ends the demo with what the tool said.
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


class DemoError(Exception):
    """Something that the demo cannot go on without; the text is shown as it is."""


@dataclass(frozen=True)
class Kube:
    """The tools, bound to one cluster through the environment."""

    environment: dict[str, str]

    @classmethod
    def of_cluster_tool(cls) -> Kube:
        """Reads what `make cluster-env` prints."""
        lines = run("python3", "dev/cluster", "env").splitlines()
        exports = dict(
            line.removeprefix("export ").split("=", 1) for line in lines if line.startswith("export ")
        )
        environment = os.environ | {
            key: os.path.expandvars(value.strip("'\"")) for key, value in exports.items()
        }
        return cls(environment)

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Standard output of kubectl; DemoError with its standard error."""
        return run("kubectl", *arguments, environment=self.environment, stdin=stdin)

    def helm(self, *arguments: str) -> str:
        """Standard output of helm; DemoError with its standard error."""
        return run("helm", *arguments, environment=self.environment)

    def get(self, *arguments: str) -> dict[str, Any] | None:
        """One object or list as JSON; None if it does not exist."""
        text = self.kubectl("get", *arguments, "--ignore-not-found", "--output", "json")
        found: dict[str, Any] | None = json.loads(text) if text.strip() else None
        return found


def run(*command: str, environment: dict[str, str] | None = None, stdin: str | None = None) -> str:
    """Runs a command to its end and returns its standard output."""
    done = subprocess.run(
        command, cwd=ROOT, env=environment, input=stdin, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise DemoError(f"{' '.join(command[:6])} failed:\n{done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def show(*command: str) -> None:
    """Runs a command whose own progress the user should see."""
    if subprocess.run(command, cwd=ROOT, check=False).returncode != 0:
        raise DemoError(f"{' '.join(command)} failed; see its output above")
