"""The container of a pod by which it is judged: the trainer's, or the coordinator's; pure.

Beside it there may be init containers and sidecars, of a profile's podTemplate or of a webhook. A pod whose
sidecar runs on never comes to an end by itself, and one whose sidecar failed is no failed worker.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from footplate_contracts.v1alpha1.podtemplate import TRAINER_CONTAINER
from footplate_operator.runtime.clock import parse_time

COORDINATOR_CONTAINER: Final = "coordinator"
DEADLINE: Final = "DeadlineExceeded"
_MAIN: Final = (TRAINER_CONTAINER, COORDINATOR_CONTAINER)
_ON_ITS_WAY: Final = ("", "PodInitializing", "ContainerCreating")
MESSAGE_TAIL: Final = 512  # characters: the end of a log says more than its beginning

Shown = Mapping[str, Any]


@dataclass(frozen=True)
class Containers:
    """The containers of one version of a Pod."""

    spec: Shown
    status: Shown

    @cached_property
    def main(self) -> Shown:
        """Its main container, as the spec has it."""
        known: list[Shown] = list(self.spec.get("containers", ()))
        return next((item for item in known if item.get("name") in _MAIN), known[0] if known else {})

    @cached_property
    def has_sidecars(self) -> bool:
        """Whether containers run beside the main one whose end is not the pod's."""
        return max(len(self.spec.get("containers", ())), len(self._shown)) > 1

    @cached_property
    def _prepared(self) -> list[Shown]:
        return list(self.status.get("initContainerStatuses") or ())

    @cached_property
    def _shown(self) -> list[Shown]:
        return list(self.status.get("containerStatuses") or ())

    @cached_property
    def _own(self) -> Shown:
        if not self.has_sidecars and len(self._shown) == 1:
            return self._shown[0]
        names = {self.main["name"]} if "name" in self.main else set(_MAIN)
        return next((shown for shown in self._shown if shown.get("name") in names), {})

    @property
    def any_shown(self) -> bool:
        """Whether a kubelet says anything of them."""
        return bool(self._prepared or self._shown)

    @property
    def started(self) -> bool:
        """Whether the main one has run."""
        return "running" in self._own.get("state", {}) or bool(_end(self._own).get("startedAt"))

    @property
    def waiting(self) -> Shown:
        """What the main one waits for: itself, or an init container or sidecar before it."""
        state = self._own.get("state", {})
        if "running" in state or "terminated" in state:
            return {}
        waits = [shown.get("state", {}).get("waiting") or {} for shown in (self._own, *self._prepared)]
        waits += [shown.get("state", {}).get("waiting") or {} for shown in self._shown]
        return next((wait for wait in waits if wait.get("reason", "") not in _ON_ITS_WAY), waits[0])

    @property
    def end(self) -> Shown:
        """How the main one ended, or the init container for whose failure it never began."""
        if own := _end(self._own):
            return own
        failed = ((shown, _end(shown)) for shown in self._prepared)
        for shown, end in failed:
            if end.get("exitCode"):
                said = f"init container {shown.get('name', '')}: {end.get('message', '')}"
                return {**end, "message": said}
        return {}

    @property
    def lived(self) -> float | None:
        """Seconds from its start to its end, both by its kubelet's clock; None without one."""
        started, finished = self.end.get("startedAt"), self.end.get("finishedAt")
        if not started or not finished:
            return None
        return max(0.0, (parse_time(finished) - parse_time(started)).total_seconds())

    @property
    def phase(self) -> str:
        """The phase of a pod that would have the main one alone."""
        said = str(self.status.get("phase", "Pending"))
        own = _end(self._own)
        if not self.has_sidecars or not own or self.status.get("reason", "") not in ("", DEADLINE):
            return said
        return "Failed" if own.get("exitCode") else "Succeeded"

    @property
    def reason(self) -> str:
        """Why the pod as a whole ended; not that sidecars were ended after the main one."""
        said = str(self.status.get("reason", ""))
        return "" if self._outlived and said == DEADLINE else said

    @property
    def message(self) -> str:
        """What Kubernetes says of the pod, which says most at its beginning, else a program's last lines."""
        told = self.status.get("message")
        if told and not (self._outlived and self.status.get("reason") == DEADLINE):
            return str(told).strip()[:1024]
        return str(self.end.get("message") or "").strip()[-MESSAGE_TAIL:]

    @property
    def _outlived(self) -> bool:
        return self.has_sidecars and bool(_end(self._own))

    @property
    def lingers(self) -> bool:
        """Whether sidecars run on though the main one has ended, and nobody ends them."""
        if not self._outlived or "activeDeadlineSeconds" in self.spec:
            return False
        return any("running" in shown.get("state", {}) for shown in self._shown)

    def is_ready(self, condition: Shown) -> bool:
        """Whether the main one is ready, by the pod's condition Ready; a sidecar that ended spoils that."""
        if condition.get("status") == "True":
            return True
        spoiled = self.has_sidecars and condition.get("reason") == "ContainersNotReady"
        return spoiled and bool(self._own.get("ready"))

    def variable(self, name: str) -> str:
        """What the main one is told by a variable of its environment."""
        for variable in self.main.get("env", ()):
            if variable["name"] == name:
                return str(variable.get("value", ""))
        return ""


def _end(shown: Shown) -> Shown:
    return shown.get("state", {}).get("terminated") or {}
