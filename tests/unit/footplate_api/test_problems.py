"""Errors as problem+json."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from footplate_api.errors import (
    ApiError,
    ClusterRefused,
    FieldError,
    HttpError,
    Invalid,
    RunMismatch,
    RunNotFound,
)
from footplate_api.http.problems import from_validation, invalid, path, problem, problem_type, summary
from footplate_contracts.problems import ProblemBody, ProblemType


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


@pytest.mark.parametrize(
    ("error", "acted_upon"),
    [
        pytest.param(Invalid("no"), ProblemType.INVALID, id="invalid"),
        pytest.param(RunMismatch("no"), ProblemType.RUN_MISMATCH, id="mismatch"),
        pytest.param(HttpError("no", status=413), ProblemType.HTTP_ERROR, id="too-large"),
    ],
)
def test_the_types_by_which_coordinators_act(error: ApiError, acted_upon: ProblemType) -> None:
    read = ProblemBody.model_validate(problem(error, "id-1"))
    assert read.type == acted_upon
    assert {it.value for it in ProblemType} == {
        problem_type(cls) for cls in (Invalid, RunMismatch, HttpError)
    }


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
        pytest.param({"a": [1, None]}, '{"a": [1, null]}', id="object"),
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
    assert summary(fields, total=1_003) == "f0: wrong; f1: wrong; f2: wrong; and 1,000 more"
    assert summary(fields[:3]) == "f0: wrong; f1: wrong; f2: wrong"


class Counting(Sequence[dict[str, Any]]):
    """40,000 errors of pydantic, of which each is made when it is looked at."""

    made = 0

    def __len__(self) -> int:
        return 40_000

    def __getitem__(self, index: Any) -> Any:
        self.made += 1
        return {"loc": ("body", "rows", index), "msg": "wrong", "type": "int_type", "input": "x"}


def test_of_many_wrong_fields_a_hundred_are_named_and_all_are_counted() -> None:
    errors = Counting()
    body = problem(invalid(errors), "id-1")
    assert (len(body["errors"]), errors.made) == (100, 100)
    assert body["detail"].endswith("body.rows[2]: wrong; and 39,997 more")


def test_what_kubernetes_says_is_passed_on_as_far_as_a_person_reads_it() -> None:
    causes = [FieldError("spec." + "x" * 1_000, "y" * 1_000, "z" * 10_000)] * 1_000
    body = problem(ClusterRefused("no" * 100_000, causes, status=422), "id-1")
    assert len(body["errors"]) == 100 and len(json.dumps(body)) < 300_000
    assert body["detail"].startswith("nono") and len(body["detail"]) == 8_001


def test_an_answer_to_a_large_value_is_small() -> None:
    value = {"x" * 1_000_000: [{"y": "z"}] * 1_000_000}
    error = {"loc": ("body", "k" * 1_000_000), "msg": "wrong", "type": "extra_forbidden", "input": value}
    assert len(json.dumps(problem(invalid([error]), "id-1"))) < 2_000
    assert len(Invalid.field("body.metadata.namespace", value, "must be absent").detail) < 300
