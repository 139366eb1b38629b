"""`helm test` of an installation: Helm, API server and API are real, and the kubelet is played."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from cluster.kubernetes.envtest import ApiServer
from cluster.machine.ports import claim_ports
from demo.install import wait_for_admission
from demo.kube import DemoError, Kube
from tests.component.chart.helm_cluster import QUICK, helm_cluster
from tests.component.contracts.kube import Kubectl
from tests.component.footplate_api.test_process import arguments, elsewhere, ended
from tests.component.footplate_api.test_tls import told
from tests.component.footplate_operator.api import wait_for
from tests.component.footplate_operator.conftest import kubeconfig_of
from tests.support import programs
from tests.support.certificates import Issuer, Volume
from tests.support.chart import NAMESPACE, helm, one, rendered, rights
from tests.support.connection import ask

POD: Final = "footplate-test"
MOUNT: Final = "/etc/footplate/api/"


@dataclass(frozen=True)
class Installation:
    """A release on an API server, whose pods nobody starts but the test."""

    server: ApiServer
    kubectl: Kubectl
    folder: Path
    notes: str  # what Helm said when it was installed

    def helm(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return helm(*arguments, f"--kubeconfig={self.server.kubeconfig}", f"--namespace={NAMESPACE}")

    def kube(self) -> Kube:
        """Its tools as the demo has them."""
        path = f"{self.kubectl.program.parent}:{os.environ['PATH']}"
        return Kube({**elsewhere(), "PATH": path, "KUBECONFIG": str(self.server.kubeconfig)})

    def token(self, account: str, *flags: str) -> str:
        """One of a service account, as the kubelet gets it for a pod."""
        return self.kubectl("create", "token", account, f"--namespace={NAMESPACE}", *flags).strip()

    def get(self, *what: str) -> dict[str, Any] | None:
        found = self.kubectl("get", *what, f"--namespace={NAMESPACE}", "--ignore-not-found", "-o", "json")
        return json.loads(found) if found else None

    def new_pod(self) -> dict[str, Any] | None:
        """That of the test; that of an earlier one has ended."""
        _, pod = ask(self.server.kubeconfig, "GET", f"/api/v1/namespaces/{NAMESPACE}/pods/{POD}")
        return pod if pod["kind"] == "Pod" and pod["status"]["phase"] == "Pending" else None

    @contextmanager
    def api(self, issuer: Issuer) -> Iterator[int]:
        """The API, with the rights that the chart gives it; its port."""
        [port] = claim_ports(1)
        volume = Volume(self.folder / "tls")
        volume.put(issuer.serving("footplate-api", NAMESPACE))
        own = kubeconfig_of(self.server, "api", self.token("footplate-api"))
        database = f"sqlite:///{self.folder}/data/footplate.db"
        environment = {**elsewhere(), "FOOTPLATE_DATABASE_URL": database, **told(volume)}
        with ended(programs.start("footplate_api.__main__", arguments(port, own), environment)):
            yield port

    def play_the_kubelet(self, port: int, issuer: Issuer, seconds: float) -> int:
        """Run the pod of `helm test` once it is there, as its manifest says; its exit code."""
        pod = wait_for(self.new_pod, "Helm has made the pod")
        [container] = pod["spec"]["containers"]
        python, flag, module = container["command"]
        assert (python, flag) == ("python", "-m")
        account = pod["spec"]["serviceAccountName"]
        [volume] = pod["spec"]["volumes"]
        token, _ = volume["projected"]["sources"]
        audience = token["serviceAccountToken"]["audience"]
        mounted = self.folder / "mounted"
        mounted.mkdir(exist_ok=True)
        (mounted / "token").write_text(self.token(account, f"--audience={audience}"))
        (mounted / "ca.crt").write_text(issuer.bundle)
        told = {item["name"]: item["value"].replace(MOUNT, f"{mounted}/") for item in container["env"]}
        del told["SSL_CERT_FILE"]  # of a pod; the kubeconfig says whom to trust
        own = {"KUBECONFIG": str(kubeconfig_of(self.server, "test", self.token(account)))}
        here = {"FOOTPLATE_API_URL": f"https://127.0.0.1:{port}"}
        process = programs.start(module, ["--seconds", str(seconds)], {**elsewhere(), **told, **own, **here})
        code = process.wait(seconds + 60)
        phase = "Failed" if code else "Succeeded"
        status = json.dumps({"status": {"phase": phase}})
        patch = ("patch", "pod", POD, f"--namespace={NAMESPACE}", "--subresource=status", "--type=merge")
        self.kubectl(*patch, "-p", status)
        return code

    def is_tested(self, port: int, issuer: Issuer, seconds: float) -> tuple[int, int]:
        """Exit codes of `helm test`, and of what it runs."""
        done: list[subprocess.CompletedProcess[str]] = []
        thread = threading.Thread(target=lambda: done.append(self.helm("test", "footplate")))
        thread.start()
        code = self.play_the_kubelet(port, issuer, seconds)
        thread.join(timeout=120)
        assert not thread.is_alive(), "helm test does not end after its pod has"
        return done[0].returncode, code


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    with helm_cluster(tmp_path / "server") as cluster:
        notes = cluster.done("install", "footplate", ".", QUICK)
        yield Installation(cluster.server, cluster.kubectl, tmp_path, notes)


def test_it_fails_without_an_api_and_waits_until_there_is_one(installation: Installation) -> None:
    issuer, [nobody] = Issuer(), claim_ports(1)
    assert installation.notes.splitlines()[-1] == f"  helm test footplate --namespace {NAMESPACE}"
    assert installation.is_tested(nobody, issuer, seconds=0) == (1, 1)
    assert installation.get("pod", POD) is not None, "whose log says why"
    with installation.api(issuer) as port:
        assert installation.is_tested(port, issuer, seconds=90) == (0, 0)
    for left in ("pod", "serviceaccount", "role", "rolebinding", "clusterrole", "clusterrolebinding"):
        assert installation.get(left, POD) is None, "it is there for the test alone"
    wait_for_admission(installation.kube())
    assert installation.kubectl("get", "trainingruns", "--all-namespaces", "-o", "name") == ""
    installation.kubectl("delete", "computeprofiles", "--all")
    with pytest.raises(DemoError, match=r"^there is no ComputeProfile"):
        wait_for_admission(installation.kube(), seconds=0)


@pytest.mark.parametrize(
    ("flags", "where"),
    [
        pytest.param((), NAMESPACE, id="everywhere"),
        pytest.param(("--set=operator.watchNamespaces={team-a,team-b}",), "team-a", id="narrowed"),
    ],
)
def test_rights_of_the_test(flags: tuple[str, ...], where: str) -> None:
    objects = rendered(*flags)
    hooks = [item for item in objects if "helm.sh/hook" in item["metadata"].get("annotations", {})]
    assert {item["metadata"]["annotations"]["helm.sh/hook"] for item in hooks} == {"test"}
    assert rights(one(objects, "ClusterRole", POD)) == {("footplate.dev", "computeprofiles"): {"list"}}
    role = one(objects, "Role", POD)
    assert rights(role) == {("footplate.dev", "trainingruns"): {"list", "create"}}
    assert role["metadata"]["namespace"] == where
    told = one(objects, "Pod", POD)["spec"]["containers"][0]["env"]
    assert {"name": "FOOTPLATE_NAMESPACE", "value": where} in told
