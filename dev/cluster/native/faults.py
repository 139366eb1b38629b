"""Faults of nodes and components, for tests of what survives them: `up` mends all of them.

unplug     the node's cable is out: everything on it runs on, and nobody hears of it
part       two nodes do not reach each other's pods, and reach everybody else's
cut-pod    a pod runs on, and nobody hears of it
kill       the node loses its power: kubelet, containerd and every container are gone at once
stop       a component ends, such as kube-apiserver or node-3-kubelet
pause      a component stands still, and its sockets stay open

Each has a verb that mends it alone, as several may be there at once.
"""

from __future__ import annotations

import os
import signal

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


# -- cables ------------------------------------------------------------------------------


def unplug(node: Node) -> None:
    shell.run(["ip", "link", "set", node.link, "down"])
    say(f"{node.name} is unplugged; `plug-in` mends it")


def plug_in(node: Node) -> None:
    """Undoes ``unplug``."""
    network.plug_in(node)
    say(f"{node.name} is plugged in")


def part(node: Node, other: Node) -> None:
    """No packet goes between the pods of the two nodes, nor between one's pods and the other itself."""
    if node == other:
        raise ClusterError(f"{node.name} cannot be cut off from itself")
    for address in (other.pods, other.address):
        network.drop(node, address)
    say(f"{node.name} and {other.name} do not reach each other; `join` mends it")


def join(node: Node, other: Node) -> None:
    """Undoes ``part``, whichever of the two was named first."""
    for here, there in ((node, other), (other, node)):
        for address in (there.pods, there.address):
            network.pass_again(here, address)
    say(f"{node.name} and {other.name} reach each other")


def cut_pod(node: Node, address: str) -> None:
    """No packet comes or goes for the pod of this address, which stands on ``node``."""
    network.drop(node, address)
    say(f"{address} is cut off; `mend-pod` mends it")


def mend_pod(node: Node, address: str) -> None:
    """Undoes ``cut_pod``."""
    network.pass_again(node, address)
    say(f"{address} is reached again")


# -- processes ---------------------------------------------------------------------------


def kill(node: Node) -> None:
    count = cgroups.kill_group(node.name)
    say(f"{node.name} lost {count} processes; `power-on` starts it again")


def stop(layout: Layout, component: str) -> None:
    _running(layout, component)
    Supervisor(layout).end(component)
    say(f"{component} has ended; `start` starts it again")


def pause(layout: Layout, component: str) -> None:
    """The component's process stands still, and whoever talks to it gets no answer."""
    os.kill(_running(layout, component), signal.SIGSTOP)
    say(f"{component} stands still; `resume` lets it go on")


def resume(layout: Layout, component: str) -> None:
    """Undoes ``pause``."""
    os.kill(_running(layout, component), signal.SIGCONT)
    say(f"{component} goes on")


def _running(layout: Layout, component: str) -> int:
    """The pid of a component; ClusterError, which names those that run, where it does not."""
    supervisor = Supervisor(layout)
    pid = supervisor.pid(component)
    if pid is None:
        running = ", ".join(name for name in supervisor.names() if supervisor.running(name))
        raise ClusterError(f"no {component} runs; there run {running or 'no components at all'}")
    return pid


def mend_all(layout: Layout) -> None:
    """Undoes all that needs no program to be started."""
    for node in NODES:
        if network.is_unplugged(node):
            network.plug_in(node)
        network.pass_all(node)
    supervisor = Supervisor(layout)
    for name in supervisor.names():
        if (pid := supervisor.pid(name)) is not None:
            os.kill(pid, signal.SIGCONT)
