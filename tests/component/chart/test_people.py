"""What the chart lets people read and write beside the roles of namespaces."""

from __future__ import annotations

import json

import pytest

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
    role = rights(one(objects, "ClusterRole", "footplate-api"))
    created = {resource for (_, resource), verbs in role.items() if "create" in verbs}
    assert set(rule["resources"]) == created - {"tokenreviews", "subjectaccessreviews"}  # stored nowhere
