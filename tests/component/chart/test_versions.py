"""What the chart says of Kubernetes' versions, and of versions of our kinds that are still to come."""

from __future__ import annotations

from tests.support.chart import helm, rendered


def test_an_older_kubernetes_is_refused_by_its_version() -> None:
    done = helm("template", "footplate", ".", "--kube-version=1.29.9")
    assert done.returncode == 1
    assert "kubeVersion: >=1.30.0-0 which is incompatible with Kubernetes v1.29.9" in done.stderr
    assert helm("template", "footplate", ".", "--kube-version=1.30.0").returncode == 0


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
