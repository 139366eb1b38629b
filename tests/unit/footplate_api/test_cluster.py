"""What the API server says, in our words."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest

from footplate_api.errors import (
    ApiError,
    ClusterRefused,
    ClusterUnavailable,
    FieldError,
    InstallationLacksRights,
    ListExpired,
)
from footplate_api.kubernetes.client import EventType
from footplate_api.kubernetes.http import decode, events, refusal

INVALID = {
    "message": "TrainingRun is invalid",
    "details": {"causes": [{"field": ".spec.stage", "message": "Unsupported value"}, {"message": "rule"}]},
}


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        pytest.param(409, '{"message": "already exists"}', ClusterRefused, id="conflict"),
        pytest.param(410, '{"message": "too old"}', ListExpired, id="gone"),
        pytest.param(401, '{"message": "Unauthorized"}', InstallationLacksRights, id="token-is-the-apis"),
        pytest.param(429, "too many requests", ClusterUnavailable, id="slow-down"),
        pytest.param(500, "", ClusterUnavailable, id="its-own-fault"),
        pytest.param(415, '{"message": "no such media type"}', ClusterUnavailable, id="how-we-ask"),
    ],
)
def test_statuses(status: int, body: str, kind: type[Exception]) -> None:
    assert type(refusal(status, body)) is kind


ACCOUNT = "system:serviceaccount:footplate-system:footplate-api"
OF_ROLES = "footplate.dev is forbidden: User"


def forbidden(message: str) -> str:
    return json.dumps({"kind": "Status", "reason": "Forbidden", "message": message, "code": 403})


@pytest.mark.parametrize(
    ("message", "lacks"),
    [
        pytest.param(
            f'trainingruns.{OF_ROLES} "{ACCOUNT}" cannot create resource "trainingruns" in API group'
            ' "footplate.dev" in the namespace "b"',
            'may not create trainingruns.footplate.dev in the namespace "b"',
            id="in-a-namespace",
        ),
        pytest.param(
            f'trainingruns.{OF_ROLES} "{ACCOUNT}" cannot list resource "trainingruns" in API group'
            ' "footplate.dev" at the cluster scope',
            "may not list trainingruns.footplate.dev in the whole cluster",
            id="in-the-whole-cluster",
        ),
        pytest.param(
            f'trainingruns.footplate.dev "gpt" is forbidden: User "{ACCOUNT}" cannot delete resource'
            ' "trainingruns" in API group "footplate.dev" in the namespace "b": RBAC: clusterrole.rbac'
            '.authorization.k8s.io "footplate-api" not found',
            "verb delete",
            id="the-role-is-gone",
        ),
        pytest.param("Forbidden", "does not allow its request", id="a-text-without-a-reason"),
    ],
)
def test_what_the_apis_account_may_not_do_is_its_installations_fault(message: str, lacks: str) -> None:
    refused = refusal(403, forbidden(message))
    assert isinstance(refused, InstallationLacksRights)
    assert refused.status == 502
    assert lacks in refused.detail
    assert "footplate-system" not in refused.detail and "serviceaccount" not in refused.detail


def test_a_refusal_without_a_status_object_is_no_admission() -> None:
    assert isinstance(refusal(403, "<html>no entry</html>"), InstallationLacksRights)


@pytest.mark.parametrize(
    "message",
    [
        pytest.param('admission webhook "a.b" denied the request: no GPUs on Sundays', id="webhook"),
        pytest.param(
            "trainingruns.footplate.dev \"gpt\" is forbidden: ValidatingAdmissionPolicy 'p' with binding"
            " 'b' denied request: no GPUs on Sundays",
            id="policy",
        ),
        pytest.param('trainingruns.footplate.dev "gpt" is forbidden: exceeded quota: runs', id="quota"),
        pytest.param(
            'trainingruns.footplate.dev "gpt" is forbidden: unable to create new content in namespace b'
            " because it is being terminated",
            id="namespace-ends",
        ),
    ],
)
def test_what_admission_denies_stays_the_callers(message: str) -> None:
    refused = refusal(403, forbidden(message))
    assert isinstance(refused, ClusterRefused)
    assert (refused.status, refused.detail) == (403, message)


def test_a_webhook_may_deny_with_any_status() -> None:
    refused = refusal(418, forbidden('admission webhook "a.b" denied the request: I am a teapot'))
    assert isinstance(refused, ClusterRefused)
    assert refused.status == 403


def test_the_wrong_fields_are_passed_on() -> None:
    refused = refusal(422, json.dumps(INVALID))
    assert isinstance(refused, ApiError)
    assert (refused.status, refused.detail) == (422, "TrainingRun is invalid")
    assert refused.fields == (
        FieldError("spec.stage", None, "Unsupported value"),
        FieldError("", None, "rule"),
    )


def line(kind: str, version: int) -> bytes:
    return (
        json.dumps({"type": kind, "object": {"metadata": {"resourceVersion": str(version)}}}).encode() + b"\n"
    )


def test_an_error_event_is_raised() -> None:
    status = {"code": 410, "message": "too old resource version"}
    with pytest.raises(ListExpired, match="too old resource version"):
        decode(json.dumps({"type": "ERROR", "object": status}).encode())


def test_a_bookmark_moves_the_version() -> None:
    event = decode(line("BOOKMARK", 7))
    assert (event.type, event.resource_version) == (EventType.BOOKMARK, "7")


@pytest.mark.parametrize(
    ("cuts", "groups"),
    [
        pytest.param([], [[1, 2, 3]], id="all-at-once"),
        pytest.param([1], [[1, 2, 3]], id="cut-in-the-first-line"),
        pytest.param([len(line("ADDED", 1))], [[1], [2, 3]], id="cut-between-lines"),
        pytest.param([len(line("ADDED", 1)) + 5], [[1], [2, 3]], id="cut-in-the-second-line"),
    ],
)
async def test_lines_are_whole_however_they_arrive(cuts: list[int], groups: list[list[int]]) -> None:
    stream = b"".join(line("ADDED", version) for version in (1, 2, 3))
    edges = [0, *cuts, len(stream)]

    async def chunks() -> AsyncIterator[bytes]:
        for start, end in pairwise(edges):
            yield stream[start:end]

    made = [[int(event.resource_version) for event in group] async for group in events(chunks())]
    assert made == groups
