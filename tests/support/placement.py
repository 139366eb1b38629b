"""Where the pods of a run stand, for tests that take a node away."""

from __future__ import annotations

import copy
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from demo.install import NAMESPACE
from demo.kube import Kube
from tests.support.runs import Json, Runs

LABEL = "footplate.dev/test-room"
CLOSED = "footplate.dev/test-closed"  # a taint


def node_of(pod: Json) -> str:
    """Where it stands; empty for one that has no place."""
    node: str = pod["spec"].get("nodeName", "")
    return node


def index_of(pod: Json) -> int:
    """The place of a worker in its run."""
    return int(pod["metadata"]["labels"]["footplate.dev/index"])


def coordinators_node(runs: Runs, name: str) -> str:
    """Where the coordinator of a run stands, once it is placed."""

    def placed() -> str | None:
        return next(filter(None, map(node_of, runs.pods(name, "coordinator"))), None)

    return runs.until("its coordinator to be placed", placed, name, seconds=60)


def gather_control_plane(kube: Kube) -> list[str]:
    """Brings operator and API onto one node; returns the other nodes, which can be lost without them.

    Losing one of the two is another fault, from which the cluster takes half a minute longer to recover.
    """
    pods = (kube.get("pods", "-n", NAMESPACE) or {})["items"]
    staying = [
        pod
        for pod in pods
        if pod["status"]["phase"] == "Running" and "deletionTimestamp" not in pod["metadata"]
    ]
    api, operator = sorted(staying, key=lambda pod: str(pod["metadata"]["name"]))
    names = [node["metadata"]["name"] for node in (kube.get("nodes") or {})["items"]]
    others = [name for name in names if name != node_of(operator)]
    if node_of(api) != node_of(operator):
        with _closed(kube, *others):
            # Only when it has gone is it sure that the Deployment knows that it lacks one.
            kube.kubectl("delete", "pod", api["metadata"]["name"], "-n", NAMESPACE, "--timeout=90s")
            rollout = ("rollout", "status", "deployment/footplate-api", "-n", NAMESPACE, "--timeout=90s")
            kube.kubectl(*rollout)
    return others


@contextmanager
def _closed(kube: Kube, *nodes: str) -> Iterator[None]:
    """No pod is placed on these nodes within the block; a cordon would move the workers of other tests."""
    kube.kubectl("taint", "nodes", *nodes, f"{CLOSED}=:NoSchedule", "--overwrite")
    try:
        yield
    finally:
        kube.kubectl("taint", "nodes", *nodes, f"{CLOSED}-")


@dataclass(frozen=True)
class Room:
    """Where workers of `profile` may be placed; pods that run stay wherever they are."""

    kube: Kube
    profile: str

    def everywhere(self) -> None:
        """On each node."""
        self.kube.kubectl("label", "nodes", "--all", "--overwrite", f"{LABEL}=yes")

    def only(self, *nodes: str) -> None:
        """On these nodes; without any, nowhere."""
        self.kube.kubectl("label", "nodes", "--all", f"{LABEL}-")
        if nodes:
            self.kube.kubectl("label", "nodes", *nodes, f"{LABEL}=yes")

    def apply_apart(self, runs: Runs, manifest: Json) -> tuple[Json, Json]:
        """Applies a run of two workers, each of which shares its node with nothing else of ours.

        Losing the coordinator with a worker is another fault, as is losing the operator or the API: these
        are brought onto one node, the workers onto the other two.

        Returns:
            the workers, once both run.
        """
        others = gather_control_plane(self.kube)
        self.only()
        with _closed(self.kube, *others):
            name = runs.apply(manifest)
            coordinators_node(runs, name)
        self.only(*others)
        first, second = runs.wait_workers(name, 2)
        assert {node_of(first), node_of(second)} == set(others)
        return first, second


@contextmanager
def room_in(kube: Kube) -> Iterator[Room]:
    """A profile like local-cpu, whose workers need a label of the node that all have, for the block."""
    found = Room(kube, f"room-{uuid.uuid4().hex[:6]}")
    profile = kube.get("computeprofile", "local-cpu") or {}
    spec = copy.deepcopy(profile["spec"]) | {"scheduling": {"nodeSelector": {LABEL: "yes"}}}
    manifest = {**{key: profile[key] for key in ("apiVersion", "kind")}, "spec": spec}
    manifest["metadata"] = {"name": found.profile}
    kube.kubectl("apply", "--filename", "-", stdin=json.dumps(manifest))
    try:
        found.everywhere()
        yield found
    finally:
        found.only()
        kube.kubectl("delete", "computeprofile", found.profile)
