"""Errors as problem+json."""

from __future__ import annotations

import pytest

from footplate_api.errors import ApiError, ClusterRefused, FieldError, Invalid, RunNotFound
from footplate_api.problems import from_validation, path, problem, summary


@pytest.mark.parametrize(
    ("error", "kind", "status"),
    [
        pytest.param(RunNotFound("none"), "run-not-found", 404, id="own-status"),
        pytest.param(ClusterRefused("exists", status=409), "cluster-refused", 409, id="status-kept"),
        pytest.param(ApiError("oops"), "api-error", 500, id="unknown"),
    ],
)
def test_the_type_names_the_class(error: ApiError, kind: str, status: int) -> None:
    body = problem(error, "id-1")
    assert (body["type"], body["status"]) == (f"urn:footplate:problem:{kind}", status)
    assert (body["detail"], body["requestId"]) == (error.detail, "id-1")
    assert "errors" not in body


def test_a_wrong_field_is_shown_with_value_and_remedy() -> None:
    body = problem(Invalid.field("query.cursor", "x", "must be the nextCursor"), "id-1")
    assert body["errors"] == [{"field": "query.cursor", "value": "x", "message": "must be the nextCursor"}]
    assert body["detail"] == "query.cursor: must be the nextCursor, not 'x'"


@pytest.mark.parametrize(
    ("location", "text"),
    [
        pytest.param(("body",), "body", id="whole"),
        pytest.param(("body", "rows", 3, "metrics", "loss"), "body.rows[3].metrics.loss", id="nested"),
        pytest.param(("query", "names", 1), "query.names[1]", id="list"),
    ],
)
def test_paths_are_written_as_people_do(location: tuple[str | int, ...], text: str) -> None:
    assert path(location) == text


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        pytest.param("high", "high", id="text"),
        pytest.param({"a": 1}, "{'a': 1}", id="object"),
        pytest.param("x" * 300, "x" * 200 + "…", id="long-values-are-cut"),
    ],
)
def test_the_wrong_value_is_repeated(given: object, shown: str) -> None:
    error = {"loc": ("body", "x"), "msg": "Value error, must be y", "type": "value_error", "input": given}
    assert from_validation([error]) == [FieldError("body.x", shown, "must be y")]


def test_what_is_missing_has_no_value() -> None:
    error = {"loc": ("body", "spec"), "msg": "Field required", "type": "missing", "input": {"a": 1}}
    assert from_validation([error]) == [FieldError("body.spec", None, "Field required")]


def test_a_summary_ends_after_three() -> None:
    fields = [FieldError(f"f{number}", None, "wrong") for number in range(5)]
    assert summary(fields) == "f0: wrong; f1: wrong; f2: wrong; and 2 more"
