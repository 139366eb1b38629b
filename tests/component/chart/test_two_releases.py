"""Two releases in one cluster: side by side with namespaces of their own, refused where these overlap."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from tests.component.chart.helm_cluster import QUICK, HelmCluster, helm_cluster
from tests.component.footplate_api.usages import record
from tests.component.footplate_operator.api import wait_for
from tests.support.operator_fakes import profile_manifest, run_manifest
from tests.support.usage_worlds import pod

A, B = "footplate-system", "footplate-b"  # the namespaces of the releases
ACCOUNT: Final = {
    name: f"system:serviceaccount:{name}:{release}"
    for name, release in ((A, "footplate"), (B, "b-footplate"))
}


@dataclass(frozen=True)
class Cluster:
    """An API server on which real releases are installed, whose pods nobody starts."""

    releases: HelmCluster

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """What it said to an administrator."""
        return self.releases.kubectl(*arguments, stdin=stdin)

    def status_refusal(self, namespace: str, account: str) -> str:
        """What is answered to an operator that writes the status of the run there; empty: it is taken."""
        patch = ("patch", "trun", "tiny", f"--namespace={namespace}", "--subresource=status", "--type=merge")
        said = json.dumps({"status": {"replicas": 2}})
        done = self.releases.kubectl.run(
            *patch, "-p", said, f"--as={account}-operator", "--as-group=system:masters"
        )
        return done.stderr if done.returncode else ""

    def create_refusal(self, body: dict[str, Any], account: str) -> str:
        """The same of an object that it creates."""
        create = (
            "create",
            "--dry-run=server",
            "--filename=-",
            f"--as={account}",
            "--as-group=system:masters",
        )
        done = self.releases.kubectl.run(*create, stdin=json.dumps(body))
        return done.stderr if done.returncode else ""


def narrowed(*namespaces: str, cluster_scoped: bool = True) -> tuple[str, ...]:
    """Flags of a release that serves these."""
    return (
        f"--set-json=operator.watchNamespaces={json.dumps(namespaces)}",
        f"--set=clusterScoped.enabled={json.dumps(cluster_scoped)}",
    )


# A release, its namespace and flags, and what it is refused with beside `footplate`.
REFUSED: Final[list[tuple[str, str, tuple[str, ...], str]]] = [
    (
        "b",
        B,
        narrowed("team-b", "team-a", cluster_scoped=False),
        "operator.watchNamespaces of release b in namespace footplate-b is [team-b team-a], and release"
        " footplate in namespace footplate-system serves [team-a]: two operators would act upon the",
    ),
    (
        "b",
        B,
        (),
        "operator.watchNamespaces of release b in namespace footplate-b is [], and release footplate in"
        " namespace footplate-system serves [team-a]",
    ),
    (
        "b",
        B,
        narrowed("team-b"),
        "clusterScoped.enabled is true, but release footplate in namespace footplate-system already manages",
    ),
    (
        "b",
        A,
        narrowed("team-b", cluster_scoped=False),
        "release footplate in namespace footplate-system already exists: give release b its own namespace",
    ),
    (
        "footplate",
        B,
        narrowed("team-b", cluster_scoped=False),
        "release footplate in namespace footplate-system has this name, which cluster-scoped objects",
    ),
]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """One with release `footplate` for team-a, which has the cluster-scoped objects."""
    with helm_cluster(tmp_path / "server") as releases:
        for name in ("team-a", "team-b"):
            releases.kubectl("create", "namespace", name)
        releases.done("install", "footplate", ".", *narrowed("team-a"), QUICK, namespace=A)
        yield Cluster(releases)


def _each_serves_its_own(cluster: Cluster) -> None:
    cluster.releases.done("install", "b", ".", *narrowed("team-b", cluster_scoped=False), QUICK, namespace=B)
    # Its own policies are no other release's.
    cluster.releases.done("upgrade", "footplate", ".", *narrowed("team-a"), QUICK, namespace=A)
    cluster.kubectl("create", "--filename=-", stdin=json.dumps(profile_manifest("small")))
    for namespace in ("team-a", "team-b"):
        run = run_manifest(compute={"profile": "small", "nodes": 2})
        run["metadata"] = {"name": "tiny", "namespace": namespace}
        cluster.kubectl("create", "--filename=-", stdin=json.dumps(run))
    for own, other, account in (("team-a", "team-b", ACCOUNT[A]), ("team-b", "team-a", ACCOUNT[B])):
        alone = f"status is written by {ACCOUNT[B if own == 'team-a' else A]}-operator alone"
        wait_for(partial(cluster.status_refusal, other, account), "the policies are in force")
        assert alone in cluster.status_refusal(other, account)
        assert cluster.status_refusal(own, account) == ""


def _what_the_cluster_has_once_is_of_one(cluster: Cluster) -> None:
    price = {
        "apiVersion": "footplate.dev/v1alpha1",
        "kind": "PriceEntry",
        "metadata": {"name": "first", "annotations": {"footplate.dev/requested-by": "jane"}},
        "spec": {
            "profile": "small",
            "dollarsPerNodeHour": 1,
            "effectiveFrom": "2026-01-01T00:00:00Z",
            "createdBy": "jane",
        },
    }
    assert cluster.create_refusal(price, f"{ACCOUNT[A]}-api") == ""
    # Two policies refuse it, and either may be the first.
    assert "ValidatingAdmissionPolicy 'footplate-" in cluster.create_refusal(price, f"{ACCOUNT[B]}-api")
    for namespace, account in (("team-a", ACCOUNT[A]), ("team-b", ACCOUNT[B])):
        other = ACCOUNT[B if account == ACCOUNT[A] else A]
        usage = {
            "apiVersion": "footplate.dev/v1alpha1",
            "kind": "UsageRecord",
            "metadata": {"name": "uid-0"},
            "spec": record([pod()]),
        }
        usage["spec"]["owner"]["namespace"] = namespace
        assert cluster.create_refusal(usage, f"{account}-operator") == ""
        assert "usage records are written by the operator" in cluster.create_refusal(
            usage, f"{other}-operator"
        )
    node = {**usage, "metadata": {"name": "node-1"}, "spec": {"nodes": {}}}
    assert "records of usage" not in cluster.create_refusal(node, f"{ACCOUNT[A]}-operator")
    assert "usage records are written by the operator" in cluster.create_refusal(
        node, f"{ACCOUNT[B]}-operator"
    )


def test_side_by_side_and_what_cannot_be_is_refused(cluster: Cluster) -> None:
    """In this order: what is refused names the one release that is there."""
    for release, namespace, flags, said in REFUSED:
        refused = cluster.releases.helm("install", release, ".", *flags, namespace=namespace)
        assert refused.returncode != 0 and said in refused.stderr, refused.stderr
    _each_serves_its_own(cluster)
    _what_the_cluster_has_once_is_of_one(cluster)
