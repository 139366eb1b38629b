"""For which field a namespace admits no pod is said before anything is made."""

from __future__ import annotations

from typing import Any, Final

import pytest

from footplate_contracts.v1alpha1.pods import SecurityContext
from footplate_operator.errors import ClusterError, ObjectInvalid, RequestForbidden
from footplate_operator.profiles import decode_profile
from footplate_operator.runtime.kinds import CONFIG_MAP, POD, SECRET
from footplate_operator.trainingrun.manifests.pod import security_context
from footplate_operator.trainingrun.policies.pod_refusals import refusal
from tests.support.operator_fakes import profile_manifest
from tests.support.operator_runs import run
from tests.support.operator_world import World

# As kube-apiserver 1.36 says it.
HOST_NETWORK: Final = RequestForbidden(
    'pods "tiny-w0-0" is forbidden: violates PodSecurity "baseline:latest": host namespaces'
    ' (hostNetwork=true), non-default capabilities (container "trainer" must not include "IPC_LOCK" in'
    " securityContext.capabilities.add)",
    403,
    "Forbidden",
)
CAPABILITIES: Final = RequestForbidden(
    'pods "tiny-w0-0" is forbidden: violates PodSecurity "baseline:latest": non-default capabilities'
    ' (container "trainer" must not include "IPC_LOCK" in securityContext.capabilities.add)',
    403,
    "Forbidden",
)
# As OpenShift's admission says it, and a policy that imitates it.
CONSTRAINT: Final = RequestForbidden(
    'pods "tiny-w0-0" is forbidden: unable to validate against any security context constraint: [provider'
    ' "restricted-v2": .spec.securityContext.fsGroup: Invalid value: []int64{1000}: 1000 is not an allowed'
    " group]",
    403,
    "Forbidden",
)
POLICY: Final = ObjectInvalid(
    "pods \"tiny-w0-0\" is forbidden: ValidatingAdmissionPolicy 'restricted-v2' with binding 'restricted-v2'"
    " denied request: runAsUser 1000 is not in 1000680000-1000689999",
    422,
    "Invalid",
)
WRONG: Final = ObjectInvalid(
    'Pod "tiny-w0-0" is invalid: spec.containers[1].image: Required value', 422, "Invalid"
)

PRIVILEGED: Final = (
    "label the namespace pod-security.kubernetes.io/enforce=privileged, or use a profile that needs less"
)


def said_of(error: ClusterError, **profile: Any) -> str:
    subject, known = run(), decode_profile(profile_manifest(**profile))
    ids: SecurityContext = security_context(subject, known)
    return refusal(error, subject, known, ids)


@pytest.mark.parametrize(
    ("error", "profile", "begins", "remedy"),
    [
        pytest.param(
            HOST_NETWORK,
            {"securityProfile": "privileged", "network": {"hostNetwork": True}},
            "compute.profile local-cpu: network.hostNetwork: namespace default rejects this pod (pods",
            PRIVILEGED,
            id="host-network",
        ),
        pytest.param(
            CAPABILITIES,
            {"securityProfile": "privileged", "capabilities": ["IPC_LOCK"]},
            "compute.profile local-cpu: capabilities: namespace default rejects this pod (pods",
            PRIVILEGED,
            id="capabilities",
        ),
        pytest.param(
            CONSTRAINT,
            {},
            "compute.profile local-cpu: securityContext.fsGroup 1000: namespace default refuses it (pods",
            "set securityContext: {}, which leaves ids to the platform, or ids that the namespace allows",
            id="openshift",
        ),
        pytest.param(
            POLICY,
            {"securityContext": {"runAsUser": 4711}},
            "compute.profile local-cpu: securityContext.runAsUser 4711: namespace default refuses it (pods",
            "set securityContext: {}, which leaves ids to the platform, or ids that the namespace allows",
            id="policy",
        ),
        pytest.param(
            WRONG,
            {"podTemplate": {"spec": {"containers": [{"name": "metrics"}]}}},
            "compute.profile local-cpu: podTemplate: the API server rejects this pod (Pod",
            "correct the podTemplate of the profile, or spec.trainer of the run",
            id="template",
        ),
    ],
)
def test_a_refusal_names_field_value_and_remedy(
    error: ClusterError, profile: dict[str, Any], begins: str, remedy: str
) -> None:
    said = said_of(error, **profile)
    assert said.startswith(begins) and said.endswith(remedy)
    assert str(error) in said


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(WRONG, id="a-mistake-of-the-run"),
        pytest.param(RequestForbidden("exceeded quota: gpus", 403), id="quota"),
        pytest.param(
            RequestForbidden(
                'error looking up service account default/default: serviceaccount "default" not found', 403
            ),
            id="service-account",
        ),
        pytest.param(ObjectInvalid("admission webhook a does not support dry run", 400), id="no-dry-run"),
        pytest.param(ObjectInvalid("admission webhook a denied the request: not today", 400), id="webhook"),
        pytest.param(ClusterError("try again", 503), id="busy"),
    ],
)
def test_what_is_not_the_profiles_is_left_to_the_creation(error: ClusterError) -> None:
    assert said_of(error) == ""


async def test_a_uid_that_the_namespace_refuses_is_told_before_a_pod_is_made() -> None:
    world = World()
    world.cluster.refuse["would create", POD] = CONSTRAINT
    world.submit()
    await world.live(10)
    said = world.condition("Reconciled")
    assert (world.phase, said["status"], said["reason"]) == ("Queued", "False", "ConfigRefused")
    assert "securityContext.fsGroup 1000: namespace default refuses it" in said["message"]
    assert [world.cluster.all(kind) for kind in (POD, SECRET, CONFIG_MAP)] == [[], [], []]
    del world.cluster.refuse["would create", POD]
    world.cluster.put(profile_manifest(securityContext={}))
    await world.live(30, until=lambda: world.phase == "Running")


async def test_a_namespace_that_admits_the_pods_by_now_is_asked_again() -> None:
    world = World()
    world.cluster.refuse["would create", POD] = HOST_NETWORK
    world.submit()
    await world.live(5, until=lambda: world.phase == "Queued")
    del world.cluster.refuse["would create", POD]  # somebody labelled it: nobody tells
    await world.live(15, until=lambda: world.phase == "Running")


async def test_ids_that_a_suspended_run_states_anew_are_tried_before_it_is_resumed() -> None:
    world = World()
    world.cluster.put(profile_manifest(overridable=["securityContext"]))
    world.submit()
    await world.live(30, until=lambda: world.phase == "Running")
    world.change(suspend=True)
    await world.live(60, until=lambda: world.phase == "Suspended")
    world.cluster.refuse["would create", POD] = POLICY
    world.change(suspend=False, trainer={"securityContext": {"runAsUser": 4711}})
    await world.live(20, until=lambda: world.phase == "Queued")
    assert "securityContext.runAsUser 4711: namespace" in world.condition("Reconciled")["message"]
    assert world.workers() == []


async def test_a_run_starts_though_a_dry_run_says_nothing() -> None:
    world = World()
    world.cluster.refuse["would create", POD] = ClusterError("try again", 503)
    world.submit()
    await world.live(30, until=lambda: world.phase == "Running")
