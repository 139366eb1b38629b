"""What must never be seen of a run, whatever comes over it, noted while it happens."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from footplate_contracts.v1alpha1.status import TimeStatus
from footplate_contracts.v1alpha1.usagerecord import PodUsage, UsageRecordSpec
from footplate_ledger.conversion import parse_time
from footplate_operator.runtime.kinds import POD, Json
from footplate_operator.trainingrun.coordinator_client import POLL_SECONDS
from footplate_operator.trainingrun.status.wall_time import total
from footplate_operator.usage.writes import USAGE_RECORD
from tests.support.simulation.coordinator import CoordinatorProcess
from tests.support.simulation.network import CONTROL_PLANE

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


# -- what the status has to tell within seconds ----------------------------------------------------


WITHIN: Final = 5.0  # seconds
_LOOK: Final = 0.25
_TRAINS: Final = ("Running", "Checkpointing")
Evidence = tuple[str, Hashable]
_SILENT: Final[Evidence] = ("silent", "")


class Witness:
    """Looks four times a second until it is dismissed; `late` says what was not told in time."""

    def __init__(self, world: Simulation) -> None:
        self.late: dict[Evidence, str] = {}
        self._world = world
        self._stood: dict[Evidence, float] = {}
        self._task = asyncio.ensure_future(self._watch())

    def dismiss(self) -> None:
        """Look no more."""
        self._task.cancel()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_LOOK)
            standing = dict(self._standing()) if self._sees() else {}
            if not self._sees():
                continue
            self._stood = {what: self._stood.get(what, _not_before(what)) + _LOOK for what in standing}
            for what, seconds in self._stood.items():
                if seconds > WITHIN + _LOOK and what not in self.late:
                    self.late[what] = (
                        f"{standing[what]}, and the status said nothing: {self._world.describe()}"
                    )

    def _sees(self) -> bool:
        """Whether an operator leads, and the API server answers it."""
        world = self._world
        api = world.api
        if api.process.frozen or not api.process.alive or api.errors or api.losses:
            return False
        return any(
            replica.leads
            and replica.alive
            and not replica.frozen
            and replica.watches is not None
            and not replica.watches.torn
            and world.network.reaches(replica.place, CONTROL_PLANE)
            for replica in world.operators
        )

    def _standing(self) -> Iterator[tuple[Evidence, str]]:
        """Evidence of which the status says nothing now."""
        world = self._world
        coordinator = self._heard()
        said = world.phase not in _TRAINS or world.condition("Ready").get("reason") == "Degraded"
        if world.phase in ("Succeeded", "Failed"):
            return
        if coordinator is None:
            if not said:
                yield _SILENT, "the coordinator did not answer"
            return
        state = coordinator.service.coordinator.view()
        listed = world.status.get("internal", {}).get("failuresSeen", "") or "0.0"
        counted = tuple(int(part) for part in listed.split("."))
        for failure in state.failures:
            if (state.epoch, failure.number) > counted:
                key = ("failure", (state.epoch, failure.number))
                yield key, f"{failure.failure.cause} {failure.failure.message!r} was listed"
        if said or state.generation is None:
            return
        members = {member.agent.pod_name: member.agent for member in state.members}
        for missed in state.missed:
            if missed.agent.pod_name in members:
                yield ("missed", missed.agent.pod_name), f"{missed.agent.pod_name} was missed"
        for name in members:
            pod = world.objects.objects.get((POD, name))
            if pod is None:
                yield ("gone", name), f"{name} was gone"
            elif "deletionTimestamp" in pod["metadata"] or pod["status"].get("phase") == "Failed":
                yield ("leaving", name), f"{name} was on its way out"

    def _heard(self) -> CoordinatorProcess | None:
        """The coordinator that an operator can ask."""
        world = self._world
        found = [
            process
            for process in world.processes.values()
            if isinstance(process, CoordinatorProcess)
            and process.alive
            and not process.frozen
            and process.listens
            and process.run_uid == world.run["metadata"]["uid"]
            and any(world.network.reaches(replica.place, process.place) for replica in world.operators)
        ]
        return max(found, key=lambda process: process.service.coordinator.state.epoch, default=None)


def _not_before(what: Evidence) -> float:
    """From when on something is evidence, seconds below zero: a poll is answered after some."""
    return -POLL_SECONDS if what == _SILENT else 0.0


# -- what pods used, beside what was recorded ------------------------------------------------------


LATE: Final = 120.0  # seconds for which a watch may tell nothing


@dataclass
class Truth:
    """Of one pod that was bound; seconds since 1970."""

    name: str
    node: str
    start: int
    finished: int | None = None
    gone: float | None = None


class UsageTruth:
    """Follows every pod."""

    def __init__(self, world: Simulation) -> None:
        self.pods: dict[str, Truth] = {}  # by uid
        self._world = world
        world.objects.watches.append(self._changed)

    def _changed(self, event: str, body: Json) -> None:
        if body["kind"] != "Pod" or not body["spec"].get("nodeName"):
            return
        uid, conditions = body["metadata"]["uid"], body["status"]["conditions"]
        bound = next(known for known in conditions if known["type"] == "PodScheduled")
        start = parse_time(bound["lastTransitionTime"])
        truth = self.pods.setdefault(uid, Truth(body["metadata"]["name"], body["spec"]["nodeName"], start))
        for shown in body["status"].get("containerStatuses", ()):
            if ended := shown["state"].get("terminated"):
                truth.finished = max(parse_time(ended["finishedAt"]), start)
        if event == "DELETED":
            truth.gone = self._world.seconds()

    def recorded(self) -> dict[str, PodUsage]:
        """What stands in the cluster, by uid of the pod."""
        specs = [UsageRecordSpec.from_json(body["spec"]) for body in self._world.objects.all(USAGE_RECORD)]
        found = [entry for spec in specs for entry in spec.pods.items()]
        assert len(found) == len(dict(found)), "a pod is in two records"
        return dict(found)

    def settled(self) -> bool:
        """Whether everything that is gone is recorded to its end."""
        recorded = self.recorded()
        return all(
            recorded[uid].end is not None if uid in recorded else not self._was_seen(uid)
            for uid, truth in self.pods.items()
            if truth.gone is not None
        )

    def check(self) -> None:
        """That what is recorded is what was so, or says that it is an estimate."""
        assert not (wrong := list(self._wrong())), wrong

    def _wrong(self) -> Iterator[str]:
        recorded = self.recorded()
        yield from (f"{uid} was never bound" for uid in recorded.keys() - self.pods.keys())
        for uid, truth in self.pods.items():
            entry = recorded.get(uid)
            if entry is None:
                if self._was_seen(uid):
                    yield f"{truth.name} is not recorded"
                continue
            if parse_time(entry.start) != truth.start:
                yield f"{truth.name} began at {truth.start}, not {parse_time(entry.start)}"
            if entry.end is None:
                if truth.gone is not None:
                    yield f"{truth.name} has ended"
            elif not entry.estimated and parse_time(entry.end) != truth.finished:
                yield f"{truth.name} ended at {truth.finished}, not {parse_time(entry.end)}"
            elif entry.estimated and truth.gone is not None and parse_time(entry.end) > truth.gone + LATE:
                yield f"{truth.name} was gone at {truth.gone}, not {parse_time(entry.end)}"

    def _was_seen(self, uid: str) -> bool:
        """Whether a pod was shown on its node to somebody who still leads: of others nothing can be known."""
        leaders = [replica for replica in self._world.operators if replica.leads]
        return any(replica.watches is not None and uid in replica.watches.bound for replica in leaders)
