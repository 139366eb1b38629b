"""Kubernetes' review objects about a caller, and their answers; pure.

A TokenReview returns the token's owner, a SubjectAccessReview whether that user has a right. The answers are
Kubernetes' own, whatever authenticators and authorizers the cluster has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from footplate_api.identity.caller import Caller, Right
from footplate_api.kubernetes.client import Manifest

TOKENS: Final = "/apis/authentication.k8s.io/v1/tokenreviews"
ACCESS: Final = "/apis/authorization.k8s.io/v1/subjectaccessreviews"


class Reviewer(Protocol):
    """Client of Kubernetes' reviews.

    Raises ClusterUnavailable if the API server does not answer, or InstallationLacksRights.
    """

    async def authenticate(self, token: str, audiences: Sequence[str]) -> Caller | None:
        """Return the owner of `token` for one of `audiences`, or for the API server itself if there are none.

        None: the token is not valid, or is meant for others.
        """
        ...

    async def is_allowed(self, caller: Caller, right: Right) -> bool:
        """Return whether `caller` has this right."""
        ...


class ReviewClient(Protocol):
    """Client that sends review objects."""

    async def review(self, path: str, manifest: Manifest) -> Manifest:
        """Send a review; return it with its status."""
        ...


class KubernetesReviewer:
    """`Reviewer` on a real API server."""

    def __init__(self, client: ReviewClient) -> None:
        self._client = client

    async def authenticate(self, token: str, audiences: Sequence[str]) -> Caller | None:
        answer = await self._client.review(TOKENS, token_review(token, audiences))
        return caller_from_status(answer.get("status") or {}, audiences)

    async def is_allowed(self, caller: Caller, right: Right) -> bool:
        answer = await self._client.review(ACCESS, access_review(caller, right))
        status = answer.get("status") or {}
        return bool(status.get("allowed")) and not status.get("denied")


def token_review(token: str, audiences: Sequence[str]) -> Manifest:
    """Build the TokenReview of `token`."""
    asked = {"token": token, **({"audiences": list(audiences)} if audiences else {})}
    return {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": asked}


def caller_from_status(status: Mapping[str, Any], audiences: Sequence[str]) -> Caller | None:
    """Return the token's owner by the `status` of its review; None if it is not valid here.

    An authenticator without support for audiences names none: its tokens are for the API server alone.
    """
    if not status.get("authenticated"):
        return None
    if audiences and not set(audiences) & set(status.get("audiences") or ()):
        return None
    user = status.get("user") or {}
    if not user.get("username"):
        return None
    extra = user.get("extra") or {}
    return Caller(
        str(user["username"]),
        str(user.get("uid") or ""),
        tuple(user.get("groups") or ()),
        tuple((key, tuple(extra[key])) for key in sorted(extra)),
    )


def access_review(caller: Caller, right: Right) -> Manifest:
    """Build the SubjectAccessReview of `right` for `caller`."""
    what: dict[str, Any]
    if right.path:
        what = {"nonResourceAttributes": {"verb": right.verb, "path": right.path}}
    else:
        named = {"namespace": right.namespace, "name": right.name, "subresource": right.subresource}
        attributes = {"verb": right.verb, "group": right.group, "version": "*", "resource": right.resource}
        what = {"resourceAttributes": {**attributes, **{key: value for key, value in named.items() if value}}}
    who = {
        "user": caller.username,
        "uid": caller.uid,
        "groups": list(caller.groups),
        "extra": {key: list(values) for key, values in caller.extra},
    }
    return {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {**{key: value for key, value in who.items() if value}, **what},
    }
