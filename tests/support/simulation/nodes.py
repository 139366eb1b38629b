"""Nodes, their kubelets, the scheduler, and what Kubernetes makes of a node that is silent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from footplate_contracts.failures import FailureReport
from footplate_elastic.agent import rdma
from footplate_operator.runtime.kinds import POD, Json
from tests.support.fake_cluster import copied
from tests.support.simulation.agent import Agent
from tests.support.simulation.coordinator import CoordinatorProcess
from tests.support.simulation.node_objects import NodeObjects, matches, preferred, required

if TYPE_CHECKING:
    from tests.support.simulation.world import Simulation

GRACE: Final = 40.0  # seconds until Kubernetes calls a silent node NotReady
SCHEDULE: Final = 0.03
ACCEPT: Final = 0.1  # for a kubelet to take note of a pod
START: Final = 0.6  # for a kubelet to start a container
NOTICE: Final = 0.1  # for a kubelet to see that one has ended
RETRY: Final = 2.0  # of what could not be started or placed
UNSCHEDULABLE: Final = "node.kubernetes.io/unschedulable"
_GANG: Final = ("worker", "spare")


@dataclass(eq=False)
class Node:
    """One machine."""

    name: str
    slots: int = 1  # pods with GPUs that fit
    kubelet: bool = True  # it works
    ready: bool = True  # as the API server says
    cordoned: bool = False
    taints: dict[str, str] = field(default_factory=dict)  # key -> effect
    labels: dict[str, str] = field(default_factory=dict)
    registered: bool = True  # there is a Node object
    clock: float = 0.0  # seconds by which its clock is ahead
    broken: str = ""  # why its containers cannot be made, as a kubelet says it
    fails: str = "ErrImagePull"  # in which word; FailedMount is one of an Event
    breaks_after: float | None = None  # seconds of training after which the driver calls a GPU broken
    locked_memory: int = -1  # bytes that a container may lock; -1: any number
    broken_for: dict[str, str] = field(default_factory=dict)  # the same, by the role of the pod
    processes: dict[str, Agent | CoordinatorProcess] = field(default_factory=dict)  # by uid of the pod
    silent_since: float | None = None

    def find_refusal(self, now: float) -> FailureReport | None:
        """What an agent says of it before ranks start; None where they may."""
        requested = "rdma/ib" if self.locked_memory >= 0 else ""
        return rdma.find_rdma_obstacle(requested, self.locked_memory, 0, Path("/"), now)


class Nodes:
    """All of them."""

    def __init__(self, world: Simulation, names: list[str], slots: int) -> None:
        self.world = world
        self.wishes: dict[
            str, str
        ] = {}  # by the beginning of a pod's name: the node that it goes to if it fits
        self.by_name = {name: Node(name, slots) for name in names}
        self.objects = NodeObjects(self)
        world.objects.watches.append(self._changed)
        world.network.listeners.append(self._look)

    # -- the scheduler -----------------------------------------------------------------

    def _changed(self, event: str, body: Json) -> None:
        if body["kind"] != "Pod":
            return
        name, uid = body["metadata"]["name"], body["metadata"]["uid"]
        node = self.by_name.get(body["spec"].get("nodeName", ""))
        if event == "DELETED":
            if node is not None:
                process = node.processes.pop(uid, None)
                if process is not None and self.world.network.lit(node.name):
                    process.kill()
            self.reschedule()
        elif node is None and "deletionTimestamp" not in body["metadata"]:
            self._later(SCHEDULE, self._schedule, name, uid)
        elif node is not None and body["status"].get("phase") in ("Succeeded", "Failed"):
            self.reschedule()
        elif node is not None and "deletionTimestamp" in body["metadata"]:
            self._later(NOTICE, self._stop, node, name, uid)
        elif node is not None and body["spec"].get("activeDeadlineSeconds"):
            self._later(NOTICE + 1.0, self._overdue, node, name, uid)

    def reschedule(self) -> None:
        """There may be room now for those that wait."""
        self._later(SCHEDULE, self._schedule_all)

    def _schedule_all(self) -> None:
        for pod in self.world.objects.all(POD):
            if not pod["spec"].get("nodeName") and "deletionTimestamp" not in pod["metadata"]:
                self._schedule(pod["metadata"]["name"], pod["metadata"]["uid"])

    def _schedule(self, name: str, uid: str) -> None:
        pod = self._pod(name, uid)
        if pod is None or pod["spec"].get("nodeName") or "deletionTimestamp" in pod["metadata"]:
            return
        fitting = [node for node in self.by_name.values() if self._fits(node, pod)]
        bound = copied(pod)
        if not fitting:
            condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
            condition["message"] = f"0/{len(self.by_name)} nodes are available: no room."
            if bound["status"].get("conditions") != [condition]:
                bound["status"]["conditions"] = [condition]
                self.world.objects.put(bound)
            return
        node = self._best(fitting, pod)
        bound["spec"]["nodeName"] = node.name
        now = self.world.clock().isoformat()
        scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": now}
        bound["status"]["conditions"] = [scheduled]
        self.world.objects.put(bound)
        self._later(ACCEPT, self._accept, node, name, uid)
        self._later(START * self.world.chance.uniform(0.8, 1.4), self._start, node, name, uid)

    def _best(self, nodes: list[Node], pod: Json) -> Node:
        """One that no pod of the same run prefers not to share, if its manifest says so; else any."""
        for beginning, name in self.wishes.items():
            if pod["metadata"]["name"].startswith(beginning) and self.by_name[name] in nodes:
                return self.by_name[name]
        affinity = pod["spec"].get("affinity", {}).get("podAntiAffinity", {})
        terms = affinity.get("preferredDuringSchedulingIgnoredDuringExecution", [])
        wanted = [(term["weight"], term["podAffinityTerm"]["labelSelector"]) for term in terms]

        def crowd(node: Node) -> int:
            there = [other for other in self.on(node) if other["metadata"]["uid"] != pod["metadata"]["uid"]]
            return sum(weight * _selected(other, selector) for other in there for weight, selector in wanted)

        def rank(node: Node) -> tuple[bool, int]:
            return not matches(node.labels, preferred(pod)), crowd(node)

        best = min(map(rank, nodes))
        return self.world.chance.choice([node for node in nodes if rank(node) == best])

    def _fits(self, node: Node, pod: Json) -> bool:
        if not node.ready or not node.registered or node.name in _excluded(pod):
            return False
        selector = pod["spec"].get("nodeSelector", {})
        if not matches(node.labels, required(pod)) or not selector.items() <= node.labels.items():
            return False
        repelling = {key for key, effect in node.taints.items() if effect in ("NoSchedule", "NoExecute")}
        if (repelling | ({UNSCHEDULABLE} if node.cordoned else set())) - _tolerates(pod):
            return False
        if pod["metadata"]["labels"].get("footplate.dev/role") not in _GANG:
            return True
        taken = [
            other
            for other in self.on(node)
            if other["metadata"]["labels"].get("footplate.dev/role") in _GANG
            and other["status"].get("phase") not in ("Succeeded", "Failed")
        ]
        return len(taken) < node.slots

    def on(self, node: Node) -> list[Json]:
        """Pods that are bound to it."""
        return [pod for pod in self.world.objects.all(POD) if pod["spec"].get("nodeName") == node.name]

    # -- kubelets ----------------------------------------------------------------------

    def answers(self, name: str) -> bool:
        """Whether the kubelet of a node works, and can speak with the API server."""
        return name in self.by_name and self._works(self.by_name[name])

    def end_container(self, name: str, code: int, reason: str = "") -> None:
        """The main process of a pod ends."""
        pod = self.world.objects.objects[POD, name]
        node = self.by_name[pod["spec"]["nodeName"]]
        self._ended(node, name, pod["metadata"]["uid"], code, reason)

    def _accept(self, node: Node, name: str, uid: str) -> None:
        pod = self._pod(name, uid)
        if pod is not None and self._works(node) and "startTime" not in pod["status"]:
            self._put_status(pod, startTime=self._now(node))

    def _start(self, node: Node, name: str, uid: str) -> None:
        pod = self._pod(name, uid)
        if pod is None or uid in node.processes or pod["status"].get("phase") in ("Succeeded", "Failed"):
            return
        if "deletionTimestamp" in pod["metadata"]:
            return
        if not self._works(node):
            return  # it sees the pod when it is back
        role = pod["metadata"]["labels"].get("footplate.dev/role", "")
        if broken := node.broken_for.get(role, node.broken):
            self._cannot_start(node, pod, broken)
            return
        running = {"state": {"running": {"startedAt": self._now(node)}}}
        started = self._put_status(
            pod,
            phase="Running",
            podIP=self.world.next_address(),
            conditions=[_ready(True, self._now(node))],
            containerStatuses=[running],
        )
        process = (CoordinatorProcess if role == "coordinator" else Agent)(self.world, started, node.name)
        node.processes[uid] = process
        self.world.processes[started["status"]["podIP"]] = process
        process.begin(lambda code: self._ended(node, name, uid, code))

    def _cannot_start(self, node: Node, pod: Json, why: str) -> None:
        """A kubelet says so, and tries again; one that refuses a pod does not."""
        name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
        if node.fails == "UnexpectedAdmissionError":
            self._put_status(pod, phase="Failed", reason=node.fails, message=why)
            return
        waiting = {"reason": node.fails, "message": why}
        if node.fails == "FailedMount":
            about = {"name": name, "uid": uid}
            metadata = {"name": f"{name}.mount", "namespace": pod["metadata"]["namespace"]}
            event = {"kind": "Event", "apiVersion": "v1", "metadata": metadata, "involvedObject": about}
            self.world.objects.put({**event, "reason": node.fails, "message": why})
            waiting = {"reason": "ContainerCreating"}
        if pod["status"].get("containerStatuses") != [{"state": {"waiting": waiting}}]:
            self._put_status(pod, containerStatuses=[{"state": {"waiting": waiting}}])
        self._later(RETRY, self._start, node, name, uid)

    def _ended(self, node: Node, name: str, uid: str, code: int, reason: str = "") -> None:
        """A container's main process has ended."""
        process = node.processes.get(uid)
        if process is not None:
            process.kill()
        self._later(NOTICE, self._tell_end, node, name, uid, code, reason)

    def _tell_end(self, node: Node, name: str, uid: str, code: int, reason: str) -> None:
        pod = self._pod(name, uid)
        if pod is None or not self._works(node):
            return
        now = self._now(node)
        known = pod["status"].get("containerStatuses", [{}])[0].get("state", {}).get("running", {})
        ended = {
            "exitCode": code,
            "reason": reason or ("Completed" if code == 0 else "Error"),
            "startedAt": known.get("startedAt", now),
            "finishedAt": now,
        }
        pod = self._put_status(
            pod,
            phase="Succeeded" if code == 0 else "Failed",
            conditions=[_ready(False, now)],
            containerStatuses=[{"state": {"terminated": ended}}],
        )
        if "deletionTimestamp" in pod["metadata"]:
            self.world.objects.bury(POD, name)

    def _stop(self, node: Node, name: str, uid: str) -> None:
        """A deletion has begun: SIGTERM, the grace, SIGKILL; then the object goes."""
        pod, process = self._pod(name, uid), node.processes.get(uid)
        if pod is None or not self._works(node):
            return
        if process is None or not process.alive:
            self.world.objects.bury(POD, name)
            return
        process.terminate()
        grace = pod["metadata"].get("deletionGracePeriodSeconds")
        seconds = float(pod["spec"].get("terminationGracePeriodSeconds", 30) if grace is None else grace)
        self._later(seconds, self._kill, node, name, uid)

    def _kill(self, node: Node, name: str, uid: str) -> None:
        process = node.processes.get(uid)
        if process is not None and process.alive and self._pod(name, uid) is not None and self._works(node):
            self._ended(node, name, uid, 137)

    def _overdue(self, node: Node, name: str, uid: str) -> None:
        process = node.processes.get(uid)
        if process is not None and process.alive and self._works(node):
            self._ended(node, name, uid, 137, "DeadlineExceeded")

    def _works(self, node: Node) -> bool:
        network, api = self.world.network, self.world.api.process
        return node.kubelet and network.lit(node.name) and network.reaches(node.name, api.place) and api.alive

    # -- Kubernetes' own eyes ------------------------------------------------------------

    def _look(self) -> None:
        """Something about the network changed: which nodes are silent now?"""
        now = self.world.seconds()
        for node in self.by_name.values():
            if not self.world.network.lit(node.name):
                for process in node.processes.values():
                    if process.alive:
                        process.kill()
            works = self._works(node)
            if not works and node.silent_since is None:
                node.silent_since = now
                self._later(self.world.grace, self._not_ready, node, now)
            elif works and node.silent_since is not None:
                node.silent_since = None
                self._later(1.0, self._back, node)

    def _not_ready(self, node: Node, since: float) -> None:
        if node.silent_since != since or not node.registered:
            return
        node.ready = False
        self.objects.tell(node)
        now = self.world.clock().isoformat()
        for pod in self.on(node):
            if pod["status"].get("phase") == "Running":
                self._put_status(pod, conditions=[_ready(False, now)])
            seconds = _tolerated(pod)
            if seconds is not None and "deletionTimestamp" not in pod["metadata"]:
                self._later(seconds, self._evict, node, pod["metadata"]["name"], pod["metadata"]["uid"])

    def _evict(self, node: Node, name: str, uid: str) -> None:
        if not node.ready and self._pod(name, uid) is not None:
            self.world.objects.end(POD, name, 30)

    def _back(self, node: Node) -> None:
        """The kubelet answers again, and makes things as they should be."""
        if not self._works(node):
            return
        node.ready = True
        self.objects.tell(node)
        now = self._now(node)
        for pod in self.on(node):
            name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
            process = node.processes.get(uid)
            if pod["status"].get("phase") in ("Succeeded", "Failed"):
                continue
            if process is None:
                if "deletionTimestamp" in pod["metadata"]:
                    self.world.objects.bury(POD, name)
                else:
                    self._accept(node, name, uid)
                    self._start(node, name, uid)
            elif not process.alive:
                self._tell_end(node, name, uid, 255, "Unknown")
            elif "deletionTimestamp" in pod["metadata"]:
                self._stop(node, name, uid)
            else:
                self._put_status(pod, conditions=[_ready(True, now)])
        self._schedule_all()

    # -- particulars ---------------------------------------------------------------------

    def _pod(self, name: str, uid: str) -> Json | None:
        body = self.world.objects.objects.get((POD, name))
        return body if body is not None and body["metadata"]["uid"] == uid else None

    def _put_status(self, pod: Json, **status: Any) -> Json:
        known = self.world.objects.objects[POD, pod["metadata"]["name"]]
        fresh = copied(known)
        before = known.get("status", {})
        if "conditions" in status:
            told = {condition["type"] for condition in status["conditions"]}
            kept = [known for known in before.get("conditions", []) if known["type"] not in told]
            status["conditions"] = [*kept, *status["conditions"]]
        fresh["status"] = {**before, **status}
        return self.world.objects.put(fresh)

    def _now(self, node: Node) -> str:
        """As its clock says."""
        return (self.world.clock() + timedelta(seconds=node.clock)).isoformat()

    def _later(self, seconds: float, act: Callable[..., None], *arguments: Any) -> None:
        asyncio.get_running_loop().call_later(seconds, act, *arguments)


def _ready(ready: bool, since: str) -> Json:
    return {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": since}


def _selected(pod: Json, selector: Json) -> bool:
    labels = pod["metadata"].get("labels", {})
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())


def _excluded(pod: Json) -> set[str]:
    """Nodes that its required node affinity names."""
    affinity = pod["spec"].get("affinity", {}).get("nodeAffinity", {})
    terms = affinity.get("requiredDuringSchedulingIgnoredDuringExecution", {}).get("nodeSelectorTerms", [])
    fields = [field for term in terms for field in term.get("matchFields", [])]
    return {value for field in fields if field["operator"] == "NotIn" for value in field["values"]}


def _tolerates(pod: Json) -> set[str]:
    """Keys of taints that it tolerates by their name."""
    return {toleration.get("key", "") for toleration in pod["spec"].get("tolerations", [])}


def _tolerated(pod: Json) -> float | None:
    """Seconds that it stays bound to a node that does not answer; None: for ever."""
    for toleration in pod["spec"].get("tolerations", []):
        if toleration.get("key") == "node.kubernetes.io/unreachable":
            seconds = toleration.get("tolerationSeconds")
            return None if seconds is None else float(seconds)
    return 300.0
