"""What the chart lets people read and write, and the operator alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from tools.crds import all_definitions

from tests.support.chart import one, rendered, rights


@pytest.mark.parametrize("groups", [None, ["ml", "oidc:team-a"], []])
def test_who_may_look_for_a_profile(groups: list[str] | None) -> None:
    """RBAC grants nothing of the whole cluster by a binding in a namespace."""
    objects = rendered(*(() if groups is None else ("--set-json", f"profiles.readers={json.dumps(groups)}")))
    reading = one(objects, "ClusterRole", "footplate-profiles")
    assert rights(reading) == {("footplate.dev", "computeprofiles"): {"get", "list", "watch"}}
    bound = [item for item in objects if item.get("roleRef", {}).get("name") == "footplate-profiles"]
    subjects = [(subject["kind"], subject["name"]) for item in bound for subject in item["subjects"]]
    assert subjects == [("Group", name) for name in (["system:authenticated"] if groups is None else groups)]
    assert {item["kind"] for item in bound} == ({"ClusterRoleBinding"} if subjects else set())


def test_what_the_api_creates_is_what_it_alone_signs() -> None:
    objects = rendered()
    policy = one(objects, "ValidatingAdmissionPolicy", "footplate-requested-by")
    (rule,) = policy["spec"]["matchConstraints"]["resourceRules"]
    roles = [rights(one(objects, "ClusterRole", f"footplate-api{part}")) for part in ("", "-cluster")]
    created = {resource for role in roles for (_, resource), verbs in role.items() if "create" in verbs}
    assert set(rule["resources"]) == created - {"tokenreviews", "subjectaccessreviews"}  # stored nowhere


def test_rights_of_people() -> None:
    objects = rendered()
    view, edit = one(objects, "ClusterRole", "footplate-view"), one(objects, "ClusterRole", "footplate-edit")
    assert {verb for verbs in rights(view).values() for verb in verbs} == {"get", "list", "watch"}
    assert "trainingruns/status" not in {resource for _, resource in rights(edit)}
    for role, grown in ((view, {"view", "edit", "admin"}), (edit, {"edit", "admin"})):
        prefix = "rbac.authorization.k8s.io/aggregate-to-"
        labels = role["metadata"]["labels"]
        assert {label.removeprefix(prefix) for label in labels if label.startswith(prefix)} == grown


def plurals(holds: Callable[[dict[str, Any]], bool]) -> set[str]:
    """The names in URLs of the kinds whose definition is so."""
    kinds = (definition["spec"] for definition in all_definitions().values())
    return {kind["names"]["plural"] for kind in kinds if holds(kind)}


def test_people_read_every_kind_and_write_those_of_a_namespace() -> None:
    view, edit = (rights(one(rendered(), "ClusterRole", f"footplate-{name}")) for name in ("view", "edit"))
    assert {resource for _, resource in view} >= plurals(lambda kind: True)
    assert {resource for _, resource in edit} >= plurals(lambda kind: kind["scope"] == "Namespaced")


def test_the_operator_alone_writes_every_status() -> None:
    policy = one(rendered(), "ValidatingAdmissionPolicy", "footplate-status")
    rules = policy["spec"]["matchConstraints"]["resourceRules"]
    having = plurals(lambda kind: "status" in kind["versions"][0]["subresources"])
    guarded = {resource for rule in rules for resource in rule["resources"]}
    assert guarded == {f"{plural}/status" for plural in having}
