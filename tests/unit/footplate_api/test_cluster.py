"""What the API server says, in our words."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest

from footplate_api.cluster import decode, events, refusal
from footplate_api.errors import ApiError, ClusterRefused, ClusterUnavailable, FieldError, ListExpired
from footplate_api.ports import EventType

INVALID = {
    "message": "TrainingRun is invalid",
    "details": {"causes": [{"field": ".spec.stage", "message": "Unsupported value"}, {"message": "rule"}]},
}


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        pytest.param(409, '{"message": "already exists"}', ClusterRefused, id="conflict"),
        pytest.param(403, '{"message": "forbidden"}', ClusterRefused, id="forbidden"),
        pytest.param(410, '{"message": "too old"}', ListExpired, id="gone"),
        pytest.param(401, '{"message": "Unauthorized"}', ClusterUnavailable, id="our-token-not-the-callers"),
        pytest.param(429, "too many requests", ClusterUnavailable, id="slow-down"),
        pytest.param(500, "", ClusterUnavailable, id="its-own-fault"),
    ],
)
def test_statuses(status: int, body: str, kind: type[Exception]) -> None:
    assert type(refusal(status, body)) is kind


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
