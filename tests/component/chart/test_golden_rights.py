"""Rights that the chart renders: roles, bindings, and the requests that its admission policies match."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any, Final

import pytest

from tests.support.chart import rendered
from tests.support.golden import as_yaml, assert_golden

FORMS: Final = {
    "cluster": (),
    "namespaces": ("--set=operator.watchNamespaces={research,demo}",),
    "not-cluster-scoped": ("--set=operator.watchNamespaces={demo},clusterScoped.enabled=false",),
    "without-options": ("--set=operator.watchNodes=false,operator.handOver=false",),
    "all-options": (
        "--set=operator.handOver=true,api.tls.existingSecret=certificate,api.tls.caConfigMap=authority",
        "--set=metrics.serviceMonitor.enabled=true,api.serviceAccount.name=teller",
    ),
}


def list_rights(rules: Iterable[dict[str, Any]]) -> dict[str, str]:
    """Return the verbs by resource with its group, and the one name that is allowed, if any."""
    found: dict[str, set[str]] = {}
    for rule in rules:
        resources = list(rule.get("nonResourceURLs", []))
        for group, resource in itertools.product(rule.get("apiGroups", []), rule.get("resources", [])):
            name, slash, subresource = resource.partition("/")
            resources.append(".".join(filter(None, (name, group))) + slash + subresource)
        for resource, only in itertools.product(resources, rule.get("resourceNames", [""])):
            found.setdefault(" ".join(filter(None, (resource, only))), set()).update(rule["verbs"])
    return {resource: " ".join(sorted(verbs)) for resource, verbs in sorted(found.items())}


def list_matches(policy: dict[str, Any]) -> dict[str, str]:
    """Return the operations that the policy is asked about, by resource, and in which namespaces."""
    matches = policy["matchConstraints"]
    terms = matches.get("namespaceSelector", {}).get("matchExpressions", [])
    served = [name for term in terms for name in term["values"]]
    return {"namespaces": " ".join(served)} | list_rights(
        {**rule, "verbs": rule["operations"]} for rule in matches["resourceRules"]
    )


def describe(body: dict[str, Any]) -> Any:
    """Return the rights in a role, binding or policy; None for any other object."""
    match body["kind"]:
        case "Role" | "ClusterRole":
            prefix = "rbac.authorization.k8s.io/aggregate-to-"
            labels = [key.removeprefix(prefix) for key in body["metadata"]["labels"] if prefix in key]
            return {"aggregated to": " ".join(sorted(labels))} | list_rights(body["rules"])
        case "RoleBinding" | "ClusterRoleBinding":
            subjects = sorted(f"{to['kind']} {to['name']}" for to in body["subjects"])
            return f"{body['roleRef']['kind']} {body['roleRef']['name']} to {', '.join(subjects)}"
        case "ValidatingAdmissionPolicy":
            return list_matches(body["spec"])
    return None


def describe_all(flags: tuple[str, ...]) -> dict[str, Any]:
    """Return the rights in all objects of the chart by kind, namespace and name."""
    found = {}
    for body in rendered(*flags):
        place = [body["kind"], body["metadata"].get("namespace"), body["metadata"]["name"]]
        found[" ".join(filter(None, place))] = describe(body)
    return {place: found[place] for place in sorted(found) if found[place] is not None}


def test_rights_are_the_recorded_ones() -> None:
    assert_golden("rights.yaml", as_yaml({form: describe_all(flags) for form, flags in FORMS.items()}))


@pytest.mark.parametrize("form", sorted(FORMS.keys() - {"cluster"}))
def test_each_form_has_rights_of_its_own(form: str) -> None:
    assert describe_all(FORMS[form]) != describe_all(FORMS["cluster"])
