"""A budget below what is spent is refused to whoever writes one, and never in the way of what is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.component.contracts.kube import AS_OPERATOR, Kubectl
from tests.component.contracts.manifests import run_manifest

SPENT = {"dollars": 12.5, "kilowattHours": 30.0, "carbonKilograms": 4.25}


@pytest.fixture(scope="module")
def spender(kubectl: Kubectl) -> Iterator[str]:
    """A run with a budget of which most is spent."""
    changes = {"budget": {"dollars": 20, "carbonKilograms": 9}}
    kubectl("create", "-f", "-", stdin=json.dumps(run_manifest(changes, name="spender")))
    assert kubectl.write_status("spender", {"cost": SPENT}, AS_OPERATOR).returncode == 0
    yield "spender"
    kubectl("delete", "trainingrun", "spender")


@pytest.mark.parametrize(
    ("budget", "says"),
    [
        pytest.param({"dollars": 12.5}, [], id="what-is-spent"),
        pytest.param({"dollars": 40}, [], id="raised"),
        pytest.param({"onExceeded": "Warn"}, [], id="another-consequence"),
        pytest.param(None, [], id="removed"),
        pytest.param(
            {"dollars": 12.25},
            [
                "spec.budget.dollars: Invalid value: budget.dollars 12.25 is below the amount spent, 12.5;"
                " raise it, or remove it"
            ],
            id="dollars",
        ),
        pytest.param(
            {"dollars": None, "carbonKilograms": 4},
            [
                "spec.budget.carbonKilograms: Invalid value: budget.carbonKilograms 4 is below the amount"
                " spent, 4.25; raise it, or remove it"
            ],
            id="carbon",
        ),
    ],
)
def test_a_budget_is_not_lowered_below_what_is_spent(
    kubectl: Kubectl, spender: str, budget: dict[str, Any] | None, says: list[str]
) -> None:
    assert kubectl.change_refusal(spender, {"spec": {"budget": budget}}) == says


def test_a_first_budget_is_not_below_what_is_spent_either(kubectl: Kubectl) -> None:
    kubectl("create", "-f", "-", stdin=json.dumps(run_manifest(name="unlimited")))
    assert kubectl.write_status("unlimited", {"cost": SPENT}, AS_OPERATOR).returncode == 0
    (said,) = kubectl.change_refusal("unlimited", {"spec": {"budget": {"dollars": 1}}})
    assert "budget.dollars 1 is below the amount spent, 12.5" in said
    kubectl("delete", "trainingrun", "unlimited")


def test_what_is_spent_beyond_a_budget_is_told_and_the_rest_may_change(kubectl: Kubectl) -> None:
    changes = {"budget": {"dollars": 20}}
    kubectl("create", "-f", "-", stdin=json.dumps(run_manifest(changes, name="beyond")))
    for dollars in (19.0, 21.5, 22.0):
        assert kubectl.write_status("beyond", {"cost": {"dollars": dollars}}, AS_OPERATOR).returncode == 0
    assert kubectl.change_refusal("beyond", {"spec": {"suspend": True}}) == []
    assert kubectl.change_refusal("beyond", {"metadata": {"labels": {"team": "a"}}}) == []
    kubectl("delete", "trainingrun", "beyond")
