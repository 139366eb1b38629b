"""Faults that come over the whole cluster and all runs on it, by their names."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

from demo.install import NAMESPACE
from tests.support import processes
from tests.support.matrix import Phase
from tests.support.placement import node_of
from tests.support.runs import Json
from tests.system.faults.ground import Ground, cluster
from tests.system.faults.mending import OUTAGE, PAUSE, RESTART, Mending
from tests.system.faults.stand import BROUGHT, Stand, begin

DRAINED: Final = 120.0  # seconds: the deadline of a checkpoint in an emergency, by default, and a minute
NO_ROOM: Final = 90.0  # seconds without a free node
NO_QUOTA: Final = 30.0  # seconds in which a quota is exhausted
CORDONED: Final = 60.0  # seconds for which a node is cordoned where no other one has room
QUOTA: Final = "footplate-faults"
TRAINER: Final = "localhost/footplate/trainer:dev"


def _node_off(ground: Ground, stands: Sequence[Stand], mending: Mending) -> None:
    _power_off(ground, mending, ground.left)


def _two_nodes_off(ground: Ground, stands: Sequence[Stand], mending: Mending) -> None:
    _power_off(ground, mending, ground.left, ground.right)


def _power_off(ground: Ground, mending: Mending, *nodes: str) -> None:
    ground.room.everywhere()
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda node: cluster("kill-node", node), nodes))
    for node in nodes:
        mending.at_end(partial(cluster, "power-on", node))


def _node_cut_off(ground: Ground, stands: Sequence[Stand], mending: Mending) -> None:
    ground.room.everywhere()
    cluster("unplug", ground.left)
    mending.at_end(partial(cluster, "plug-in", ground.left))


def _kubelet_stopped(ground: Ground, stands: Sequence[Stand], mending: Mending) -> None:
    ground.room.everywhere()
    cluster("stop", f"{ground.left}-kubelet")
    mending.at_end(partial(cluster, "start", f"{ground.left}-kubelet"))


def _drained(ground: Ground, stands: Sequence[Stand], mending: Mending) -> None:
    """As an administrator does it: what runs there is asked to go, until nothing is left."""
    ground.room.everywhere()
    drain = ("drain", ground.left, "--force", "--ignore-daemonsets", "--delete-emptydir-data")
    mending.later(0.0, partial(ground.kube.kubectl, *drain, f"--timeout={DRAINED:.0f}s"))
    mending.at_end(partial(ground.kube.kubectl, "uncordon", ground.left))


def _node_deleted(ground: Ground, stands: Sequence[Stand], mending: Mending) -> None:
    """The object goes, and its kubelet registers again only when it starts again."""
    ground.room.everywhere()
    ground.kube.kubectl("delete", "node", ground.left)
    mending.at_end(partial(_begin_anew, f"{ground.left}-kubelet"))


def _begin_anew(program: str) -> None:
    cluster("stop", program)
    cluster("start", program)


def _parted(ground: Ground, stands: Sequence[Stand], mending: Mending) -> None:
    """A collective that has begun waits for packets that never come, and ends as a hang."""
    ground.room.everywhere()
    cluster("part", ground.left, ground.right)
    for stand in stands:
        stand.limit_hangs()
    mending.at_end(partial(cluster, "join", ground.left, ground.right))


def parts(ground: Ground, part: str) -> list[Json]:
    """The live pods of operator or API."""
    selector = f"app.kubernetes.io/component={part}"
    listed = ground.kube.get("pods", "-n", NAMESPACE, "-l", selector) or {"items": []}
    return [pod for pod in listed["items"] if pod["status"]["phase"] == "Running"]


def _operator_killed(ground: Ground, stands: Sequence[Stand], mending: Mending) -> None:
    for pod in parts(ground, "operator"):
        processes.send(processes.main(pod), signal.SIGKILL)


def _api_killed(ground: Ground, stands: Sequence[Stand], mending: Mending) -> None:
    for pod in parts(ground, "api"):
        processes.send(processes.main(pod), signal.SIGKILL)


def _leader_stopped(ground: Ground, stands: Sequence[Stand], mending: Mending) -> None:
    """The only replica, which leads, stands still as soon as a second one is ready."""
    leaders = parts(ground, "operator")
    deployment = ("deployment/footplate-operator", "-n", NAMESPACE)
    ground.kube.kubectl("scale", *deployment, "--replicas=2")
    ground.kube.kubectl("rollout", "status", *deployment, "--timeout=90s")
    found = [process for pod in leaders for process in processes.main(pod)]
    begin(stands)
    processes.send(found, signal.SIGSTOP)
    mending.later(PAUSE, lambda: processes.send(found, signal.SIGCONT))
    mending.at_end(lambda: ground.kube.kubectl("scale", *deployment, "--replicas=1"))


def _api_server_restarted(ground: Ground, stands: Sequence[Stand], mending: Mending) -> None:
    cluster("stop", "kube-apiserver")
    mending.later(RESTART, lambda: cluster("start", "kube-apiserver"))


def _etcd_paused(ground: Ground, stands: Sequence[Stand], mending: Mending) -> None:
    cluster("pause", "etcd")
    mending.later(OUTAGE, lambda: cluster("resume", "etcd"))


def _image_gone(ground: Ground, stands: Sequence[Stand], mending: Mending) -> None:
    """The pods on one node go, and what takes their places comes to where the image is no longer."""
    victims = {stand.name: stand.victim for stand in stands}
    cluster("hide-image", ground.left, TRAINER)
    mending.at_end(partial(cluster, "show-image", ground.left, TRAINER))
    ground.room.only(ground.left)
    names = [pod["metadata"]["name"] for pod in victims.values()]
    begin(stands)
    ground.kube.kubectl("delete", "pod", *names, "-n", ground.namespace, "--wait=false")

    def substitutes(stand: Stand) -> list[Json]:
        uid = victims[stand.name]["metadata"]["uid"]
        there = [pod for pod in ground.pods(stand.name) if node_of(pod) == ground.left]
        return [pod for pod in there if pod["metadata"]["uid"] != uid]

    def substituted() -> bool:  # a run that is suspended gets none
        return all(substitutes(stand) for stand in stands if stand.phase is not Phase.SUSPENDING)

    processes.wait_for(substituted, BROUGHT, 0.2)
    ground.room.everywhere()


def _no_room(ground: Ground, stands: Sequence[Stand], mending: Mending) -> None:
    """A node loses its power, and no other one has room until it is there again."""
    ground.room.only(ground.left)
    begin(stands)
    cluster("kill-node", ground.left)
    mending.later(NO_ROOM, partial(cluster, "power-on", ground.left))


def _cordoned_without_room(ground: Ground, stands: Sequence[Stand], mending: Mending) -> None:
    """A node is cordoned, and no other one has room for what would take the place of its workers."""
    ground.room.only()
    begin(stands)
    ground.kube.kubectl("cordon", ground.left)
    mending.later(CORDONED, partial(_room_again, ground))
    training = [stand for stand in stands if stand.run_phase in ("Running", "Checkpointing")]
    processes.wait_for(lambda: all(_awaits_room(stand) for stand in training), BROUGHT, 0.2)


def _awaits_room(stand: Stand) -> bool:
    """Return whether the run has a spare without a node, which its cordoned worker waits for."""
    return any(not node_of(pod) for pod in stand.ground.runs.pods(stand.name, "spare"))


def _room_again(ground: Ground) -> None:
    ground.kube.kubectl("uncordon", ground.left)
    ground.room.only(ground.left, ground.right)


def _quota_refuses_half(ground: Ground, stands: Sequence[Stand], mending: Mending) -> None:
    """A worker of each run goes, and a quota refuses its substitute, or the second worker of a new gang."""
    victims = [stand.victim["metadata"]["name"] for stand in stands if stand.phase is not Phase.QUEUED]
    listed = (ground.kube.get("pods", "-n", ground.namespace) or {"items": []})["items"]
    there = sum(pod["status"]["phase"] in ("Pending", "Running") for pod in listed)
    new = 2 * (len(stands) - len(victims))  # a coordinator and one worker of each gang that begins
    quota = ("quota", QUOTA, "-n", ground.namespace)
    ground.kube.kubectl("create", *quota, f"--hard=pods={there - len(victims) + new}")
    mending.later(NO_QUOTA, partial(ground.kube.kubectl, "delete", *quota))
    begin(stands)
    if victims:
        ground.kube.kubectl("delete", "pod", *victims, "-n", ground.namespace, "--wait=false")


CLUSTER: Final[
    Mapping[str, Callable[[Ground, Sequence[Stand], Mending], None]]
] = {  # come once, over all that is there
    "node powered off": _node_off,
    "two nodes powered off": _two_nodes_off,
    "node cut off": _node_cut_off,
    "kubelet stopped": _kubelet_stopped,
    "node drained": _drained,
    "node object deleted": _node_deleted,
    "node cut off from one other": _parted,
    "operator killed": _operator_killed,
    "leader stopped": _leader_stopped,
    "REST API killed": _api_killed,
    "API server restarted": _api_server_restarted,
    "etcd paused": _etcd_paused,
    "image gone for the substitute": _image_gone,
    "no room": _no_room,
    "cordon without room elsewhere": _cordoned_without_room,
    "quota refuses half": _quota_refuses_half,
}
