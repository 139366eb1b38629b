"""What must never be seen of a run, whatever comes over it, noted while it happens."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from datetime import datetime
from typing import TYPE_CHECKING, Final

from footplate_contracts.v1alpha1.status import TimeStatus
from footplate_operator.runtime.kinds import POD, Json
from footplate_operator.trainingrun.status.wall_time import total

if TYPE_CHECKING:
    from tests.support.simulation.world import Simulation

SUPERSEDED: Final = 60.0  # seconds for a pod to be gone, once its kubelet answers
OUTCOMES: Final = {"Complete": "Succeeded", "Failed": "Failed", "Suspended": "Suspended"}  # and their phases
_TICK: Final = 1.0
_ROUNDED: Final = 1.0  # seconds: moments are told in whole ones


class Invariants:
    """Looks at every change of an object; `broken` says what was not as it must be."""

    def __init__(self, world: Simulation) -> None:
        self.broken: list[str] = []
        self._world = world
        self._before: dict[str, Json] = defaultdict(dict)  # the status, by uid of the run
        self._watched: set[str] = set()  # uids of superseded pods
        world.objects.watches.append(self._changed)

    def _changed(self, event: str, body: Json) -> None:
        if event == "DELETED":
            return
        if body["kind"] == "TrainingRun":
            before, after = self._before[body["metadata"]["uid"]], body.get("status", {})
            self._before[body["metadata"]["uid"]] = after
            if after:
                self._status_changed(body, before, after)
        elif body["kind"] == "Pod" and body["status"].get("phase") == "Running":
            for older in self._superseded_by(body):
                if older["metadata"]["uid"] not in self._watched:
                    self._watched.add(older["metadata"]["uid"])
                    self._expect_gone(older, 0.0)

    # -- the status ----------------------------------------------------------------------

    def _status_changed(self, run: Json, before: Json, after: Json) -> None:
        was, phase = before.get("phase", ""), after.get("phase", "")
        if was in ("Succeeded", "Failed") and phase != was:
            self._say(f"{phase} after {was}")
        for what, count in (("restarts", _restarts), ("failures", _failures)):
            if count(after) < count(before):
                self._say(f"{count(after)} {what} after {count(before)}")
        self._check_time(run, before, after)
        self._check_outcome(phase, after)
        if phase == "Suspended" and was == "Suspending":
            self._check_acknowledgement(run, after)

    def _check_time(self, run: Json, before: Json, after: Json) -> None:
        """The members of status.wallSeconds grow, and add up to the wall time."""
        spent, known = after.get("wallSeconds", {}), before.get("wallSeconds", {})
        shrunk = [name for name in known if spent.get(name, 0.0) < known[name]]
        if shrunk:
            self._say(
                f"status.wallSeconds.{shrunk[0]} went from {known[shrunk[0]]} to {spent.get(shrunk[0])}"
            )
        began = datetime.fromisoformat(run["metadata"]["creationTimestamp"])
        ended = after.get("completionTime")
        until = datetime.fromisoformat(ended) if ended else self._world.clock()
        passed, booked = (until - began).total_seconds(), total(TimeStatus.model_validate(spent))
        if booked > passed + _ROUNDED or (ended and booked < passed - _ROUNDED):
            self._say(f"status.wallSeconds adds up to {booked:.1f} s of {passed:.1f} s")

    def _check_outcome(self, phase: str, after: Json) -> None:
        """Complete, Failed and Suspended hold in their own phases; only Suspended is ever False."""
        said = {known["type"]: known["status"] for known in after.get("conditions", [])}
        for kind, its in OUTCOMES.items():
            if (said.get(kind) == "True") is not (phase == its):
                self._say(f"the condition {kind} is {said.get(kind)} in the phase {phase}")
        if said.get("Complete", "True") != "True" or said.get("Failed", "True") != "True":
            self._say(f"Complete or Failed is not True: {said}")

    def _check_acknowledgement(self, run: Json, after: Json) -> None:
        """A step that is said to be durable is, and none after it was trained."""
        message = str(after["attempts"][-1].get("message", "")) if after.get("attempts") else ""
        newest = self._world.volume(run["metadata"]["uid"]).newest
        durable = newest.step if newest else 0
        if message.startswith("step ") and " lost" not in message and durable < self._world.step:
            self._say(f"suspended with {message!r}, but {durable} is durable and {self._world.step} was done")

    # -- pods ----------------------------------------------------------------------------

    def _superseded_by(self, pod: Json) -> list[Json]:
        """Live pods of the same place of a run that are older."""
        place = _place(pod)
        if place is None:
            return []
        same = [other for other in self._world.objects.all(POD) if _place(other) == place]
        return [other for other in same if _incarnation(other) < _incarnation(pod)]

    def _expect_gone(self, pod: Json, waited: float) -> None:
        """Look every second, of which those count in which its kubelet and an operator could act."""
        world, name = self._world, pod["metadata"]["name"]
        known = world.objects.objects.get((POD, name))
        if known is None or known["metadata"]["uid"] != pod["metadata"]["uid"] or _ended(known):
            return
        if waited > SUPERSEDED:
            self._say(f"{name} was superseded {waited:.0f} s ago, and its kubelet answers")
            return
        node = known["spec"].get("nodeName", "")
        if world.nodes.answers(node) and any(
            replica.leads and not replica.frozen for replica in world.operators
        ):
            waited += _TICK
        asyncio.get_running_loop().call_later(_TICK, self._expect_gone, pod, waited)

    def _say(self, what: str) -> None:
        self.broken.append(f"at {asyncio.get_running_loop().time():.1f} s: {what}")


def _restarts(status: Json) -> int:
    return int(status.get("restarts", 0))


def _failures(status: Json) -> int:
    return sum(status.get("failures", {}).values())


def _place(pod: Json) -> tuple[str, str] | None:
    """Run and index of a worker; None of any other pod."""
    labels = pod["metadata"]["labels"]
    if labels.get("footplate.dev/role") != "worker":
        return None
    return labels["footplate.dev/run-uid"], labels["footplate.dev/index"]


def _incarnation(pod: Json) -> int:
    return int(pod["metadata"]["labels"]["footplate.dev/incarnation"])


def _ended(pod: Json) -> bool:
    return pod["status"].get("phase") in ("Succeeded", "Failed")
