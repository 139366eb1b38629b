"""Three nodes on one machine need three networks: a namespace each, and a bridge between them.

    machine   footplate0 10.88.0.1/24          API server, CoreDNS
      ├── veth ── footplate-node-1  10.88.0.11     pods 10.244.1.0/24
      ├── veth ── footplate-node-2  10.88.0.12     pods 10.244.2.0/24
      └── veth ── footplate-node-3  10.88.0.13     pods 10.244.3.0/24

Everything stays inside the machine: no address is translated and nothing is forwarded outside.
The machine itself reaches pods directly and services through the first node's kube-proxy, so a
developer can `curl` either.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cluster.errors import ClusterError
from cluster.machine import shell

BRIDGE = "footplate0"
GATEWAY = "10.88.0.1"
POD_NETWORK = "10.244.0.0/16"
SERVICE_NETWORK = "10.96.0.0/16"
DNS_ADDRESS = "10.96.0.10"
PREFIX = "footplate-"
IFF_UP = 1  # of linux/if.h
_DROPPED = "88"  # the priority of our routing rules in a node: asked after the node's own addresses
_BRIDGE_FILTER = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
# Inserted only where the machine filters bridged packets; found again by its comment.
_FORWARD_RULE = (
    *("FORWARD", "-i", BRIDGE, "-o", BRIDGE),
    *("-m", "comment", "--comment", "footplate", "-j", "ACCEPT"),
)


@dataclass(frozen=True)
class Node:
    """The addresses of one node, all of which follow from its number."""

    number: int

    @property
    def name(self) -> str:
        return f"node-{self.number}"

    @property
    def namespace(self) -> str:
        return f"{PREFIX}{self.name}"

    @property
    def capacity(self) -> str:
        """How it was bought, so that nodes have two prices; no node of these is ever taken back."""
        return "spot" if self.number == len(NODES) else "on-demand"

    @property
    def link(self) -> str:
        """The machine's end of the node's cable: `ip link set footplate-v1 down` unplugs it."""
        return f"footplate-v{self.number}"

    @property
    def address(self) -> str:
        return f"10.88.0.{10 + self.number}"

    @property
    def pods(self) -> str:
        return f"10.244.{self.number}.0/24"


NODES = (Node(1), Node(2), Node(3))


def bridge_commands() -> list[str]:
    """What ``ip -batch`` reads to make the bridge."""
    return [
        f"link add {BRIDGE} type bridge forward_delay 0",
        f"address add {GATEWAY}/24 dev {BRIDGE}",
        f"link set {BRIDGE} up",
    ]


def cable_commands(node: Node) -> list[str]:
    """What ``ip -batch`` reads, on the machine, to connect one node."""
    return [
        f"link add {node.link} type veth peer name eth0 netns {node.namespace}",
        f"link set {node.link} master {BRIDGE} up",
        f"route replace {node.pods} via {node.address} dev {BRIDGE} onlink",
    ]


def is_unplugged(node: Node) -> bool:
    """Whether somebody took the node's cable out (``faults.unplug``)."""
    flags = Path("/sys/class/net", node.link, "flags")
    return flags.exists() and not int(flags.read_text(), 16) & IFF_UP


def plug_in(node: Node) -> None:
    _batch([f"link set {node.link} up"])


def drop(node: Node, address: str) -> None:
    """Lets the node pass no packet to or from an address or range, without a word to the sender."""
    for direction in ("to", "from"):
        rule = ("rule", "add", "priority", _DROPPED, direction, address, "blackhole")
        shell.run(["ip", "-netns", node.namespace, *rule])


def pass_again(node: Node, address: str) -> None:
    """Undoes ``drop``, however often it was done."""
    for direction in ("to", "from"):
        rule = ("rule", "del", "priority", _DROPPED, direction, address, "blackhole")
        while shell.succeeds(["ip", "-netns", node.namespace, *rule]):
            pass


def pass_all(node: Node) -> None:
    """Undoes each ``drop`` of the node."""
    while shell.succeeds(["ip", "-netns", node.namespace, "rule", "del", "priority", _DROPPED]):
        pass


def inside_commands(node: Node, others: tuple[Node, ...] = NODES) -> list[str]:
    """What ``ip -batch`` reads inside the node's namespace."""
    routes = [f"route replace {other.pods} via {other.address}" for other in others if other != node]
    return [
        "link set lo up",
        f"address add {node.address}/24 dev eth0",
        "link set eth0 up",
        # Service addresses need a route before kube-proxy's rules can send them elsewhere.
        f"route replace default via {GATEWAY}",
        *routes,
    ]


def _batch(commands: list[str], namespace: str | None = None) -> None:
    where = ["-netns", namespace] if namespace else []
    shell.run(["ip", *where, "-batch", "-"], stdin="\n".join(commands) + "\n")


def _exists(link: str) -> bool:
    return Path("/sys/class/net", link).exists()


def connect(nodes: tuple[Node, ...] = NODES) -> None:
    """Makes the bridge, the namespaces and the cables that are missing."""
    if not _exists(BRIDGE):
        _batch(bridge_commands())
    for node in nodes:
        if not Path("/run/netns", node.namespace).exists():
            shell.run(["ip", "netns", "add", node.namespace])
        if not _exists(node.link):
            _batch(cable_commands(node))
            _batch(inside_commands(node, nodes), node.namespace)
            enter = ["nsenter", f"--net=/run/netns/{node.namespace}"]
            shell.run([*enter, "sysctl", "-qw", "net.ipv4.ip_forward=1"])
    first = nodes[0].address
    _batch([f"route replace {SERVICE_NETWORK} via {first} dev {BRIDGE} onlink"])
    _let_bridge_through()


def _let_bridge_through() -> None:
    """Where Docker or a firewall drops forwarded packets, the bridge's own are among them."""
    if not _BRIDGE_FILTER.exists() or _BRIDGE_FILTER.read_text().strip() != "1":
        return
    if not shell.succeeds(["iptables", "-C", *_FORWARD_RULE]):
        shell.run(["iptables", "-I", *_FORWARD_RULE])


def leftovers() -> list[str]:
    """Names of our namespaces, links and rules that exist."""
    namespaces = sorted(path.name for path in Path("/run/netns").glob(f"{PREFIX}*"))
    links = sorted(path.name for path in Path("/sys/class/net").glob("footplate*"))
    rule = ["iptables rule"] if shell.succeeds(["iptables", "-C", *_FORWARD_RULE]) else []
    return namespaces + links + rule


def disconnect() -> None:
    """Removes every link, namespace and rule of ours, however many a crash left."""
    for path in Path("/run/netns").glob(f"{PREFIX}*"):
        shell.succeeds(["ip", "netns", "delete", path.name])
        path.unlink(missing_ok=True)  # a crash between its creation and its mount
    for path in Path("/sys/class/net").glob("footplate*"):
        shell.succeeds(["ip", "link", "delete", path.name])
    while shell.succeeds(["iptables", "-D", *_FORWARD_RULE]):
        pass
    if left := leftovers():
        raise ClusterError(f"cannot remove {', '.join(left)}")
