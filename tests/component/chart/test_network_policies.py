"""Who reaches API and operator where a network enforces policies, by the rules of Kubernetes for these."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from footplate_contracts.names import ROLE_LABEL, Role
from footplate_operator.runtime.kinds import POD
from tests.support.chart import NAMESPACE, container, one, rendered, template
from tests.support.released.found import STORIES, found

Labels = Mapping[str, str]
API, OPERATOR = "footplate-api", "footplate-operator"
NARROWED: Final = "--set=operator.watchNamespaces={research,demo}"
PUBLISHED: Final = (
    "--set=api.ingress.enabled=true",
    "--set=api.ingress.host=a.b",
    "--set=api.ingress.tls.secretName=site",
)


@dataclass(frozen=True)
class Caller:
    """A pod that asks for something."""

    namespace: str
    labels: Labels = field(default_factory=dict)


COORDINATOR: Final = {"app.kubernetes.io/managed-by": "footplate", ROLE_LABEL: Role.COORDINATOR}
WORKER: Final = {**COORDINATOR, ROLE_LABEL: Role.WORKER}


def part(name: str, namespace: str = NAMESPACE) -> Caller:
    """A pod of this release, or of one of the same name elsewhere."""
    labels = {"app.kubernetes.io/name": "footplate", "app.kubernetes.io/instance": "footplate"}
    return Caller(namespace, {**labels, "app.kubernetes.io/component": name})


def selects(selector: dict[str, Any], labels: Labels) -> bool:
    """Whether a LabelSelector has these; AssertionError for what is not played here."""
    assert selector.keys() <= {"matchLabels", "matchExpressions"}
    for wanted in selector.get("matchExpressions", []):
        assert wanted["operator"] == "In"
        if labels.get(wanted["key"]) not in wanted["values"]:
            return False
    return selector.get("matchLabels", {}).items() <= labels.items()


def is_peer(peer: dict[str, Any], caller: Caller) -> bool:
    """Without a namespaceSelector a peer is one of the policy's own namespace."""
    if "namespaceSelector" in peer:
        near = selects(peer["namespaceSelector"], {"kubernetes.io/metadata.name": caller.namespace})
    else:
        near = caller.namespace == NAMESPACE
    return near and selects(peer.get("podSelector", {}), caller.labels)


def reaches(objects: list[dict[str, Any]], caller: Caller, target: str) -> bool:
    """Whether `caller` reaches the port that the pods of this Deployment serve at."""
    deployment = one(objects, "Deployment", target)
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    [port] = container(deployment)["ports"]
    policies = [
        item["spec"]
        for item in objects
        if item["kind"] == "NetworkPolicy" and selects(item["spec"]["podSelector"], labels)
    ]
    rules = [rule for policy in policies for rule in policy["ingress"]]
    return not policies or any(
        port["name"] in {allowed["port"] for allowed in rule["ports"]}
        and ("from" not in rule or not rule["from"] or any(is_peer(peer, caller) for peer in rule["from"]))
        for rule in rules
    )


@pytest.mark.parametrize(
    ("caller", "api", "operator"),
    [
        pytest.param(Caller("team-a", COORDINATOR), True, False, id="coordinator"),
        pytest.param(Caller("team-a", WORKER), False, False, id="worker"),
        pytest.param(Caller("team-a"), False, False, id="any-pod"),
        pytest.param(part("operator"), True, False, id="operator"),
        pytest.param(part("operator", "elsewhere"), False, False, id="operator-of-another-release"),
        pytest.param(part("test"), True, False, id="helm-test"),
        pytest.param(Caller("monitoring"), True, True, id="monitoring"),
        pytest.param(Caller("ingress-nginx"), False, False, id="no-ingress"),
        pytest.param(Caller(NAMESPACE), False, False, id="neighbour"),
    ],
)
def test_who_reaches_what(caller: Caller, api: bool, operator: bool) -> None:
    objects = rendered()
    assert (reaches(objects, caller, API), reaches(objects, caller, OPERATOR)) == (api, operator)
    without = rendered("--set=networkPolicy.enabled=false")
    assert reaches(without, caller, API) and reaches(without, caller, OPERATOR)


def test_coordinators_of_other_namespaces_are_those_of_others() -> None:
    objects = rendered(NARROWED)
    assert reaches(objects, Caller("research", COORDINATOR), API)
    assert not reaches(objects, Caller("team-a", COORDINATOR), API)


def _coordinators_of_the_previous_release() -> Iterator[Labels]:
    for story in STORIES:
        for body in found(story).objects:
            labels = body["metadata"].get("labels", {})
            if body["kind"] == POD.name and labels.get(ROLE_LABEL) == Role.COORDINATOR:
                yield labels


def test_coordinators_that_are_there_already_are_not_cut_off() -> None:
    objects, seen = rendered(), list(_coordinators_of_the_previous_release())
    assert len(seen) > 10
    assert all(reaches(objects, Caller("team-a", labels), API) for labels in seen)


def test_the_controller_of_an_ingress_reaches_the_api() -> None:
    objects = rendered(*PUBLISHED)
    assert reaches(objects, Caller("ingress-nginx"), API)
    assert not reaches(objects, Caller("ingress-nginx"), OPERATOR)


@pytest.mark.parametrize(
    ("who", "reached"),
    [("monitoring", (True, True)), ("ingressController", (True, False)), ("clients", (True, False))],
)
def test_whoever_is_named_reaches_it(who: str, reached: tuple[bool, bool]) -> None:
    portal = {"app": "portal"}
    peers = [{"podSelector": {"matchLabels": portal}, "namespaceSelector": {}}]
    objects = rendered(*PUBLISHED, "--set-json", f"networkPolicy.{who}={json.dumps(peers)}")
    named, other = Caller("web", portal), Caller("web")
    assert (reaches(objects, named, API), reaches(objects, named, OPERATOR)) == reached
    assert not reaches(objects, other, API)


def test_nobody_named_is_not_everybody() -> None:
    """A rule without peers would let all of them in."""
    nobody = [f"--set-json=networkPolicy.{who}=[]" for who in ("monitoring", "ingressController", "clients")]
    objects = rendered(*PUBLISHED, *nobody)
    assert not reaches(objects, Caller("anywhere"), API)
    assert not reaches(objects, Caller("anywhere"), OPERATOR)
    assert reaches(objects, Caller("team-a", COORDINATOR), API)


def test_where_they_go_to_is_not_limited() -> None:
    """Names, the API server, a database: a policy that forgot one would stop everything."""
    policies = [item["spec"] for item in rendered() if item["kind"] == "NetworkPolicy"]
    assert [policy["policyTypes"] for policy in policies] == [["Ingress"], ["Ingress"]]


@pytest.mark.parametrize(
    "peers", [pytest.param("[{}]", id="everybody"), pytest.param('[{"pods": {}}]', id="misspelt")]
)
def test_peers_that_cannot_be_are_refused(peers: str) -> None:
    done = template("--set-json", f"networkPolicy.clients={peers}")
    assert done.returncode != 0 and "at '/networkPolicy/clients/0'" in done.stderr, done.stderr
