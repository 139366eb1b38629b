"""The accounts that operator and API run as: who makes them, who may do what, and whom policies name."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import pytest

from tests.support.chart import CHART, NAMESPACE, one, rendered, template

COMPONENTS: Final = ("operator", "api")
COMPONENT: Final = "app.kubernetes.io/component"
RENAMED: Final = ("--set=operator.serviceAccount.name=runner", "--set=api.serviceAccount.name=teller")
NARROWED: Final = ("--set=operator.watchNamespaces={research,demo}",)
RIGHTS: Final = {"Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"}
HANDED_OVER: Final = ("--set=operator.handOver=true",)


def of_kind(objects: list[dict[str, Any]], *kinds: str) -> list[dict[str, Any]]:
    return [item for item in objects if item["kind"] in kinds]


def account_of(objects: list[dict[str, Any]], component: str) -> str:
    """As what its pods really run."""
    pod = one(objects, "Deployment", f"footplate-{component}")["spec"]["template"]["spec"]
    return str(pod["serviceAccountName"])


@pytest.mark.parametrize("flags", [(), RENAMED, (*RENAMED, *NARROWED)], ids=["usual", "renamed", "narrowed"])
def test_bindings_and_policies_name_the_accounts_that_really_run(flags: tuple[str, ...]) -> None:
    objects = rendered(*flags)
    running = {account_of(objects, component) for component in COMPONENTS}
    assert running == ({"runner", "teller"} if flags else {"footplate-operator", "footplate-api"})
    made = {item["metadata"]["name"] for item in of_kind(objects, "ServiceAccount")}
    assert running <= made
    bound = {
        (subject["namespace"], subject["name"])
        for item in of_kind(objects, "RoleBinding", "ClusterRoleBinding")
        for subject in item["subjects"]
        if subject["kind"] == "ServiceAccount" and item["metadata"]["labels"][COMPONENT] in COMPONENTS
    }
    assert bound == {(NAMESPACE, name) for name in running}
    policies = json.dumps(of_kind(objects, "ValidatingAdmissionPolicy"))
    named = set(re.findall(r"system:serviceaccount:([-\w]+):([-\w]+)", policies))
    assert named == bound


# Of each policy that tells one account from others, whom it lets through.
LETS: Final = {
    "footplate-status": {"runner"},
    "footplate-secrets": {"runner"},
    "footplate-requested-by": {"teller"},
    "footplate-usage": {"runner", "teller"},
    "footplate-prices": {"runner", "teller"},
    "footplate-compute": set(),
    "footplate-pod-templates": set(),
}


def test_each_policy_names_its_own() -> None:
    policies = of_kind(rendered(*RENAMED), "ValidatingAdmissionPolicy")
    named = {
        item["metadata"]["name"]: set(re.findall(r"system:serviceaccount:[-\w]+:([-\w]+)", json.dumps(item)))
        for item in policies
    }
    assert named == LETS


def test_an_account_of_somebody_else_is_used_and_not_made() -> None:
    objects = rendered(*RENAMED, "--set=operator.serviceAccount.create=false")
    assert account_of(objects, "operator") == "runner"
    accounts = {item["metadata"]["name"] for item in of_kind(objects, "ServiceAccount")}
    assert "teller" in accounts and not accounts & {"runner", "footplate-operator"}


def test_an_account_has_annotations() -> None:
    """Clouds give rights of their own by them."""
    objects = rendered("--set-string", r"api.serviceAccount.annotations.example\.com/role=history")
    annotations = one(objects, "ServiceAccount", "footplate-api")["metadata"]["annotations"]
    assert annotations == {"example.com/role": "history"}
    assert "annotations" not in one(objects, "ServiceAccount", "footplate-operator")["metadata"]


def test_without_rights_of_the_chart_nothing_else_is_missing() -> None:
    """What somebody else has to give is what is missing then: README.md says how it is listed."""
    with_rights, without = rendered(*HANDED_OVER), rendered(*HANDED_OVER, "--set=rbac.create=false")
    assert of_kind(without, *RIGHTS) == []
    assert without == [item for item in with_rights if item["kind"] not in RIGHTS]


def test_readme_says_how_to_list_what_is_missing_then() -> None:
    said = re.findall(r"-s (templates/[-\w/]+\.yaml)", (CHART / "README.md").read_text())
    shown = rendered(*HANDED_OVER, *(part for path in said for part in ("--show-only", path)))
    wanted = of_kind(rendered(*HANDED_OVER), *RIGHTS)
    assert [item for item in wanted if item not in shown] == []


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        pytest.param(
            "operator.serviceAccount.create=false",
            "operator.serviceAccount.create is false, but operator.serviceAccount.name names no account:",
            id="account-of-nobody",
        ),
        pytest.param(
            "api.serviceAccount.name=footplate-operator",
            'operator.serviceAccount.name and api.serviceAccount.name are both "footplate-operator"',
            id="one-account-for-both",
        ),
        pytest.param(
            "api.serviceAccount.name=My Account", "at '/api/serviceAccount/name'", id="name-of-an-account"
        ),
    ],
)
def test_accounts_that_cannot_be_are_refused(flag: str, says: str) -> None:
    done = template("--set", flag)
    assert done.returncode != 0 and says in done.stderr, done.stderr
