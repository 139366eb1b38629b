"""Whether the status tells of what coordinator and API server know, within seconds.

Evidence is what they say themselves: a failure that the coordinator lists, a member of the generation
that it misses, a member's pod that has ended or is on its way out, and a coordinator that should have
answered by now and has not. How long each has stood is counted in seconds in which an operator led,
and could ask whoever said it. Of a run that trains, the status has to say so in that time: its phase,
what it counts, or a condition.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Iterator
from typing import TYPE_CHECKING, Final

from footplate_operator.runtime.kinds import POD
from footplate_operator.trainingrun.coordinator_client import POLL_SECONDS
from tests.support.simulation.coordinator import CoordinatorProcess
from tests.support.simulation.network import CONTROL_PLANE

if TYPE_CHECKING:
    from tests.support.simulation.world import Simulation

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
        listed = world.status.get("failuresSeen", "") or "0.0"
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
