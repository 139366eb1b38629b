"""The API server of these tests: kubectl for what a user does, one connection for the rows of the tables."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from cluster.machine.processes import BRIEF_GO
from footplate_contracts.names import API_VERSION
from footplate_operator.profiles import PROFILE
from footplate_operator.runtime.kinds import kind_of
from footplate_operator.tariff.tariffs import PRICE_ENTRY
from footplate_operator.trainingrun.run import TRAINING_RUN
from tests.support.connection import Json, ask, refused

DRY_RUN = "?dryRun=All&fieldValidation=Strict"
AS_OPERATOR = "--as=system:serviceaccount:footplate-system:footplate-operator"
# Its role lets it create and delete: what it will change one day needs more.
AS_API = ("--as=system:serviceaccount:footplate-system:footplate-api", "--as-group=system:masters")
ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Kubectl:
    """`kubectl` as an administrator, from the root of the repository."""

    program: Path
    kubeconfig: Path

    def run(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """The ended process, whatever its exit status."""
        command = [str(self.program), "--kubeconfig", str(self.kubeconfig), *arguments]
        return subprocess.run(
            command,
            cwd=ROOT,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **BRIEF_GO},
        )

    def __call__(self, *arguments: str, stdin: str | None = None) -> str:
        """Standard output; fails the test where kubectl fails."""
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}:\n{done.stderr}"
        return done.stdout

    def tried(self, manifest: Json) -> Json:
        """`manifest` as the API server would store it, with all defaults."""
        status, answer = self._try(manifest)
        assert not refused(status), answer["message"]
        return answer

    def refusal(self, manifest: Json, *who: str) -> list[str]:
        """Why the API server refuses that `who`, as flags, creates `manifest`; [] where it does not."""
        status, answer = self._try(manifest, *who)
        return complaints(answer) if refused(status) else []

    def change_refusal(self, name: str, patch: Json) -> list[str]:
        """Why the API server refuses the merge `patch` of the run `name`; [] where it does not."""
        path = TRAINING_RUN.path("default", name)
        status, answer = ask(self.kubeconfig, "PATCH", path + DRY_RUN, patch)
        return complaints(answer) if refused(status) else []

    def write_status(self, name: str, status: Json, *flags: str) -> subprocess.CompletedProcess[str]:
        """Server-side apply of the status of a run, as the operator does it; flags may say as whom."""
        manifest = {
            "apiVersion": API_VERSION,
            "kind": "TrainingRun",
            "metadata": {"name": name, "namespace": "default"},
            "status": status,
        }
        apply = ("apply", "--server-side", "--subresource=status", "-f", "-")
        return self.run(*apply, *flags, stdin=json.dumps(manifest))

    def _try(self, manifest: Json, *who: str) -> tuple[int, Json]:
        """The answer to the creation of `manifest`, which leaves nothing behind."""
        path = kind_of(manifest, (TRAINING_RUN, PROFILE, PRICE_ENTRY)).path("default")
        return ask(self.kubeconfig, "POST", path + DRY_RUN, manifest, who)


def complaints(refusal: Json) -> list[str]:
    """The complaints of a refusal, as kubectl lists them; sorted, as their order is a matter of chance."""
    causes = refusal.get("details", {}).get("causes", [])
    if not causes:
        return [refusal["message"]]
    return sorted(f"{cause.get('field', '')}: {cause['message']}" for cause in causes)
