"""What the chart says of versions of our kinds that are still to come."""

from __future__ import annotations

from tests.support.chart import rendered


def test_policies_ask_about_every_version_of_our_kinds() -> None:
    """Or a run of the next one would pass by them."""
    rules = [
        rule
        for body in rendered()
        if body["kind"] == "ValidatingAdmissionPolicy"
        for rule in body["spec"]["matchConstraints"]["resourceRules"]
        if "footplate.dev" in rule["apiGroups"]
    ]
    assert len(rules) >= 5
    assert {tuple(rule["apiVersions"]) for rule in rules} == {("*",)}
