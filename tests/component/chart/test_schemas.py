"""The oldest and the newest Kubernetes take every rendered object; every pod is a restricted one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from cluster.kubernetes.envtest import api_server
from tests.component.contracts.kube import Kubectl
from tests.support.chart import CHART, NAMESPACE, rendered, template
from tests.support.kubernetes_schemas import faults, releases

ALL: Final = Path(__file__).parent / "values" / "everything.yaml"
SETS: Final = {
    "default": (),
    "local": ("--values", "values-local.yaml"),
    "everything": ("--values", str(ALL)),
    "everything-else": ("--set=operator.handOver=true,networkPolicy.enabled=false,rbac.create=false",),
}
_CHART: Final = yaml.safe_load((CHART / "Chart.yaml").read_text())
OLDEST: Final = _CHART["kubeVersion"].removeprefix(">=").rpartition(".")[0]
NEWEST: Final = releases()[-1]
RESTRICTED: Final = "pod-security.kubernetes.io/enforce=restricted"


def test_which_releases_of_kubernetes_are_meant() -> None:
    assert f">={OLDEST}.0-0" == _CHART["kubeVersion"] and OLDEST in releases()
    assert [int(part) for part in NEWEST.split(".")] >= [1, 37]


@pytest.mark.parametrize("release", [OLDEST, NEWEST])
@pytest.mark.parametrize("values", SETS.values(), ids=SETS)
def test_kubernetes_takes_what_is_rendered(values: tuple[str, ...], release: str) -> None:
    objects = rendered(f"--kube-version={release}.0", *values)
    assert [fault for body in objects for fault in faults(body, release)] == []


def test_everything_is_everything() -> None:
    """What no other set renders is rendered by that one."""
    kinds = {name: {item["kind"] for item in rendered(*values)} for name, values in SETS.items()}
    everything = kinds.pop("everything")
    only_with_a_file = {"PersistentVolumeClaim"}
    assert set.union(*kinds.values()) - everything <= only_with_a_file
    of_others = {"Certificate", "ServiceMonitor", "PrometheusRule"}
    assert of_others | {"Ingress", "PodDisruptionBudget", "Job"} <= everything


def _deployment(**more: Any) -> dict[str, Any]:
    pod = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "a", "image": "b"}]}}
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": pod, **more}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec}


@pytest.mark.parametrize("release", [OLDEST, NEWEST])
@pytest.mark.parametrize(
    ("body", "says"),
    [
        pytest.param(_deployment(), [], id="right"),
        pytest.param(_deployment(replicas="x"), ["Deployment d: spec.replicas: "], id="type"),
        pytest.param(_deployment(replica=1), ["Deployment d: spec: "], id="field"),
        pytest.param(
            {
                "apiVersion": "footplate.dev/v1alpha1",
                "kind": "ComputeProfile",
                "metadata": {"name": "p"},
                "spec": {"backend": "gloo", "processesPerNod": 1},
            },
            ["ComputeProfile p: spec: "],
            id="field-of-ours",
        ),
    ],
)
def test_what_is_wrong_is_told(body: dict[str, Any], says: list[str], release: str) -> None:
    told = faults(body, release)
    assert [any(fault.startswith(said) for fault in told) for said in says] == [True] * len(says)
    assert bool(told) == bool(says)


def test_a_kind_that_is_not_known_is_no_right_one() -> None:
    with pytest.raises(LookupError, match=r"1\.30 has no Deployment of apps/v9"):
        faults(_deployment() | {"apiVersion": "apps/v9"}, "1.30")


def test_an_older_cluster_is_refused() -> None:
    done = template("--kube-version=1.29.9")
    assert done.returncode != 0
    said = "chart requires kubeVersion: >=1.30.0-0 which is incompatible with Kubernetes v1.29.9"
    assert said in done.stderr
    assert template("--kube-version=1.30.0").returncode == 0


def _pods(objects: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each pod that comes of these, with a name of its own."""
    for body in objects:
        name, spec = f"{body['kind']}-{body['metadata']['name']}".lower(), body.get("spec", {})
        pod = body if body["kind"] == "Pod" else spec.get("template", {})
        if "containers" in pod.get("spec", {}):
            about = {"name": name, "labels": pod["metadata"].get("labels", {})}
            yield name, {"apiVersion": "v1", "kind": "Pod", "metadata": about, "spec": pod["spec"]}


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    """Of an API server with our kinds and the namespaces of all sets."""
    with api_server(tmp_path_factory.mktemp("schemas") / "server") as server:
        found = Kubectl(server.kubectl, server.kubeconfig)
        for name in (NAMESPACE, "research", "demo", "strict"):
            found("create", "namespace", name)
        found("label", "namespace", "strict", RESTRICTED)
        found("apply", "--server-side", "--filename=crds/")
        found("wait", "--for=condition=Established", "--timeout=30s", "--filename=crds/")
        yield found


@pytest.mark.parametrize("values", SETS.values(), ids=SETS)
def test_an_api_server_takes_what_is_rendered(kubectl: Kubectl, values: tuple[str, ...]) -> None:
    """It knows more than a schema says; of the kinds of others there is none here."""
    others = {"ServiceMonitor", "PrometheusRule", "Certificate"}
    objects = [body for body in rendered(*values) if body["kind"] not in others]
    bodies = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    kubectl("create", "--dry-run=server", "--validate=strict", "--filename=-", stdin=bodies)


def test_pods_are_taken_where_only_restricted_ones_are(kubectl: Kubectl) -> None:
    """So there is no level of Pod Security that a namespace may enforce and the chart does not meet."""
    pods = dict(_pods([body for values in SETS.values() for body in rendered(*values)]))
    wanted = {"deployment-footplate-operator", "deployment-footplate-api", "job-footplate-hand-over-before"}
    assert wanted | {"pod-footplate-test"} <= pods.keys()
    loose = json.loads(json.dumps(pods["deployment-footplate-api"]))
    del loose["spec"]["containers"][0]["securityContext"]
    create = ("create", "--dry-run=server", "--namespace=strict", "--filename=-")
    kubectl(*create, stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": [*pods.values()]}))
    refused = kubectl.run(*create, stdin=json.dumps(loose))
    assert 'violates PodSecurity "restricted:latest"' in refused.stderr
