"""The development cluster is a real one: three nodes, their network, names, volumes and faults."""

from __future__ import annotations

import json
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from demo.kube import Kube

pytestmark = pytest.mark.system

ROOT = Path(__file__).resolve().parents[3]
IMAGE = "localhost/footplate/coordinator:dev"
NODES = ("node-1", "node-2", "node-3")
# What every pod of a run gets, so that volumes and programs are tried as runs use them.
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
SERVER = "python -m http.server 8080 --directory /etc"


def cluster(*words: str) -> str:
    """Runs a verb of the cluster tool."""
    done = subprocess.run(
        ["python3", "dev/cluster", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def eventually(condition: Callable[[], bool], seconds: float, what: str) -> float:
    """Waits for the condition; returns how long it took."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, f"{what}: not within {seconds} s"
        time.sleep(0.2)
    return time.monotonic() - started


class Space:
    """A namespace of this test's own."""

    def __init__(self, kube: Kube, name: str) -> None:
        self.kube, self.name = kube, name

    def apply(self, *objects: dict[str, Any]) -> None:
        items = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl("apply", "--filename", "-", stdin=json.dumps(items))

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        return self.kube.kubectl("--namespace", self.name, *words, stdin=stdin)

    def phase(self, pod: str) -> str:
        found = self.kube.get("--namespace", self.name, "pod", pod) or {}
        return str(found.get("status", {}).get("phase", ""))

    def wait(self, pod: str, phase: str, seconds: float = 40) -> None:
        eventually(lambda: self.phase(pod) == phase, seconds, f"pod {pod} {phase}")

    def run(self, name: str, node: str, command: str, **spec: Any) -> None:
        """Creates a pod that runs a shell command as user 1000 with a read-only root."""
        self.apply(pod(name, node, command, **spec))


@pytest.fixture
def space(kube: Kube) -> Iterator[Space]:
    name = f"cluster-test-{uuid.uuid4().hex[:6]}"
    kube.kubectl("create", "namespace", name)
    yield Space(kube, name)
    kube.kubectl("delete", "namespace", name, "--wait=false")


def pod(name: str, node: str, command: str, **spec: Any) -> dict[str, Any]:
    container = {
        "name": "main",
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "command": ["sh", "-c", command],
        "securityContext": RESTRICTED,
        **spec.pop("container", {}),
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": node},
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 1000,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            **spec,
        },
    }


def service(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8080}], **spec},
    }


def fetch(url: str) -> str:
    return f"python -c \"import urllib.request as r; print(r.urlopen('{url}', timeout=5).status)\""


def ready(kube: Kube, node: str) -> bool:
    found = kube.get("node", node) or {}
    conditions = {each["type"]: each["status"] for each in found["status"]["conditions"]}
    return conditions["Ready"] == "True"


def test_three_nodes_are_ready_and_status_says_so(kube: Kube) -> None:
    assert all(ready(kube, node) for node in NODES)
    text = cluster("status")
    assert all(f"{node}      Ready" in text for node in NODES)


def test_a_second_up_leaves_everything_as_it_is() -> None:
    started = time.monotonic()
    cluster("up")
    assert time.monotonic() - started < 20


def test_pods_of_two_nodes_reach_each_other_by_service_and_by_headless_name(space: Space) -> None:
    headless = service("server", clusterIP="None", publishNotReadyAddresses=True)
    space.apply(headless, {**service("front"), "spec": {**service("server")["spec"]}})
    # Asked for before it exists: a negative answer must not be kept.
    never_ready = {"readinessProbe": {"exec": {"command": ["false"]}}}
    asking = f"until {fetch('http://server.{}.svc.cluster.local:8080/hostname')}; do sleep 0.1; done".format(
        space.name
    )
    space.run("client", "node-2", asking)
    space.wait("client", "Running")
    space.run("server", "node-1", SERVER, container=never_ready)
    space.wait("client", "Succeeded")
    space.run("ready", "node-3", SERVER)
    space.apply({**service("ready")})
    space.run("other", "node-2", f"until {fetch('http://ready/hostname')}; do sleep 0.1; done")
    space.wait("other", "Succeeded")


def test_a_headless_name_appears_within_a_second_of_its_pod(space: Space) -> None:
    space.apply(service("server", clusterIP="None", publishNotReadyAddresses=True))
    script = (
        "import socket, time\n"
        "def known():\n"
        "    try: return socket.gethostbyname('server')\n"
        "    except OSError: return None\n"
        "while not known(): time.sleep(0.05)\n"
        "print(time.time())"
    )
    space.run("client", "node-2", f'python -c "{script}"')
    space.wait("client", "Running")
    space.run("server", "node-1", 'python -c "import time; print(time.time(), flush=True); time.sleep(60)"')
    space.wait("client", "Succeeded")
    started = float(space.kubectl("logs", "server"))
    resolved = float(space.kubectl("logs", "client"))
    assert resolved - started < 2  # a second, and half of one for a busy machine's scheduling


def test_logs_and_exec(space: Space) -> None:
    space.run("talker", "node-3", "echo said; sleep 60")
    space.wait("talker", "Running")
    assert space.kubectl("logs", "talker") == "said\n"
    assert space.kubectl("exec", "talker", "--", "id", "-u") == "1000\n"


def claim(name: str, size: str = "1Gi", **annotations: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "annotations": annotations},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "storageClassName": "footplate-shared",
            "resources": {"requests": {"storage": size}},
        },
    }


def test_a_shared_volume_is_written_on_one_node_and_read_on_another(space: Space) -> None:
    space.apply(claim("shared"))
    volume = {
        "volumes": [{"name": "shared", "persistentVolumeClaim": {"claimName": "shared"}}],
        "container": {"volumeMounts": [{"name": "shared", "mountPath": "/shared"}]},
    }
    space.run("writer", "node-1", "echo from node-1 > /shared/text; sleep 60", **volume)
    space.wait("writer", "Running")
    space.run("reader", "node-2", "cat /shared/text && echo back >> /shared/text", **volume)
    space.wait("reader", "Succeeded")
    assert space.kubectl("logs", "reader") == "from node-1\n"
    assert space.kubectl("exec", "writer", "--", "tail", "-n1", "/shared/text") == "back\n"

    volumes = space.kubectl("get", "pvc", "shared", "-o", "jsonpath={.spec.volumeName}")
    space.kubectl("delete", "pod", "--all", "--now")
    space.kubectl("delete", "pvc", "shared")
    eventually(lambda: space.kube.get("pv", volumes) is None, 40, "the volume goes with its claim")


def test_a_volume_can_be_made_that_gets_full(space: Space) -> None:
    space.apply(claim("small", "1Mi", **{"footplate.dev/enforce-size": "true"}))
    space.run(
        "writer",
        "node-2",
        "head -c 2000000 /dev/zero > /small/file",
        volumes=[{"name": "small", "persistentVolumeClaim": {"claimName": "small"}}],
        container={"volumeMounts": [{"name": "small", "mountPath": "/small"}]},
    )
    space.wait("writer", "Failed")
    assert "No space left on device" in space.kubectl("logs", "writer")


def test_fake_gpus_are_scheduled_by(kube: Kube, space: Space) -> None:
    try:
        cluster("up", "--fake-gpus", "2")
        space.run("gpu", "node-1", "true", container={"resources": {"limits": {"nvidia.com/gpu": "2"}}})
        space.wait("gpu", "Succeeded")
    finally:
        cluster("up", "--fake-gpus", "0")
    found = kube.get("node", "node-1") or {}
    assert found["status"]["capacity"]["nvidia.com/gpu"] == "0"


def test_lost_nodes_are_noticed_and_come_back(kube: Kube, space: Space) -> None:
    faults = {"unplug": "node-3", "kill-node": "node-2"}
    for node in faults.values():
        space.run(f"resident-{node}", node, "sleep 600", restartPolicy="Always")
    for node in faults.values():
        space.wait(f"resident-{node}", "Running")
    for fault, node in faults.items():
        cluster(fault, node)
    try:
        for node in faults.values():
            eventually(lambda node=node: not ready(kube, node), 35, f"{node} NotReady")
    finally:
        cluster("up")
    for node in faults.values():
        assert ready(kube, node)
        space.wait(f"resident-{node}", "Running")
