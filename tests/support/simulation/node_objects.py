"""Node objects: what the node controller, administrators and the garbage collector of pods do to them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from footplate_operator.runtime.kinds import DISRUPTION_BUDGET, LEASE, NODE, POD, Json
from tests.support.fake_cluster import copied

if TYPE_CHECKING:
    from tests.support.simulation.nodes import Node, Nodes

LEASE_SECONDS: Final = 40
ORPHANED: Final = 50.0  # seconds until the garbage collector takes pods whose Node is gone: 40 to 60
EVICT_AGAIN: Final = 5.0  # kubectl's pause after an eviction that a budget refuses
KUBECTL: Final = 0.05  # from the cordon to the first eviction


class NodeObjects:
    """As the API server has them."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._objects = nodes.world.objects
        for node in nodes.by_name.values():
            self.tell(node)
            self._later(0.0, self._renew, node)

    def tell(self, node: Node) -> None:
        """Write what is so now."""
        if not node.registered:
            return
        known = self._objects.objects.get((NODE, node.name), {"metadata": {"name": node.name}})
        taints = [{"key": key, "effect": effect} for key, effect in node.taints.items()]
        status = "True" if node.ready else "Unknown"
        body: Json = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {**known["metadata"], "labels": dict(node.labels)},
            "spec": {"taints": taints, **({"unschedulable": True} if node.cordoned else {})},
            "status": {"conditions": [{"type": "Ready", "status": status}], "images": [{"names": ["large"]}]},
        }
        self._objects.put(body)

    # -- administrators ------------------------------------------------------------------

    def cordon(self, *names: str) -> None:
        """`kubectl cordon`."""
        for name in names:
            self._set(name, cordoned=True)

    def uncordon(self, *names: str) -> None:
        """`kubectl uncordon`."""
        for name in names:
            self._set(name, cordoned=False)

    def taint(self, name: str, key: str, effect: str = "NoSchedule") -> None:
        """`kubectl taint`, or whoever tells of a node's end."""
        self._set(name, taints={**self._nodes.by_name[name].taints, key: effect})

    def label(self, name: str, **labels: str) -> None:
        """`kubectl label node`."""
        self._set(name, labels={**self._nodes.by_name[name].labels, **labels})

    def drain(self, name: str) -> None:
        """`kubectl drain`: a cordon, then an eviction of each pod until it is granted."""
        self.cordon(name)
        for pod in self._nodes.on(self._nodes.by_name[name]):
            self._later(KUBECTL, self._evict, pod["metadata"]["name"], pod["metadata"]["uid"])

    def preempt(self, pod: str) -> None:
        """The scheduler takes a pod away, for another one of a higher priority."""
        self._disrupt(self._objects.objects[POD, pod], "PreemptionByScheduler")

    def delete(self, name: str) -> None:
        """`kubectl delete node`, or a cloud whose machine is gone."""
        node = self._nodes.by_name[name]
        if not node.registered:
            return
        node.registered = False
        uid = self._objects.objects[NODE, name]["metadata"]["uid"]
        self._objects.bury(NODE, name)
        self._later(ORPHANED, self._collect, node, uid)

    def register(self, name: str) -> None:
        """A kubelet that starts makes its Node: with another uid than the last one of this name."""
        if self._nodes.world.network.lit(name) and not self._nodes.by_name[name].registered:
            self._set(name, registered=True, ready=True)

    def replace(self, name: str) -> None:
        """Another machine of the same name is there at once."""
        self.delete(name)
        self._set(name, registered=True)

    # -- particulars ---------------------------------------------------------------------

    def _renew(self, node: Node) -> None:
        """A kubelet that works renews its Lease, by its own clock."""
        if node.registered and self._nodes.answers(node.name):
            spec = {
                "leaseDurationSeconds": LEASE_SECONDS,
                "renewTime": self._nodes.world.seconds(node.name),
            }
            metadata = {"name": node.name, "namespace": "kube-node-lease"}
            body = {"apiVersion": LEASE.api_version, "kind": LEASE.name, "metadata": metadata, "spec": spec}
            self._objects.put(body)
        self._later(LEASE_SECONDS / 4, self._renew, node)

    def _set(self, name: str, **fields: Any) -> None:
        node = self._nodes.by_name[name]
        for field, value in fields.items():
            setattr(node, field, value)
        self.tell(node)
        self._nodes.reschedule()

    def _evict(self, name: str, uid: str) -> None:
        pod = self._objects.objects.get((POD, name))
        if pod is None or pod["metadata"]["uid"] != uid or "deletionTimestamp" in pod["metadata"]:
            return
        if not self._nodes.world.api.process.alive or not self._may_be_evicted(pod):
            self._later(EVICT_AGAIN, self._evict, name, uid)
            return
        self._disrupt(pod, "EvictionByEvictionAPI")

    def _disrupt(self, pod: Json, reason: str) -> None:
        """Kubernetes takes the pod away, with its grace, and says why."""
        told = copied(pod)
        target = {"type": "DisruptionTarget", "status": "True", "reason": reason}
        told["status"]["conditions"] = [*told["status"].get("conditions", []), target]
        self._objects.put(told)
        self._objects.end(POD, pod["metadata"]["name"], pod["spec"].get("terminationGracePeriodSeconds", 30))

    def _may_be_evicted(self, pod: Json) -> bool:
        """As the budgets say: of workers one at a time, and those always that are not ready."""
        labels = pod["metadata"]["labels"]
        run = labels.get("footplate.dev/run", "")
        if labels.get("footplate.dev/role") != "worker" or not _healthy(pod):
            return True
        if (DISRUPTION_BUDGET, run) not in self._objects.objects:
            return True
        others = [
            other
            for other in self._objects.all(POD)
            if other["metadata"]["labels"].get("footplate.dev/run") == run
            and other["metadata"]["labels"].get("footplate.dev/role") == "worker"
            and _healthy(other)
        ]
        return len(others) >= self._nodes.world.nodes_of(run)

    def _collect(self, node: Node, uid: str) -> None:
        known = self._objects.objects.get((NODE, node.name))
        if known is not None and known["metadata"]["uid"] != uid:
            return
        for pod in self._nodes.on(node):
            self._objects.bury(POD, pod["metadata"]["name"])

    def _later(self, seconds: float, act: Callable[..., None], *arguments: Any) -> None:
        asyncio.get_running_loop().call_later(seconds, act, *arguments)


def _healthy(pod: Json) -> bool:
    ready = any(
        condition["type"] == "Ready" and condition["status"] == "True"
        for condition in pod["status"].get("conditions", [])
    )
    return ready and "deletionTimestamp" not in pod["metadata"]


# -- labels, as the scheduler reads node affinity --------------------------------------------------


_OPERATORS: Final[Mapping[str, Callable[[str | None, list[str]], bool]]] = {
    "Exists": lambda value, _: value is not None,
    "In": lambda value, values: value in values,
    "NotIn": lambda value, values: value not in values,
}


def required(pod: Json) -> list[Json]:
    """Return the expressions about labels of a pod's required node affinity."""
    terms = _affinity(pod).get("requiredDuringSchedulingIgnoredDuringExecution", {})
    return [
        expression
        for term in terms.get("nodeSelectorTerms", [])
        for expression in term.get("matchExpressions", [])
    ]


def preferred(pod: Json) -> list[Json]:
    """Return the expressions of a pod's preferred node affinity."""
    terms = _affinity(pod).get("preferredDuringSchedulingIgnoredDuringExecution", [])
    return [expression for term in terms for expression in term["preference"]["matchExpressions"]]


def matches(labels: Mapping[str, str], expressions: list[Json]) -> bool:
    """Return whether a node's labels fulfil all expressions."""
    return all(
        _OPERATORS[wanted["operator"]](labels.get(wanted["key"]), wanted.get("values", []))
        for wanted in expressions
    )


def _affinity(pod: Json) -> Json:
    found: Json = pod["spec"].get("affinity", {}).get("nodeAffinity", {})
    return found
