"""The API server accepts each example of a ComputeProfile, and pods on it at the level that it claims."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

import pytest

from tests.component.contracts.kube import Kubectl
from tests.support.profiles import FOLDER, PROFILES, pods, profile

LEVELS: Final = ("restricted", "baseline", "privileged")
ENFORCE: Final = "pod-security.kubernetes.io/enforce"


@pytest.fixture(scope="module")
def namespaces(kubectl: Kubectl) -> Iterator[None]:
    """One namespace for each level of Pod Security, of its name."""
    for level in LEVELS:
        body = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": level, "labels": {ENFORCE: level}},
        }
        kubectl("create", "-f", "-", stdin=json.dumps(body))
    yield
    kubectl("delete", "namespace", *LEVELS, "--wait=false")


def refusal(kubectl: Kubectl, name: str, level: str) -> str:
    """Return why a namespace of this level refuses pods on a profile; empty where it takes all."""
    listed = [pod | {"metadata": pod["metadata"] | {"namespace": level}} for pod in pods(name)]
    body = {"apiVersion": "v1", "kind": "List", "items": listed}
    done = kubectl.run("create", "--dry-run=server", "--validate=strict", "-f", "-", stdin=json.dumps(body))
    return done.stderr if done.returncode else ""


def test_all_profiles_are_accepted(kubectl: Kubectl) -> None:
    kubectl("apply", "--dry-run=server", "--validate=strict", f"--filename={FOLDER}")


@pytest.mark.parametrize("name", PROFILES)
def test_pods_are_accepted_at_the_level_that_the_profile_claims(
    kubectl: Kubectl, namespaces: None, name: str
) -> None:
    level = profile(name)["spec"].get("securityProfile", "restricted")
    assert refusal(kubectl, name, level) == ""
    for stricter in LEVELS[: LEVELS.index(level)]:
        assert "violates PodSecurity" in refusal(kubectl, name, stricter)
