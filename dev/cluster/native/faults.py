"""Faults of nodes and components, for tests of what survives them: `up` mends all of them.

unplug   the node's cable is out: everything on it runs on, and nobody hears of it
kill     the node loses its power: kubelet, containerd and every container are gone at once
stop     a component of the control plane ends, such as kube-apiserver
"""

from __future__ import annotations

from cluster.errors import ClusterError
from cluster.machine import cgroups, shell
from cluster.machine.processes import Supervisor
from cluster.machine.progress import say
from cluster.native import network
from cluster.native.network import NODES, Node
from cluster.paths import Layout


def find(name: str) -> Node:
    for node in NODES:
        if node.name == name:
            return node
    raise ClusterError(f"there is no node {name}; there are {', '.join(node.name for node in NODES)}")


def unplug(node: Node) -> None:
    shell.run(["ip", "link", "set", node.link, "down"])
    say(f"{node.name} is unplugged; `up` plugs it in again")


def kill(node: Node) -> None:
    count = cgroups.kill_group(node.name)
    say(f"{node.name} lost {count} processes; `up` starts it again")


def stop(layout: Layout, component: str) -> None:
    supervisor = Supervisor(layout)
    if not supervisor.running(component):
        running = ", ".join(name for name in supervisor.names() if supervisor.running(name))
        raise ClusterError(f"no {component} runs; there run {running or 'no components at all'}")
    supervisor.end(component)
    say(f"{component} has ended; `up` starts it again")


def plug_in_all() -> None:
    """Undoes ``unplug``."""
    for node in NODES:
        if network.is_unplugged(node):
            network.plug_in(node)
