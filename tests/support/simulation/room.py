"""Faults after which pods of a gang find no room for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Set
from typing import Final

from footplate_contracts.names import ROLE_LABEL, Role
from footplate_operator.runtime.kinds import POD, Json
from tests.support.simulation.world import Simulation

GANG: Final = (Role.WORKER, Role.SPARE)
NO_ROOM: Final = 90.0  # seconds without a free node: longer than a gang that has not trained holds others
CORDONED: Final = 60.0  # seconds for which nodes are cordoned where no other one has room


def leave_no_room(world: Simulation) -> None:
    """Power the nodes of two pods off, and take the room of all others until those are there again."""
    gang = _list_places(world, *GANG)
    for place in gang[:2]:
        world.power_off(place)
        asyncio.get_running_loop().call_later(NO_ROOM, world.power_on, place)
    _close(world, world.nodes.by_name.keys() - set(gang), NO_ROOM)


def cordon_without_room(world: Simulation) -> None:
    """Cordon the nodes of a worker and of all spares, and take the room of all others meanwhile."""
    workers, spares = _list_places(world, Role.WORKER), _list_places(world, Role.SPARE)
    cordoned = [*([world.chance.choice(workers)] if workers else []), *spares]
    _close(world, world.nodes.by_name.keys() - {*workers, *spares}, CORDONED)
    world.nodes.objects.cordon(*cordoned)
    asyncio.get_running_loop().call_later(CORDONED, lambda: world.nodes.objects.uncordon(*cordoned))


def role_of(body: Json) -> str:
    """The role of a pod in its run; empty for all else."""
    return str(body["metadata"].get("labels", {}).get(ROLE_LABEL, "")) if body["kind"] == POD.name else ""


def _list_places(world: Simulation, *roles: Role) -> list[str]:
    """Return the nodes of live pods of these roles."""
    found = {pod["spec"].get("nodeName", "") for pod in world.live_pods() if role_of(pod) in roles}
    return sorted(found - {""})


def _close(world: Simulation, names: Set[str], seconds: float) -> None:
    """Take nodes away for so many seconds; a coordinator keeps its node, where no worker fits any more."""
    later = asyncio.get_running_loop().call_later
    kept = _list_places(world, Role.COORDINATOR)
    for name in sorted(names):
        node = world.nodes.by_name[name]
        if name in kept:
            later(seconds, setattr, node, "slots", node.slots)
            node.slots = 0
        else:
            world.nodes.objects.delete(name)
            later(seconds, world.nodes.objects.register, name)
