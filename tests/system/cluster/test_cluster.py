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

from demo.kube import DemoError, Kube
from tests.support.placement import gather_control_plane
from tests.support.settle import pod

pytestmark = pytest.mark.system

ROOT = Path(__file__).resolve().parents[3]
NODES = ("node-1", "node-2", "node-3")
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

    def wait(self, pod: str, phase: str, seconds: float = 90) -> None:
        eventually(lambda: self.phase(pod) == phase, seconds, f"pod {pod} {phase}")

    def log(self, pod: str) -> str:
        """What the pod has said, once it has: its container runs before its program does."""
        eventually(lambda: self.kubectl("logs", pod) != "", 30, f"a log of {pod}")
        return self.kubectl("logs", pod)

    def obeys(self, pod: str) -> bool:
        """Whether a command in it succeeds; its phase alone stays Running on a node that is gone."""
        try:
            self.kubectl("exec", pod, "--request-timeout=10s", "--", "true")
        except DemoError:
            return False
        return True

    def run(self, name: str, node: str, command: str, **spec: Any) -> None:
        """Creates a pod that runs a shell command as user 1000 with a read-only root."""
        self.apply(pod(name, node, command, **spec))


@pytest.fixture
def space(kube: Kube) -> Iterator[Space]:
    name = f"cluster-test-{uuid.uuid4().hex[:6]}"
    kube.kubectl("create", "namespace", name)
    # Pods are refused until a controller has made it.
    account = lambda: kube.get("serviceaccount", "default", "-n", name) is not None  # noqa: E731
    eventually(account, 30, "the service account of a new namespace")
    yield Space(kube, name)
    kube.kubectl("delete", "namespace", name, "--wait=false")


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
    conditions = {item["type"]: item["status"] for item in found["status"]["conditions"]}
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


@pytest.mark.alone
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
    space.run("server", "node-1", 'python -c "import time; print(time.time(), flush=True); time.sleep(600)"')
    space.wait("client", "Succeeded")
    started = float(space.log("server"))
    resolved = float(space.log("client"))
    assert resolved - started < 2  # a second, and half of one for a busy machine's scheduling


def test_logs_and_exec(space: Space) -> None:
    space.run("talker", "node-3", "echo said; sleep 600")
    space.wait("talker", "Running")
    assert space.log("talker") == "said\n"
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
    space.run("writer", "node-1", "echo from node-1 > /shared/text; sleep 600", **volume)
    space.wait("writer", "Running")
    reading = "until [ -s /shared/text ]; do sleep 0.1; done; cat /shared/text && echo back >> /shared/text"
    space.run("reader", "node-2", reading, **volume)
    space.wait("reader", "Succeeded")
    assert space.log("reader") == "from node-1\n"
    assert space.kubectl("exec", "writer", "--", "tail", "-n1", "/shared/text") == "back\n"

    volumes = space.kubectl("get", "pvc", "shared", "-o", "jsonpath={.spec.volumeName}")
    space.kubectl("delete", "pod", "--all", "--now")
    space.kubectl("delete", "pvc", "shared")
    eventually(lambda: space.kube.get("pv", volumes) is None, 90, "the volume goes with its claim")


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
    assert "No space left on device" in space.log("writer")


def test_fake_gpus_are_scheduled_by(kube: Kube, space: Space) -> None:
    try:
        cluster("up", "--fake-gpus", "2")
        space.run("gpu", "node-1", "true", container={"resources": {"limits": {"nvidia.com/gpu": "2"}}})
        space.wait("gpu", "Succeeded")
    finally:
        cluster("up", "--fake-gpus", "0")
    found = kube.get("node", "node-1") or {}
    assert found["status"]["capacity"]["nvidia.com/gpu"] == "0"


@pytest.mark.long
@pytest.mark.alone
def test_lost_nodes_are_noticed_and_come_back(kube: Kube, space: Space, mended: None) -> None:
    faults = dict(zip(("unplug", "kill-node"), gather_control_plane(kube), strict=True))
    for node in faults.values():
        space.run(f"resident-{node}", node, "sleep 600", restartPolicy="Always")
    for node in faults.values():
        space.wait(f"resident-{node}", "Running")
    for fault, node in faults.items():
        cluster(fault, node)
    for node in faults.values():
        eventually(lambda node=node: not ready(kube, node), 35, f"{node} NotReady")
    cluster("up")
    for node in faults.values():
        assert ready(kube, node)
        eventually(lambda node=node: space.obeys(f"resident-{node}"), 90, f"{node}'s pod to obey")
