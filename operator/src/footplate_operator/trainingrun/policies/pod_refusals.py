"""Names the field of profile or run for which a namespace admits no pod, before any child is created.

The API server's answer to a dry run shows it. A quota, an unavailable webhook and a missing service account
pass by themselves, and are left to the creation of the pods.
"""

from __future__ import annotations

import re
from typing import Final

from footplate_contracts.v1alpha1.computeprofile import ComputeProfileSpec
from footplate_contracts.v1alpha1.pods import SecurityContext, SecurityProfile
from footplate_operator.errors import ClusterError, ObjectInvalid, RequestForbidden
from footplate_operator.trainingrun.run import Run

_STANDARD: Final = re.compile(r"violates PodSecurity")
_POLICY: Final = re.compile(r"security context constraint|ValidatingAdmissionPolicy|admission webhook")
_IDS: Final = ("runAsUser", "runAsGroup", "fsGroup", "supplementalGroups")
# What Pod Security says first -> the field that says it here.
_FIELDS: Final = (
    (re.compile(r"hostNetwork|host namespaces"), "network.hostNetwork"),
    (re.compile(r"non-default capabilities"), "capabilities"),
    (re.compile(r"runAsUser=0"), "securityContext.runAsUser"),
    (re.compile(r"volume"), "volumes"),
)
_NO_DRY_RUN: Final = "does not support dry run"


def refusal(error: ClusterError, run: Run, profile: ComputeProfileSpec, ids: SecurityContext) -> str:
    """Return the refused field with the remedy; empty for an error about neither profile nor run's ids.

    Args:
        error: the API server's answer to a dry run of a worker.
        ids: the ids of the run's pods.
    """
    if not isinstance(error, RequestForbidden | ObjectInvalid) or _NO_DRY_RUN in str(error):
        return ""
    name, said = run.spec.compute.profile, str(error)
    if _STANDARD.search(said):
        field = next((field for pattern, field in _FIELDS if pattern.search(said)), "securityProfile")
        standard = profile.security_profile or SecurityProfile.RESTRICTED
        return (
            f"compute.profile {name}: {field}: namespace {run.namespace} rejects this pod ({said}); label"
            f" the namespace pod-security.kubernetes.io/enforce={standard}, or use a profile that needs less"
        )
    if _POLICY.search(said):
        return _of_ids(said, run, ids)
    if profile.pod_template is not None and isinstance(error, ObjectInvalid):
        return (
            f"compute.profile {name}: podTemplate: the API server rejects this pod ({said}); correct the"
            " podTemplate of the profile, or spec.trainer of the run"
        )
    return ""


def _of_ids(said: str, run: Run, ids: SecurityContext) -> str:
    field = next((field for field in _IDS if field in said), "")
    if not field:
        return ""
    return (
        f"compute.profile {run.spec.compute.profile}: securityContext.{field}"
        f" {ids.to_json().get(field, '(none)')}: namespace {run.namespace} refuses it ({said}); set"
        " securityContext: {}, which leaves ids to the platform, or ids that the namespace allows"
    )
