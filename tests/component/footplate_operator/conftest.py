"""The real operator, with the rights that the chart gives it, against a real API server; nodes are small."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from tools.released import path_of

from cluster.kubernetes.envtest import ApiServer, api_server
from cluster.machine.ports import claim_ports
from footplate_operator.runtime.kinds import SECRET
from tests.component.footplate_operator.api import Api, wait_for
from tests.component.footplate_operator.kubelet import Node, StandIn
from tests.support import programs
from tests.support.chart import CHART, NAMESPACE, rendered
from tests.support.connection import Json
from tests.support.operator_fakes import profile_manifest

RIGHTS = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")
_NAMESPACES = itertools.count(2)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An API server with our CRDs."""
    with api_server(tmp_path_factory.mktemp("api-server")) as running:
        api = Api(running.kubectl, running.kubeconfig)
        api("apply", "--server-side", "-f", "crds/")
        api("wait", "--for=condition=Established", "--timeout=30s", "-f", "crds/")
        api.apply(profile_manifest())
        grant(running)
        yield running


def _secret(name: str) -> Json:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}}


def _of_rights(body: Json) -> bool:
    """Whether it belongs to what the operator may do: the policy that guards what it may delete unseen."""
    return str(body["metadata"]["name"]) == "footplate-secrets"


def _own_kubeconfig(server: ApiServer) -> Path:
    return server.kubeconfig.with_name("operator.kubeconfig")


def grant(server: ApiServer, chart: Path = CHART) -> None:
    """Write a kubeconfig with the rights that `chart` gives the operator, and no others."""
    home = Api(server.kubectl, server.kubeconfig, NAMESPACE)
    home.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    wanted = [body for body in rendered(chart=chart) if body["kind"] in RIGHTS or _of_rights(body)]
    leases = [body for body in wanted if body["metadata"].get("namespace", NAMESPACE) != NAMESPACE]
    home.apply(*(body for body in wanted if body not in leases))
    for body in leases:  # of Nodes, in a namespace of Kubernetes' own
        there = str(body["metadata"]["namespace"])
        Api(server.kubectl, server.kubeconfig).apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": there}}
        )
        Api(server.kubectl, server.kubeconfig, there).apply(body)
    own = kubeconfig_of(server, "operator", home("create", "token", "footplate-operator").strip())
    if any(_of_rights(body) for body in wanted):
        # A policy is in force a moment after it is written.
        elsewhere = Api(server.kubectl, own)
        Api(server.kubectl, server.kubeconfig).apply(_secret("somebodys"))
        wait_for(lambda: not elsewhere.may_delete(SECRET, "somebodys") or None, "the policy is in force")


def kubeconfig_of(server: ApiServer, name: str, token: str) -> Path:
    """A file of that name for whoever has this token."""
    kubeconfig = yaml.safe_load(server.kubeconfig.read_text())
    for user in kubeconfig["users"]:
        user["user"] = {"token": token}
    path = server.kubeconfig.with_name(f"{name}.kubeconfig")
    path.write_text(yaml.safe_dump(kubeconfig))
    return path


@contextmanager
def operator_process(
    server: ApiServer,
    folder: Path,
    identity: str = "one",
    module: str = "footplate_operator.__main__",
    kubeconfig: Path | None = None,
    api_service: str = "",
    api_url: str = "",
    tree: Path | None = None,
) -> Iterator[Process]:
    """An operator, until the block ends or it is ended; of the checkout `tree`, where that is another."""
    port = claim_ports(1)[0]
    environment = {
        **os.environ,
        "KUBECONFIG": str(kubeconfig or _own_kubeconfig(server)),
        "FOOTPLATE_NAMESPACE": NAMESPACE,
        "FOOTPLATE_IDENTITY": identity,
        "FOOTPLATE_TRAINER_IMAGE": "trainer:1",
        "FOOTPLATE_COORDINATOR_IMAGE": "coordinator:1",
        "FOOTPLATE_METRICS_PORT": str(port),
        "FOOTPLATE_NETWORK_POLICIES": "true",
        "FOOTPLATE_API_SERVICE": api_service,
        "FOOTPLATE_API_URL": api_url,
    }
    log = folder / f"operator-{port}.log"
    with log.open("ab") as output:
        process: programs.Running
        if tree is None:
            process = programs.start(module, [], environment, output.fileno())
        else:
            environment["PYTHONPATH"] = path_of(tree)
            argv = [sys.executable, "-P", "-m", module]
            process = subprocess.Popen(argv, env=environment, stdout=output, stderr=output)
    try:
        yield Process(process, port, log)
    finally:
        process.terminate()
        process.wait(timeout=20)


class Process:
    """A running operator."""

    def __init__(self, process: programs.Running, port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self.log = log

    def said(self, text: str) -> int:
        """How many lines of the log hold `text`."""
        return sum(text in line for line in self.log.read_text().splitlines())

    def ask(self, path: str) -> tuple[int, str]:
        """Status and body of its answer; 0 where there is none."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read().decode()
        except OSError:
            return 0, ""

    def resident_mebibytes(self) -> float:
        """Resident memory of the process."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        raise AssertionError("no VmRSS")


@pytest.fixture
def operator(server: ApiServer, tmp_path: Path) -> Iterator[Process]:
    """An operator that leads."""
    with operator_process(server, tmp_path) as process:
        wait_for(lambda: process.said("message=leading"), "the operator leads")
        yield process


@pytest.fixture
def api(server: ApiServer) -> Iterator[Api]:
    """A namespace of this test's own."""
    name = f"team-{next(_NAMESPACES)}"
    api = Api(server.kubectl, server.kubeconfig)
    api("create", "namespace", name)
    yield replace(api, namespace=name)
    replace(api, namespace=name)("delete", "trun", "--all", "--wait=false")


@pytest.fixture
def operators_api(server: ApiServer, api: Api) -> Api:
    """The same namespace with the rights that the chart gives the operator."""
    return replace(api, kubeconfig=_own_kubeconfig(server))


@pytest.fixture
def machine(api: Api) -> Iterator[str]:
    """A Node object that this test alone has."""
    name = f"machine-of-{api.namespace}"
    api.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
    yield name
    api("delete", "node", name, "--ignore-not-found")


@pytest.fixture
def node(api: Api, tmp_path: Path) -> Iterator[Node]:
    """A node that runs the pods of the namespace."""
    StandIn.saved.clear()
    node = Node(api, tmp_path, loopback_network())
    stop = threading.Event()
    thread = threading.Thread(target=node.keep, args=(stop,), daemon=True)
    thread.start()
    yield node
    stop.set()
    thread.join(timeout=20)
    node.close()


def loopback_network() -> str:
    """Three of the four numbers of loopback addresses that no other process of ours listens on.

    Coordinators of all tests have one port, and tests run side by side; a claimed port is a number of
    which there is one on this machine.
    """
    [number] = claim_ports(1)
    return f"127.{number >> 8}.{number & 0xFF}"
