"""What the chart has of our own kinds: definitions, profiles and prices, and which values it refuses."""

from __future__ import annotations

from typing import Any

import pytest
from tools.crds import all_definitions

from tests.support.chart import VERSION, objects_in, rendered, template

PRICES = '{"a": {"profile": "a", "dollarsPerNodeHour": 1, "effectiveFrom": "2026-01-01T00:00:00Z"}}'


def specs(kind: str, *flags: str) -> dict[str, Any]:
    """Specs of a kind by the names of their objects."""
    return {item["metadata"]["name"]: item["spec"] for item in rendered(*flags) if item["kind"] == kind}


@pytest.mark.parametrize(("keep", "policy"), [("true", "keep"), ("delete-every-run", None)])
def test_definitions_are_those_of_the_contracts_and_stay(keep: str, policy: str | None) -> None:
    every = objects_in(template(f"--set=crds.keep={keep}").stdout)
    objects = [item for item in every if item["kind"] == "CustomResourceDefinition"]
    definitions = all_definitions().values()
    expected = {definition["metadata"]["name"]: definition["spec"] for definition in definitions}
    assert {item["metadata"]["name"]: item["spec"] for item in objects} == expected
    annotations = [item["metadata"]["annotations"] for item in objects]
    assert {noted.get("helm.sh/resource-policy") for noted in annotations} == {policy}
    assert {noted["footplate.dev/written-by"] for noted in annotations} == {VERSION}


def test_a_release_that_is_not_cluster_scoped_has_nothing_of_the_whole_cluster() -> None:
    def of_the_cluster(*flags: str) -> set[str]:
        kinds = {"CustomResourceDefinition", "ComputeProfile", "PriceEntry", "CarbonIntensity"}
        given = ("--set=operator.watchNamespaces={demo}", f"--set-json=prices={PRICES}")
        return {item["kind"] for item in objects_in(template(*given, *flags).stdout)} & kinds

    assert of_the_cluster() == {"CustomResourceDefinition", "ComputeProfile", "PriceEntry"}
    assert of_the_cluster("--set=crds.enabled=false") == {"ComputeProfile", "PriceEntry"}
    assert of_the_cluster("--set=clusterScoped.enabled=false") == set()


def test_profiles_are_added_changed_and_left_out() -> None:
    profiles = specs(
        "ComputeProfile",
        "--set=profiles.items.local-cpu.enabled=false",
        "--set=profiles.items.h100-infiniband.spec.network.rdma.resource=rdma/hca",
        '--set-json=profiles.items.mine={"spec": {"backend": "gloo"}}',
    )
    assert profiles.keys() == {"a100-infiniband", "h100-infiniband", "h100-ethernet", "mine"}
    assert profiles["h100-infiniband"]["network"]["rdma"] == {"resource": "rdma/hca", "count": 8}
    assert profiles["mine"] == {"backend": "gloo"}


def test_prices_outlive_their_release() -> None:
    """Nobody deletes an entry: Helm must not try to."""
    [entry] = [item for item in rendered(f"--set-json=prices={PRICES}") if item["kind"] == "PriceEntry"]
    assert entry["metadata"]["name"] == "a" and entry["spec"]["dollarsPerNodeHour"] == 1
    assert entry["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        pytest.param(
            "profiles.h100Infiniband.rdmaResource=rdma/hca",
            'profiles.h100Infiniband is {"rdmaResource":"rdma/hca"}, the format of earlier charts',
            id="profile-of-an-earlier-release",
        ),
        pytest.param(
            "profiles.items.local-cpu.spec.cpus=2",
            "at '/profiles/items/local-cpu/spec': additional properties 'cpus' not allowed",
            id="field-of-a-profile",
        ),
        pytest.param(
            "profiles.items.h100-infiniband.spec.price.dollarsPerNodeHour=-1",
            "at '/profiles/items/h100-infiniband/spec/price/dollarsPerNodeHour'",
            id="price-of-a-profile",
        ),
        pytest.param(
            "profiles.items.local-cpu.spec.resources.requests.cpus=2",
            'profiles.items.local-cpu.spec.resources.requests of cpus names "cpus", which no node has',
            id="unknown-resource",
        ),
        pytest.param(
            "profiles.items.h100-infiniband.spec.gpu.resource=gpu",
            'profiles.items.h100-infiniband.spec.gpu.resource names "gpu", which no node has',
            id="unknown-gpu",
        ),
        pytest.param(
            "profiles.items.h100-infiniband.spec.network.rdma.resource=/ib",
            'profiles.items.h100-infiniband.spec.network.rdma.resource names "/ib", which no node has',
            id="unknown-rdma",
        ),
        pytest.param("prices.May.profile=a", "invalid propertyName 'May'", id="name-of-a-price"),
        pytest.param(
            "prices.may.createdBy=jane", "additional properties 'createdBy' not allowed", id="signed-price"
        ),
        pytest.param(
            "prices.may.source=ComputeProfile a", "at '/prices/may/source'", id="price-in-a-profiles-name"
        ),
        pytest.param("crds.keep=false", "crds.keep is false: helm uninstall", id="runs-deleted"),
        pytest.param("crds=null", "crds is missing from the values", id="values-of-an-earlier-release"),
    ],
)
def test_wrong_values_are_refused(flag: str, says: str) -> None:
    done = template("--set", flag)
    assert done.returncode != 0
    assert says in done.stderr
