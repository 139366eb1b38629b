"""Where cells are played: one namespace, three nodes with parts of their own, and what stands there.

    home      operator, API and all coordinators
    left      a worker of each run, and what is done to nodes is done to this one first
    right     the other worker

So a fault of a node is never one of the control plane too, which is another fault.
"""

from __future__ import annotations

import base64
import copy
import http.client
import json
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from cluster.paths import layout
from demo.kube import ROOT, DemoError, Kube
from footplate_contracts.coordinator_state import CoordinatorState, RunState
from footplate_contracts.names import COORDINATOR_PORT, SECRET_TOKEN_KEY, secret_name
from footplate_contracts.v1alpha1.training import Stage
from tests.support.placement import LABEL, Room, gather_control_plane, node_of
from tests.support.proxy import Proxy
from tests.support.runs import Json, Runs, changed, runs_in
from tests.system.faults import training
from tests.system.faults.watch import Watch

PROFILE: Final = "fault-cells"
PATIENT: Final = 600  # seconds, as the bounds of a run that is held
_AWAY: Final = ("footplate.dev/test-workers", "PreferNoSchedule")  # a taint
_BOUNDS: Final = ("floor", "loading", "firstStep", "checkpoint", "validation", "rollout", "scoring")
_CHILDREN: Final = {
    "api/v1": ("pods", "services", "configmaps", "secrets"),
    "apis/apps/v1": ("controllerrevisions",),
    "apis/policy/v1": ("poddisruptionbudgets",),
}


def hang(seconds: float) -> Json:
    """`resilience.hang` by which nothing may last longer than `seconds`."""
    return {f"{bound}Seconds": seconds for bound in _BOUNDS}


def cluster(*arguments: str) -> None:
    """One verb of the cluster tool."""
    done = subprocess.run(
        ["python3", "dev/cluster", *arguments], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, f"dev/cluster {' '.join(arguments)}: {done.stdout}{done.stderr}"


def insist(act: Callable[[], object], seconds: float = 90.0) -> None:
    """Do it again and again until the API server lets it pass; DemoError where it never does."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            act()
            return
        except DemoError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


class Ground:
    """The namespace, its volume on this machine's disk, and the tools; for many threads."""

    def __init__(self, runs: Runs, room: Room) -> None:
        self.kube, self.namespace, self.room = runs.kube, runs.namespace, room
        self._where = (runs.ask.host, runs.ask.port)
        self._api = runs.api
        self._own = threading.local()
        self.watch = Watch(*self._where, runs.namespace)
        claim = self.kube.get("pvc", "shared", "-n", runs.namespace) or {}
        uid = claim["metadata"]["uid"][:8]
        self.shared = layout().shared / f"{runs.namespace}-shared-{uid}"
        self.home, self.left, self.right = "", "", ""

    @property
    def runs(self) -> Runs:
        """Of this thread: a connection is for one."""
        if not hasattr(self._own, "runs"):
            self._own.runs = Runs(self.kube, self.namespace, Proxy(*self._where), self._api)
        found: Runs = self._own.runs
        return found

    def prepare(self) -> None:
        """Operator and API on one node; workers may go to the two others only."""
        self.left, self.right = sorted(gather_control_plane(self.kube))
        [self.home] = {"node-1", "node-2", "node-3"} - {self.left, self.right}
        self.room.only(self.left, self.right)
        # Who may be at home, as coordinators may, prefers that; workers may not.
        remove_taint(self.kube)
        self.kube.kubectl("taint", "nodes", self.left, self.right, "=:".join(_AWAY), "--overwrite")

    def manifest(self, name: str, profile: str = PROFILE, stage: Stage = Stage.PRETRAIN) -> Json:
        """A run of a cell: two workers of one rank each."""
        if stage is not Stage.PRETRAIN:
            training.prepare(self.shared)
        manifest = changed(training.trained(stage, name, self.namespace), "compute.profile", profile)
        return changed(manifest, "resilience.hang", hang(PATIENT))

    def patch(self, name: str, spec: Json) -> None:
        """Merge `spec` into the run's, as soon as the API server takes it.

        One that has just started admits no run for half a minute, until its policies are configured.
        """
        insist(lambda: self.runs.patch(name, spec))

    def pods(self, name: str, role: str = "worker") -> list[Json]:
        """The run's live pods of one role that have a node, by name."""
        return [
            pod
            for pod in self.runs.pods(name, role)
            if pod["status"]["phase"] in ("Pending", "Running") and node_of(pod)
        ]

    def ready_nodes(self) -> set[str]:
        """Names of the nodes of which Kubernetes thinks that they answer."""
        return {
            node["metadata"]["name"]
            for node in self.runs.ask.get("/api/v1/nodes")["items"]
            for condition in node["status"]["conditions"]
            if (condition["type"], condition["status"]) == ("Ready", "True")
        }

    def children(self, name: str) -> list[str]:
        """What there is of the run, by kind and name, whatever kind it may have."""
        label = f"?labelSelector=footplate.dev%2Frun%3D{name}"
        found = []
        for group, kinds in _CHILDREN.items():
            for kind in kinds:
                path = f"/{group}/namespaces/{self.namespace}/{kind}{label}"
                listed = self.runs.ask.get(path) or {"items": []}
                found += [f"{kind}/{item['metadata']['name']}" for item in listed["items"]]
        return found

    def worker_on(self, name: str, node: str) -> Json:
        """The run's newest live worker there."""
        found = [pod for pod in self.pods(name) if node_of(pod) == node]
        assert found, f"{name} has no worker on {node}"
        return found[-1]

    def checkpoints(self, name: str) -> Path:
        """The run's checkpoint folder, on this machine's disk."""
        return self.shared / "checkpoints" / name

    def view(self, name: str) -> CoordinatorState | None:
        """What the run's coordinator says of it; None while none answers."""
        found = self.coordinator(name)
        return asked(*found) if found else None

    def coordinator(self, name: str) -> tuple[str, str] | None:
        """Address of the run's coordinator, and the run's token; None while there is none."""
        pods = [pod for pod in self.pods(name, "coordinator") if pod["status"].get("podIP")]
        secret = self.runs.ask.get(f"/api/v1/namespaces/{self.namespace}/secrets/{secret_name(name)}")
        if not pods or not secret:
            return None
        return pods[-1]["status"]["podIP"], _decoded(secret["data"][SECRET_TOKEN_KEY])

    def state(self, name: str) -> RunState | None:
        """In a word."""
        view = self.view(name)
        return view.state if view else None


def asked(address: str, token: str) -> CoordinatorState | None:
    """What the coordinator there says; None where none answers."""
    anybody = ssl.create_default_context()
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection(address, COORDINATOR_PORT, timeout=2, context=anybody)
    with suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/v1/state?after=0&wait=0", headers={"Authorization": f"Bearer {token}"})
        return CoordinatorState.model_validate_json(connection.getresponse().read())
    return None


def _decoded(text: str) -> str:
    return base64.b64decode(text).decode()


@contextmanager
def ground_in(kube: Kube, namespace: str) -> Iterator[Ground]:
    """The ground of a namespace that is made for the block."""
    with runs_in(kube, namespace, wait=False) as runs, ground_of(runs) as ground:
        yield ground


@contextmanager
def ground_of(runs: Runs) -> Iterator[Ground]:
    """The ground of a namespace that is there, with a profile of its own, for the block."""
    kube = runs.kube
    apply_profile(kube, PROFILE)
    ground = Ground(runs, Room(kube, PROFILE))
    try:
        ground.prepare()
        yield ground
    finally:
        ground.watch.close()
        kube.kubectl("label", "nodes", "--all", f"{LABEL}-")
        remove_taint(kube)
        kube.kubectl("delete", "computeprofile", PROFILE, "--ignore-not-found")


def remove_taint(kube: Kube) -> None:
    """From each node that has it."""
    with suppress(DemoError):  # none has it
        kube.kubectl("taint", "nodes", "--all", f"{_AWAY[0]}-")


def apply_profile(kube: Kube, name: str) -> None:
    """A profile like local-cpu: one small rank in a worker, on nodes that have the room's label."""
    profile = kube.get("computeprofile", "local-cpu") or {}
    spec = copy.deepcopy(profile["spec"]) | {"scheduling": {"nodeSelector": {LABEL: "yes"}}}
    spec |= {"processesPerNode": 1}
    spec["resources"] = {"requests": {"cpu": "20m", "memory": "256Mi"}, "limits": {"memory": "2Gi"}}
    manifest = {key: profile[key] for key in ("apiVersion", "kind")}
    manifest |= {"metadata": {"name": name}, "spec": spec}
    kube.kubectl("apply", "--filename", "-", stdin=json.dumps(manifest))
