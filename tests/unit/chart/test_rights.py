"""The generator of rights: what each declaration of a controller allows, and each property of a CRD."""

from __future__ import annotations

from typing import Any

import pytest
from tools.rights import ControllerType, list_rights

from footplate_operator.runtime.controller import Controller, OwnedKind
from footplate_operator.runtime.kinds import CONFIG_MAP, NODE, SECRET, SERVICE, Kind

PARCEL = Kind("example.dev/v1", "Parcel", "parcels")


def controller(**declared: object) -> ControllerType:
    """Return a controller of Parcels with these declarations."""
    return type("Parcels", (Controller,), {"kind": PARCEL, "owns": (), **declared})


def allowed(rules: list[dict[str, Any]]) -> dict[str, str]:
    """Return verbs by resource."""
    return {
        ".".join(filter(None, (*rule["resources"], *rule["apiGroups"]))): " ".join(rule["verbs"])
        for rule in rules
    }


COMMON = {"parcels.example.dev": "get list watch", "parcels/status.example.dev": "patch"}
COMMON |= {"events.events.k8s.io": "create"}


@pytest.mark.parametrize(
    ("declared", "namespaced", "cluster"),
    [
        pytest.param({}, {}, {}, id="none"),
        pytest.param({"expires": True}, {"parcels.example.dev": "get list watch delete"}, {}, id="expires"),
        pytest.param(
            {"owns": (OwnedKind(SERVICE, watched=True),)},
            {"services": "get list watch create delete deletecollection"},
            {},
            id="watched",
        ),
        pytest.param(
            {"owns": (OwnedKind(SERVICE),)},
            {"services": "get list create delete deletecollection"},
            {},
            id="listed",
        ),
        pytest.param(
            {"owns": (OwnedKind(SERVICE, patched=True),)},
            {"services": "get list create patch delete deletecollection"},
            {},
            id="patched",
        ),
        pytest.param(
            {"owns": (OwnedKind(SECRET, unread=True),)}, {"secrets": "create delete"}, {}, id="unread"
        ),
        pytest.param(
            {"parameters": (CONFIG_MAP,)}, {"configmaps": "list watch"}, {}, id="parameter-of-a-namespace"
        ),
        pytest.param({"hints": (NODE,)}, {}, {"nodes": "list watch"}, id="hint-of-the-cluster"),
        pytest.param({"lists": (CONFIG_MAP,)}, {"configmaps": "list"}, {}, id="lists"),
    ],
)
def test_each_declaration_allows_what_it_needs(
    declared: dict[str, object], namespaced: dict[str, str], cluster: dict[str, str]
) -> None:
    operator = list_rights([controller(**declared)], [])["operator"]
    assert allowed(operator["namespaced"]) == COMMON | namespaced
    assert allowed(operator["cluster"]) == cluster


def test_two_kinds_with_the_same_children_have_the_rights_of_both() -> None:
    two = [controller(owns=(OwnedKind(SERVICE),)), controller(owns=(OwnedKind(SERVICE, watched=True),))]
    services = allowed(list_rights(two, [])["operator"]["namespaced"])["services"]
    assert services == "get list watch create delete deletecollection"


def definition(scope: str, *subresources: str) -> dict[str, Any]:
    """Return the parts of a CRD of Parcels that count."""
    versions = [{"subresources": {name: {} for name in subresources}}]
    names = {"plural": "parcels"}
    return {"spec": {"group": "example.dev", "scope": scope, "names": names, "versions": versions}}


def test_people_may_read_any_kind_and_write_and_scale_those_of_a_namespace() -> None:
    found = list_rights([controller()], [definition("Namespaced", "status", "scale")])
    reading = {"parcels/status.example.dev": "get list watch", "parcels.example.dev": "get list watch"}
    assert allowed(found["view"]) == reading
    assert allowed(found["edit"]) == {
        "parcels.example.dev": "create update patch delete deletecollection",
        "parcels/scale.example.dev": "get update patch",
    }
    found = list_rights([], [definition("Cluster")])
    assert (allowed(found["view"]), found["edit"]) == ({"parcels.example.dev": "get list watch"}, [])


@pytest.mark.parametrize("scope", ["Namespaced", "Cluster"])
def test_a_status_is_guarded_by_the_scope_of_its_kind(scope: str) -> None:
    guarded = list_rights([], [definition(scope, "status")])["statuses"]
    status = [{"apiGroups": ["example.dev"], "resources": ["parcels/status"]}]
    assert guarded == {"namespaced": [], "cluster": [], scope.lower(): status}
    assert not any(list_rights([], [definition(scope)])["statuses"].values())
