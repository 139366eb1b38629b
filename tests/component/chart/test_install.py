"""One command installs everything on an empty cluster, one upgrades it; with the real Helm."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from tools.crds import all_definitions

from tests.component.chart.helm_cluster import QUICK, HelmCluster, helm_cluster
from tests.component.footplate_operator.api import wait_for
from tests.support.chart import NAMESPACE, VERSION, rendered
from tests.support.connection import Json
from tests.support.operator_fakes import run_manifest
from tests.support.released.tree import previous_tree

KINDS: Final = {definition["metadata"]["name"] for definition in all_definitions().values()}
PROFILES: Final = {"a100-infiniband", "h100-infiniband", "h100-ethernet", "local-cpu"}
PRICE: Final = {"profile": "local-cpu", "dollarsPerNodeHour": 0.5, "effectiveFrom": "2026-01-01T00:00:00Z"}
CARBON: Final = {
    "zone": "FRA",
    "points": [{"from": "2026-01-01T00:00:00Z", "gramsPerKilowattHour": 31}],
}
BOOK: Final = (
    f"--set-json=prices.cheap={json.dumps(PRICE)}",
    f"--set-json=carbonIntensities.fra={json.dumps(CARBON)}",
)
WITHOUT_CRDS: Final = "--set=crds.enabled=false"
RUNS: Final = "trainingruns.footplate.dev"
ETHERNET: Final = "profiles.items.h100-ethernet.enabled"
DEAR: Final = "profiles.items.h100-infiniband.spec.price.dollarsPerNodeHour"
# What an installation makes beside its objects of our own kinds.
OF_KUBERNETES: Final = {
    "rbac.authorization.k8s.io/v1": ("clusterroles", "clusterrolebindings", "roles", "rolebindings"),
    "admissionregistration.k8s.io/v1": (
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
    ),
    "apps/v1": ("deployments",),
    "batch/v1": ("jobs",),
}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[HelmCluster]:
    """An empty one."""
    with helm_cluster(tmp_path / "server") as found:
        yield found


def begin_a_run(cluster: HelmCluster) -> None:
    """One that an operator would take."""
    run = run_manifest(compute={"profile": "local-cpu", "nodes": 2}) | {
        "metadata": {"name": "tiny", "namespace": "default"}
    }
    text = json.dumps(run)
    wait_for(
        lambda: cluster.kubectl.run("create", "--filename=-", stdin=text).returncode == 0, "a run is admitted"
    )


def profile(cluster: HelmCluster, name: str) -> Json:
    """As it is stored."""
    return cluster.ask(f"/apis/footplate.dev/v1alpha1/computeprofiles/{name}")


def price_of(cluster: HelmCluster, name: str) -> float:
    """Dollars of its node for an hour."""
    return float(profile(cluster, name)["spec"]["price"]["dollarsPerNodeHour"])


def uids(cluster: HelmCluster) -> dict[str, str]:
    """By which one sees whether profiles and runs are those that they were."""
    found: dict[str, str] = {}
    for plural in ("computeprofiles", "trainingruns"):
        for item in cluster.ask(f"/apis/footplate.dev/v1alpha1/{plural}")["items"]:
            found[item["metadata"]["name"]] = item["metadata"]["uid"]
    return found


def crds(cluster: HelmCluster) -> dict[str, dict[str, Any]]:
    """Our definitions by their names."""
    items = cluster.ask("/apis/apiextensions.k8s.io/v1/customresourcedefinitions")["items"]
    return {item["metadata"]["name"]: item for item in items}


def columns(definition: Json) -> list[str]:
    """What kubectl shows of its objects."""
    [version] = definition["spec"]["versions"]
    return [column["name"] for column in version["additionalPrinterColumns"]]


def left_of_it(cluster: HelmCluster) -> set[str]:
    """Objects of the release among those that Kubernetes has kinds for."""
    label = "?labelSelector=app.kubernetes.io/part-of=footplate"
    return {
        f"{plural}/{item['metadata']['name']}"
        for group, plurals in OF_KUBERNETES.items()
        for plural in plurals
        for item in cluster.ask(f"/apis/{group}/{plural}{label}")["items"]
    }


def test_one_command_installs_on_an_empty_cluster_and_the_next_upgrades(cluster: HelmCluster) -> None:
    cluster.done("install", "footplate", ".", *BOOK)
    assert cluster.jobs == ["footplate-kinds"]
    assert crds(cluster).keys() == KINDS and cluster.names("computeprofiles") == PROFILES
    assert cluster.names("priceentries") == {"cheap"} and cluster.names("carbonintensities") == {"fra"}
    begin_a_run(cluster)
    before = uids(cluster)
    cluster.kubectl("patch", "cprof", "a100-infiniband", "--type=merge", "-p", '{"spec":{"energy":null}}')

    cluster.done("upgrade", "footplate", ".", *BOOK, f"--set={DEAR}=50", f"--set={ETHERNET}=false")
    after = uids(cluster)
    assert before.keys() - after.keys() == {"h100-ethernet"}
    assert {name for name, uid in after.items() if before[name] != uid} == {"h100-infiniband"}
    assert price_of(cluster, "h100-infiniband") == 50
    assert "energy" not in profile(cluster, "a100-infiniband")["spec"], "somebody's edit stays"
    cluster.done("upgrade", "footplate", ".", *BOOK, f"--set={DEAR}=60", QUICK)
    assert cluster.names("computeprofiles") == PROFILES and price_of(cluster, "h100-infiniband") == 60
    assert uids(cluster)["h100-infiniband"] == after["h100-infiniband"], "changed in place from then on"

    cluster.done("rollback", "footplate", "1")
    assert cluster.names("computeprofiles") == PROFILES and price_of(cluster, "h100-infiniband") == 98.32
    assert cluster.names("priceentries") == {"cheap"} and uids(cluster)["tiny"] == before["tiny"]
    assert cluster.jobs == ["footplate-kinds"], "kinds that are served are waited for by nobody"
    cluster.done("uninstall", "footplate")
    assert cluster.names("computeprofiles") == set(), "those that its hooks made"


def test_what_broke_off_goes_on_and_what_an_uninstall_leaves_is_found_again(cluster: HelmCluster) -> None:
    refused = cluster.helm("install", "footplate", ".", WITHOUT_CRDS)
    assert "crds.enabled is false, but this cluster does not serve footplate.dev/v1alpha1" in refused.stderr
    cluster.failing.add("footplate-kinds")
    install = ("upgrade", "footplate", ".", "--install", "--create-namespace", *BOOK)
    half = cluster.helm(*install, QUICK)
    assert half.returncode != 0 and "job footplate-kinds failed" in half.stderr
    cluster.done(*install, QUICK)
    begin_a_run(cluster)
    run = uids(cluster)["tiny"]
    cluster.done("uninstall", "footplate")
    assert crds(cluster).keys() == KINDS and uids(cluster) == {"tiny": run}, "no profile is left"
    assert cluster.names("priceentries") == {"cheap"} and cluster.names("carbonintensities") == set()
    assert left_of_it(cluster) == set()
    claims = cluster.ask(f"/api/v1/namespaces/{NAMESPACE}/persistentvolumeclaims")["items"]
    assert [claim["metadata"]["name"] for claim in claims] == ["footplate-api"]

    cluster.done("install", "footplate", ".", *BOOK, QUICK)
    assert cluster.jobs == ["footplate-kinds"], "the first time"
    assert uids(cluster).keys() == PROFILES | {"tiny"} and uids(cluster)["tiny"] == run
    _what_cannot_be_is_refused(cluster)
    cluster.done("upgrade", "footplate", ".", WITHOUT_CRDS, QUICK)
    definition = crds(cluster)[RUNS]["metadata"]
    assert definition["annotations"]["footplate.dev/written-by"] == "9.0.0", "left as it is"
    assert cluster.names("priceentries") == {"cheap"} and cluster.names("carbonintensities") == set()


def _what_cannot_be_is_refused(cluster: HelmCluster) -> None:
    dear = json.dumps(PRICE | {"dollarsPerNodeHour": 0.7})
    refused = cluster.helm("upgrade", "footplate", ".", f"--set-json=prices.cheap={dear}")
    assert "prices.cheap is {" in refused.stderr and "with supersedes: cheap" in refused.stderr
    cluster.kubectl("annotate", "--overwrite", "crd", RUNS, "footplate.dev/written-by=9.0.0")
    refused = cluster.helm("upgrade", "footplate", ".")
    assert (
        f"crds.enabled is true, but CustomResourceDefinition {RUNS} of this cluster is of release 9.0.0, and"
        f" this chart is of {VERSION}: use a chart of 9.0.0 or newer, or set crds.enabled=false"
    ) in refused.stderr


def test_definitions_that_somebody_else_has_applied_are_taken_over(cluster: HelmCluster) -> None:
    """As `kubectl apply` leaves them: Helm knows nothing of them until it is told to take them."""
    applied = [
        definition | {"metadata": {"name": definition["metadata"]["name"]}}
        for definition in all_definitions().values()
    ]
    listed = {"apiVersion": "v1", "kind": "List", "items": applied}
    cluster.kubectl.run("create", "--filename=-", stdin=json.dumps(listed))
    older = '[{"op": "remove", "path": "/spec/versions/0/additionalPrinterColumns/0"}]'
    cluster.kubectl("patch", "crd", RUNS, "--type=json", "-p", older)
    refused = cluster.helm("install", "footplate", ".", QUICK)
    assert 'key "app.kubernetes.io/managed-by": must be set to "Helm"' in refused.stderr
    before = {name: definition["metadata"]["uid"] for name, definition in crds(cluster).items()}
    assert before.keys() == KINDS

    cluster.done("install", "footplate", ".", "--take-ownership", QUICK)
    for name, definition in crds(cluster).items():
        assert definition["metadata"]["uid"] == before[name]
        assert columns(definition) == columns(all_definitions()[f"{name}.yaml"]), name
        assert definition["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
        assert definition["metadata"]["annotations"]["footplate.dev/written-by"] == VERSION
    cluster.done("upgrade", "footplate", ".", QUICK)


def test_a_development_versions_definitions_are_refused(cluster: HelmCluster) -> None:
    """Objects of commits before 0.1.0 have another schema, so the chart says what to remove."""
    cluster.done("install", "footplate", ".", QUICK)
    schema = "/spec/versions/0/schema/openAPIV3Schema/properties/status/properties/internal"
    cluster.kubectl("patch", "crd", RUNS, "--type=json", "-p", json.dumps([{"op": "remove", "path": schema}]))
    refused = cluster.helm("upgrade", "footplate", ".", QUICK)
    assert (
        f"CustomResourceDefinition {RUNS} of this cluster: written by a development version" in refused.stderr
    )
    _, command = refused.stderr.strip().split("kubectl ")
    cluster.kubectl(*command.split())
    assert command.split()[2:] == sorted(KINDS) and crds(cluster) == {}
    cluster.done("upgrade", "footplate", ".", QUICK)
    assert crds(cluster).keys() == KINDS


def test_one_upgrade_follows_the_previous_release(cluster: HelmCluster, previous: str) -> None:
    cluster.done("install", "footplate", previous, QUICK)
    begin_a_run(cluster)
    before = uids(cluster)
    cluster.done("upgrade", "footplate", ".", QUICK)
    assert crds(cluster).keys() == KINDS and before.items() <= uids(cluster).items()
    cluster.done("rollback", "footplate", "1")
    assert crds(cluster).keys() == KINDS and uids(cluster)["tiny"] == before["tiny"]


@pytest.fixture(scope="module")
def previous() -> str:
    """The chart of the previous release."""
    return str(previous_tree() / "charts" / "footplate")


def test_rights_that_somebody_else_has_given_are_taken_over(cluster: HelmCluster) -> None:
    """As README.md lists them: with the chart's labels, and without an annotation of Helm's."""
    given = [
        item
        for item in rendered()
        if item["apiVersion"] == "rbac.authorization.k8s.io/v1"
        and "helm.sh/hook" not in item["metadata"].get("annotations", {})
    ]
    cluster.done("install", "footplate", ".", "--set=rbac.create=false", QUICK)
    cluster.kubectl(
        "apply", "--filename", "-", stdin=json.dumps({"kind": "List", "apiVersion": "v1", "items": given})
    )
    upgrade = ("upgrade", "footplate", ".", "--reset-then-reuse-values", "--set=rbac.create=true", QUICK)
    refused = cluster.helm(*upgrade)
    assert "exists and cannot be imported into the current release" in refused.stderr
    assert 'missing key "meta.helm.sh/release-name"' in refused.stderr
    cluster.done(*upgrade, "--take-ownership")
    roles = cluster.ask("/apis/rbac.authorization.k8s.io/v1/clusterroles")["items"]
    noted = {
        item["metadata"]["name"]
        for item in roles
        if "meta.helm.sh/release-name" in item["metadata"].get("annotations", {})
    }
    assert noted == {item["metadata"]["name"] for item in given if item["kind"] == "ClusterRole"}
