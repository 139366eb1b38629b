"""Main container of a pod, the trainer's or the coordinator's, whose state decides the pod's; pure.

A profile's podTemplate or a webhook may add init containers and sidecars. A pod whose sidecar keeps running
never ends by itself, and a pod whose sidecar failed is no failed worker.
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
class PodContainers:
    """Containers of one version of a Pod."""

    spec: Shown
    status: Shown

    @cached_property
    def main(self) -> Shown:
        """Main container in the spec."""
        known: list[Shown] = list(self.spec.get("containers", ()))
        return next((item for item in known if item.get("name") in _MAIN), known[0] if known else {})

    @property
    def has_sidecars(self) -> bool:
        """True if containers run beside the main one."""
        return max(len(self.spec.get("containers", ())), len(self._shown)) > 1

    @cached_property
    def _prepared(self) -> list[Shown]:
        return list(self.status.get("initContainerStatuses") or ())

    @cached_property
    def _shown(self) -> list[Shown]:
        return list(self.status.get("containerStatuses") or ())

    @cached_property
    def _own(self) -> Shown:
        names = (self.main["name"],) if "name" in self.main else _MAIN
        return next((shown for shown in self._shown if shown.get("name", names[0]) in names), {})

    @property
    def any_shown(self) -> bool:
        """True if a kubelet has reported a status for any container."""
        return bool(self._prepared or self._shown)

    @property
    def started(self) -> bool:
        """True if the main container has run."""
        return "running" in self._own.get("state", {}) or bool(_end(self._own).get("startedAt"))

    @property
    def waiting(self) -> Shown:
        """Waiting state of the main container, or of an init container or sidecar that it waits for."""
        if self._own.get("state", {}).keys() & {"running", "terminated"}:
            return {}
        shown = (self._own, *self._prepared, *self._shown)
        waits: list[Shown] = [item.get("state", {}).get("waiting") or {} for item in shown]
        return next((wait for wait in waits if wait.get("reason", "") not in _ON_ITS_WAY), waits[0])

    @property
    def end(self) -> Shown:
        """Terminated state of the main container, or of the init container whose failure kept it away."""
        failed = next((shown for shown in self._prepared if _end(shown).get("exitCode")), {})
        if (own := _end(self._own)) or not failed:
            return own
        end = _end(failed)
        return {**end, "message": f"init container {failed.get('name', '')}: {end.get('message', '')}"}

    @property
    def run_seconds(self) -> float | None:
        """Seconds from its start to its end, both by its kubelet's clock; None without both times."""
        started, finished = self.end.get("startedAt"), self.end.get("finishedAt")
        if not started or not finished:
            return None
        return max(0.0, (parse_time(finished) - parse_time(started)).total_seconds())

    @property
    def phase(self) -> str:
        """Phase that the pod would have if it had the main container alone."""
        if not self._outlived or self.reason:
            return str(self.status.get("phase", "Pending"))
        return "Failed" if _end(self._own).get("exitCode") else "Succeeded"

    @property
    def reason(self) -> str:
        """Reason of the pod's end; empty if only sidecars hit the deadline, after the main one's end."""
        return "" if self._overran else str(self.status.get("reason", ""))

    @property
    def message(self) -> str:
        """Beginning of the pod's status message, else the end of its container's message."""
        if (told := self.status.get("message")) and not self._overran:
            return str(told).strip()[:1024]
        return str(self.end.get("message") or "").strip()[-MESSAGE_TAIL:]

    @property
    def _outlived(self) -> bool:
        return self.has_sidecars and bool(_end(self._own))

    @property
    def _overran(self) -> bool:
        return self._outlived and self.status.get("reason") == DEADLINE

    @property
    def has_running_sidecars(self) -> bool:
        """True if sidecars run on after the main container's end, and no deadline ends them."""
        if not self._outlived or "activeDeadlineSeconds" in self.spec:
            return False
        return any("running" in shown.get("state", {}) for shown in self._shown)

    def is_ready(self, condition: Shown) -> bool:
        """Return whether the main container is ready: an ended sidecar makes the pod's Ready false."""
        if condition.get("status") == "True":
            return True
        spoiled = self.has_sidecars and condition.get("reason") == "ContainersNotReady"
        return spoiled and bool(self._own.get("ready"))

    def variable(self, name: str) -> str:
        """Return a variable of the main container's environment; empty if it has none of that name."""
        env = self.main.get("env", ())
        return next((str(item.get("value", "")) for item in env if item["name"] == name), "")


def _end(shown: Shown) -> Shown:
    return shown.get("state", {}).get("terminated") or {}
