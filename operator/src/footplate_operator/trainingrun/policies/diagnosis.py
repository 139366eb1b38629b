"""Explains why a pod does not run, for the person who waits for it.

Kubernetes spreads the answer over waiting reasons, conditions and Events, and
retries most mistakes for ever without a message. This module turns a pod's state into
one reason, one message, and how long it may be hoped to pass.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from footplate_contracts.names import Reason, secret_name
from footplate_operator.trainingrun.observation import PodView

SECRET_SECONDS: Final = 60.0  # a missing Secret, ConfigMap or claim may be created a moment later
_NEVER: Final = float("inf")

_AT_ONCE: Final = frozenset({"InvalidImageName", "ErrImageNeverPull", "ErrImageInspectError"})
_PULLING: Final = frozenset({"ErrImagePull", "ImagePullBackOff", "RegistryUnavailable"})
_CONTAINER: Final = frozenset(
    {"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "PostStartHookError"}
)
# A registry or a network in trouble; everything else that a registry answers is about the image.
_HICCUP: Final = re.compile(
    r"time-?out|deadline exceeded|connection (refused|reset)|unreachable|no route to host|\beof\b"
    r"|temporary failure|server misbehaving|(?<!:)\b(429|50[0-4])\b"
    r"|too ?many ?requests|service unavailable|qps exceeded|handshake|no space left on device",
    re.IGNORECASE,
)
# Nobody runs a registry on the node itself: a name like localhost/… only exists if it was loaded there.
_NO_REGISTRY: Final = re.compile(r"(127\.\d+\.\d+\.\d+|\[::1\]):\d+: connect: connection refused")
# A container runtime that still works on the last attempt: the kubelet tries again until it is done.
_RUNTIME_BUSY: Final = re.compile(r"reserv(e|ing) (container|ctr) name|deadline exceeded", re.IGNORECASE)
_QUOTED: Final = re.compile(r'"[^"]*"')
_CLAIM: Final = re.compile(r"persistentvolumeclaim|unbound immediate|volume node affinity", re.IGNORECASE)
_CLAIM_MISSING: Final = re.compile(r"persistentvolumeclaim \S+ not found", re.IGNORECASE)


@dataclass(frozen=True)
class PodDiagnosis:
    """Reason that holds a pod up, and the seconds after which hope is lost."""

    reason: Reason
    message: str
    seconds_left: float  # infinite: only the startup deadline ends it


def diagnose(pod: PodView) -> PodDiagnosis | None:
    """Return the reason that holds `pod` up; None if it runs, has ended, or is merely on its way."""
    if pod.ended or pod.terminating:
        return None
    if pod.waiting_reason:
        found = _waiting(pod)
        if found is not None:
            return found
    if pod.mount_error:
        seconds_left = SECRET_SECONDS if "not found" in pod.mount_error else _NEVER
        return _said(pod, Reason.FAILED_MOUNT, pod.mount_error, seconds_left)
    if pod.claim_error:
        remedy = (
            f"; create that ResourceClaimTemplate in namespace {pod.namespace}, or correct"
            " resourceClaims[].resourceClaimTemplateName of the run's ComputeProfile"
        )
        return _said(pod, Reason.UNSCHEDULABLE, f"{pod.claim_error}{remedy}", _NEVER)
    if pod.unschedulable:
        return _unschedulable(pod)
    return None


def misses_secret(run: str, pod: PodView) -> bool:
    """Return whether `pod` cannot mount the Secret of the run of this name, as it was deleted."""
    return f'secret "{secret_name(run)}" not found' in pod.mount_error


def worst(pods: Iterable[PodView], now: datetime) -> PodDiagnosis | None:
    """Return the diagnosis of the pod with the fewest seconds left; None if no pod is held up.

    A pod may have waited for a node or its image for minutes before: that proves nothing about its Secret.
    If the start of the present wait is not known, count from the pod's creation.
    """
    left = []
    for pod in pods:
        if (diagnosis := diagnose(pod)) is not None:
            waited = (now - (pod.held_since or pod.created)).total_seconds()
            left.append(replace(diagnosis, seconds_left=diagnosis.seconds_left - waited))
    return min(left, key=lambda found: (found.seconds_left, found.message), default=None)


def _waiting(pod: PodView) -> PodDiagnosis | None:
    text = f"{pod.waiting_reason}: {pod.waiting_message}" if pod.waiting_message else pod.waiting_reason
    if pod.waiting_reason in _AT_ONCE:
        return _said(pod, Reason.ERR_IMAGE_PULL, text, 0.0)
    if pod.waiting_reason in _PULLING:
        return _said(pod, Reason.ERR_IMAGE_PULL, text, _pull_seconds_left(pod.waiting_message))
    if pod.waiting_reason in _CONTAINER:
        seconds_left = _NEVER if _RUNTIME_BUSY.search(pod.waiting_message) else SECRET_SECONDS
        return _said(pod, Reason.CREATE_CONTAINER_CONFIG_ERROR, text, seconds_left)
    return None


def _pull_seconds_left(message: str) -> float:
    """Return the seconds for a failed pull: a registry's refusal is final, its silence is not.

    A full disk of a node is not final, either.
    """
    message = _QUOTED.sub("", message)  # an image may be called sierra
    if _NO_REGISTRY.search(message):
        return 0.0
    return _NEVER if _HICCUP.search(message) or not _tells_why(message) else 0.0


def _tells_why(message: str) -> bool:
    """Return whether the message holds more than the name of the image."""
    return bool(re.search(r"fail|err|not found|denied|unauthorized|unknown", message, re.IGNORECASE))


def _unschedulable(pod: PodView) -> PodDiagnosis:
    if _CLAIM.search(pod.unschedulable):
        seconds_left = SECRET_SECONDS if _CLAIM_MISSING.search(pod.unschedulable) else _NEVER
        return _said(pod, Reason.FAILED_MOUNT, pod.unschedulable, seconds_left)
    return _said(pod, Reason.UNSCHEDULABLE, pod.unschedulable, _NEVER)


def _said(pod: PodView, reason: Reason, text: str, seconds_left: float) -> PodDiagnosis:
    return PodDiagnosis(reason, f"pod {pod.name}: {text}"[:1024], seconds_left)
