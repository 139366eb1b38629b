"""How each fault of the matrix comes over a Simulation, by its name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from footplate_operator.errors import RequestForbidden
from footplate_operator.runtime.kinds import POD, Json
from tests.support.simulation.agent import Agent
from tests.support.simulation.coordinator import CoordinatorProcess
from tests.support.simulation.nodes import Node
from tests.support.simulation.room import GANG, cordon_without_room, leave_no_room, role_of
from tests.support.simulation.world import Simulation

PAUSE: Final = 30.0  # seconds that a process stands still
OUTAGE: Final = 20.0  # seconds without an API server
HOUR: Final = 3600.0
NO_QUOTA: Final = 30.0  # seconds in which a quota is exhausted
BREAKS: Final = 3.0  # seconds of training after which a broken GPU breaks again
BACK: Final = 200.0  # seconds after which a node that was lost is there again


def agents(world: Simulation) -> list[Agent]:
    """Live agents of workers and spares, by name of their pods."""
    found = [process for process in world.processes.values() if isinstance(process, Agent) and process.alive]
    return sorted(found, key=lambda agent: agent.name)


def _coordinators(world: Simulation) -> list[CoordinatorProcess]:
    return [p for p in world.processes.values() if isinstance(p, CoordinatorProcess) and p.alive]


def _later(seconds: float, act: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_later(seconds, act)


def _delete(world: Simulation, *names: str) -> None:
    for name in names:
        if (POD, name) in world.objects.objects:
            world.objects.end(POD, name, 30)


def _a_worker(world: Simulation) -> list[str]:
    return [world.chance.choice(names)] if (names := [agent.name for agent in agents(world)]) else []


def _worker_deleted(world: Simulation) -> None:
    _delete(world, *_a_worker(world))


def _first_deleted(world: Simulation) -> None:
    _delete(world, *[agent.name for agent in agents(world) if agent.identity.index == 0][:1])


def _two_deleted(world: Simulation) -> None:
    _delete(world, *[agent.name for agent in agents(world)][:2])


def _rank_killed(world: Simulation) -> None:
    for agent in _training(world)[:1]:
        agent.kill_ranks()


def _rank_stopped(world: Simulation) -> None:
    for agent in _training(world)[:1]:
        assert agent.ranks is not None
        agent.ranks.freeze()


def _training(world: Simulation) -> list[Agent]:
    found = [agent for agent in agents(world) if agent.ranks is not None and agent.ranks.alive]
    world.chance.shuffle(found)
    return found


def _agent_killed(world: Simulation) -> None:
    for name in _a_worker(world):
        world.nodes.end_container(name, 137)


def _agent_stopped(world: Simulation) -> None:
    for name in _a_worker(world):
        world.agent(name).freeze()


def _rank_out_of_memory(world: Simulation) -> None:
    for agent in _training(world)[:1]:
        agent.starve_ranks()


def _agent_out_of_memory(world: Simulation) -> None:
    for name in _a_worker(world):
        world.nodes.end_container(name, 137, "OOMKilled")


def _zygote_killed(world: Simulation) -> None:
    for name in _a_worker(world):
        world.agent(name).kill_zygote()


def _terminated(world: Simulation) -> None:
    for agent in agents(world):
        agent.terminate()


def _a_place(world: Simulation) -> str:
    places = sorted({agent.place for agent in agents(world)}) or sorted(world.nodes.by_name)
    return world.chance.choice(places)


def _node_off(world: Simulation) -> None:
    place = _a_place(world)
    world.power_off(place)
    _later(BACK, lambda: world.power_on(place))


def _two_nodes_off(world: Simulation) -> None:
    for place in sorted({agent.place for agent in agents(world)})[:2]:
        world.power_off(place)
        _later(BACK, lambda place=place: world.power_on(place))


def _node_cut_off(world: Simulation) -> None:
    world.network.cut_off(_a_place(world))
    _later(BACK, world.network.mend)


def _node_cut_off_from_another(world: Simulation) -> None:
    places = sorted({agent.place for agent in agents(world) if not agent.identity.is_spare})
    if len(places) > 1:
        world.network.cut(*world.chance.sample(places, 2))
        _later(BACK, world.network.mend)


def _kubelet_stopped(world: Simulation) -> None:
    node = world.nodes.by_name[_a_place(world)]
    node.kubelet = False
    world.network.changed()

    def again() -> None:
        node.kubelet = True
        world.network.changed()

    _later(BACK, again)


def _node_drained(world: Simulation) -> None:
    place = _a_place(world)
    world.nodes.objects.drain(place)
    _later(BACK, lambda: world.nodes.objects.uncordon(place))


def _node_cordoned(world: Simulation) -> None:
    place = _a_place(world)
    world.nodes.objects.cordon(place)
    _later(BACK, lambda: world.nodes.objects.uncordon(place))


def _gpu_broken_again(world: Simulation) -> None:
    """A GPU breaks a while after each start, no spare waits, and substitutes go there wherever they may."""
    for agent in _training(world)[:1]:
        node = world.nodes.by_name[agent.place]
        node.breaks_after = BREAKS
        node.slots += 1  # its substitute fits there before the pod has ended
        world.nodes.wishes[f"tiny-w{agent.identity.index}"] = node.name
        _delete(world, *(other.name for other in agents(world) if other.identity.is_spare))

        def mended(node: Node = node) -> None:
            node.breaks_after = None
            node.slots -= 1
            world.nodes.wishes.clear()

        _later(BACK, mended)


def _quota_refuses_half(world: Simulation) -> None:
    """Two pods go, and no more than two of a gang are admitted."""

    def admit(body: Json) -> Exception | None:
        full = role_of(body) in GANG and sum(role_of(pod) in GANG for pod in world.live_pods()) >= 2
        refusal = 'pods "tiny" is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=8'
        return RequestForbidden(refusal, 403) if full else None

    def raised() -> None:
        world.objects.admit = None

    world.objects.admit = admit
    _two_deleted(world)
    _later(NO_QUOTA, raised)


def _node_object_deleted(world: Simulation) -> None:
    place = _a_place(world)
    world.nodes.objects.delete(place)
    _later(BACK, lambda: world.nodes.objects.register(place))


def _node_clock_wrong(world: Simulation) -> None:
    """Every kubelet is off by an hour, and one of them tells of an end."""
    for node in world.nodes.by_name.values():
        node.clock = world.chance.choice((-HOUR, HOUR))
    _agent_killed(world)


def _coordinator_killed(world: Simulation) -> None:
    for process in _coordinators(world):
        if (POD, process.name) in world.objects.objects:
            world.nodes.end_container(process.name, 137)


def _coordinator_stopped(world: Simulation) -> None:
    for process in _coordinators(world):
        process.freeze()
        _later(PAUSE, process.thaw)


def _coordinator_cut_off(world: Simulation) -> None:
    for process in _coordinators(world):
        world.network.cut_off(process.place)
    _later(60.0, world.network.mend)


def _operator_killed(world: Simulation) -> None:
    world.restart_operator()


def _leader_stopped(world: Simulation) -> None:
    leaders = [replica for replica in world.operators if replica.leads]
    world.start_operator()
    for replica in leaders:
        replica.freeze()
        _later(PAUSE, replica.thaw)


def _rest_api_killed(world: Simulation) -> None:
    world.api_works = False

    def again() -> None:
        world.api_works = True

    _later(PAUSE, again)


def _api_server_restarted(world: Simulation) -> None:
    world.api.process.freeze()
    _later(3.0, world.api.process.thaw)


def _etcd_paused(world: Simulation) -> None:
    world.api.process.freeze()
    _later(OUTAGE, world.api.process.thaw)


def _watch_torn(world: Simulation) -> None:
    for replica in world.operators:
        if (watches := replica.watches) is not None:
            watches.tear()
            _later(10.0, watches.mend)


def _api_server_unwell(world: Simulation) -> None:
    world.api.errors, world.api.losses = 0.3, 0.2

    def well() -> None:
        world.api.errors = world.api.losses = 0.0

    _later(OUTAGE, well)


def _volume_hangs(world: Simulation) -> None:
    volume = world.volume(world.run["metadata"]["uid"])
    volume.hang()
    _later(OUTAGE, volume.mend)


def _volume_full(world: Simulation) -> None:
    volume = world.volume(world.run["metadata"]["uid"])
    volume.full = True
    _later(OUTAGE, volume.mend)


def _checkpoint_corrupt(world: Simulation) -> None:
    world.volume(world.run["metadata"]["uid"]).damage()
    _rank_killed(world)  # where ranks run: so that somebody reads it


def _loss_not_a_number(world: Simulation) -> None:
    for agent in _training(world)[:1]:
        agent.diverges = True


def _rank_slow(world: Simulation) -> None:
    for agent in _training(world)[:1]:
        agent.slowness = 2.0

        def recovers(agent: Agent = agent) -> None:
            agent.slowness = 1.0

        _later(OUTAGE, recovers)


def _image_gone(world: Simulation) -> None:
    """The pod goes, and whatever would take its place comes to where the image is no longer."""
    for name in _a_worker(world):
        place = world.node_of(name)
        world.nodes.by_name[place].broken = "manifest unknown"
        world.nodes.wishes[name.rpartition("-")[0]] = place
        _delete(world, name)

        def there_again(place: str = place) -> None:
            world.nodes.by_name[place].broken = ""
            world.nodes.wishes.clear()

        _later(BACK, there_again)


# They last for minutes, in which no random history ends.
LASTING: Final = frozenset(
    {"no room", "quota refuses half", "cordon without room elsewhere", "GPU broken again"}
)
INJECT: Final[Mapping[str, Callable[[Simulation], None]]] = {
    "worker deleted": _worker_deleted,
    "pod 0 deleted": _first_deleted,
    "two workers deleted": _two_deleted,
    "rank killed": _rank_killed,
    "rank stopped": _rank_stopped,
    "rank out of memory": _rank_out_of_memory,
    "slow rank": _rank_slow,
    "agent killed": _agent_killed,
    "agent stopped": _agent_stopped,
    "agent out of memory": _agent_out_of_memory,
    "zygote killed at import": _zygote_killed,
    "SIGTERM storm": _terminated,
    "node powered off": _node_off,
    "two nodes powered off": _two_nodes_off,
    "node cut off": _node_cut_off,
    "node cut off from one other": _node_cut_off_from_another,
    "kubelet stopped": _kubelet_stopped,
    "node drained": _node_drained,
    "node cordoned": _node_cordoned,
    "node object deleted": _node_object_deleted,
    "no room": leave_no_room,
    "cordon without room elsewhere": cordon_without_room,
    "GPU broken again": _gpu_broken_again,
    "quota refuses half": _quota_refuses_half,
    "node clock wrong": _node_clock_wrong,
    "coordinator killed": _coordinator_killed,
    "coordinator stopped": _coordinator_stopped,
    "coordinator cut off": _coordinator_cut_off,
    "operator killed": _operator_killed,
    "leader stopped": _leader_stopped,
    "REST API killed": _rest_api_killed,
    "API server restarted": _api_server_restarted,
    "etcd paused": _etcd_paused,
    "watch torn": _watch_torn,
    "API server unwell": _api_server_unwell,
    "image gone for the substitute": _image_gone,
    "volume hangs": _volume_hangs,
    "volume full": _volume_full,
    "newest checkpoint corrupt": _checkpoint_corrupt,
    "NaN loss": _loss_not_a_number,
}
