"""What a PriceEntry may say, who may say it, and that nobody takes it back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.component.contracts.kube import AS_API, AS_OPERATOR, Kubectl
from tests.component.contracts.manifests import price_manifest

OPERATOR = (AS_OPERATOR, "--as-group=system:masters")
ADMINISTRATOR = ("--as=ada", "--as-group=system:masters")


def refusal(kubectl: Kubectl, who: tuple[str, ...] = ADMINISTRATOR, **spec: Any) -> str:
    """What the API server says against such an entry of theirs; empty where it takes it."""
    return "\n".join(kubectl.refusal(price_manifest("another", **spec), *who))


@pytest.fixture(scope="module")
def entry(kubectl: Kubectl) -> Iterator[str]:
    """One that stands: as nobody can delete it, it may be there from an earlier use of this fixture."""
    body = json.dumps(price_manifest("standing"))
    kubectl("apply", "--server-side", "-f", "-", *ADMINISTRATOR, stdin=body)
    yield "standing"


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        pytest.param({}, "", id="good"),
        pytest.param({"effectiveFrom": "2036-01-01T00:00:00Z"}, "", id="future"),
        pytest.param(
            {"effectiveFrom": "2016-01-01T00:00:00Z", "supersedes": "standing"}, "", id="overlapping"
        ),
        pytest.param({"dollarsPerNodeHour": 0}, "", id="free"),
        pytest.param(
            {"dollarsPerNodeHour": -0.5},
            "spec.dollarsPerNodeHour in body should be greater than or equal to 0",
            id="negative",
        ),
        pytest.param(
            {"dollarsPerNodeHour": 10_000_000},
            "spec.dollarsPerNodeHour in body should be less than or equal to 1000000",
            id="beyond-all",
        ),
        pytest.param({"effectiveFrom": None}, "spec.effectiveFrom: Required value", id="since-when"),
        pytest.param(
            {"effectiveFrom": "yesterday"},
            "spec.effectiveFrom in body must be of type date-time",
            id="no-time",
        ),
        pytest.param(
            {"effectiveFrom": "0000-01-01T00:00:00Z"}, "spec.effectiveFrom in body should match", id="year-0"
        ),
        pytest.param(
            {"effectiveFrom": "2026-01-01t00:00:00z"}, "spec.effectiveFrom in body should match", id="small"
        ),
        pytest.param({"effectiveFrom": "2026-01-01T00:00:00.5+02:00"}, "", id="of-another-zone"),
        pytest.param(
            {"effectiveTo": "2026-01-01T00:00:00Z"},
            "spec.effectiveTo: Invalid value: effectiveTo 2026-01-01T00:00:00Z must be later than"
            " effectiveFrom 2026-01-01T00:00:00Z",
            id="empty",
        ),
        pytest.param({"capacity": "free"}, 'spec.capacity: Unsupported value: "free"', id="capacity"),
        pytest.param(
            {"supersedes": "another"},
            "spec.supersedes: another is the entry itself; set the entry that it replaces",
            id="itself",
        ),
        pytest.param({"createdBy": "ada"}, "", id="by-oneself"),
        pytest.param(
            {"createdBy": "grace"},
            "spec.createdBy: grace did not write this, ada did; remove it, or set ada",
            id="by-another",
        ),
        pytest.param(
            {"source": "ComputeProfile h100"},
            "spec.source: ComputeProfile h100 is reserved for the operator's entries from profile prices;"
            " set another source",
            id="of-a-profile",
        ),
    ],
)
def test_what_it_may_say(kubectl: Kubectl, entry: str, spec: dict[str, Any], says: str) -> None:
    said = refusal(kubectl, **spec)
    assert says in said if says else said == ""


@pytest.mark.parametrize("who", [pytest.param(OPERATOR, id="operator"), pytest.param(AS_API, id="api")])
def test_operator_and_api_say_on_whose_behalf_they_write(kubectl: Kubectl, who: tuple[str, ...]) -> None:
    assert refusal(kubectl, who, createdBy="oidc:grace") == ""


def test_the_operator_alone_speaks_for_profiles(kubectl: Kubectl) -> None:
    said = {"source": "ComputeProfile h100", "createdBy": "footplate-operator"}
    assert refusal(kubectl, OPERATOR, **said) == ""
    assert "is reserved for the operator's entries" in refusal(kubectl, AS_API, **said)


def test_nobody_changes_or_deletes_it(kubectl: Kubectl, entry: str) -> None:
    change = ("patch", "priceentry", entry, "--type=merge", "--patch")
    for patch in ({"dollarsPerNodeHour": 1}, {"effectiveTo": "2036-01-01T00:00:00Z"}):
        done = kubectl.run(*change, json.dumps({"spec": patch}), *OPERATOR)
        assert "an entry cannot be changed; create another that supersedes it" in done.stderr
    for who in (ADMINISTRATOR, OPERATOR, AS_API):
        done = kubectl.run("delete", "priceentry", entry, *who)
        assert f"{entry}: entries cannot be deleted: create another one that supersedes it" in done.stderr
    assert kubectl("get", "priceentry", entry, "-o", "jsonpath={.spec.dollarsPerNodeHour}") == "30.5"


def test_labels_of_it_may_change(kubectl: Kubectl, entry: str) -> None:
    kubectl("label", "priceentry", entry, "reviewed=yes", *ADMINISTRATOR)
